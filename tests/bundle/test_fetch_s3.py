"""Fetching from a real S3 server, with the environment that users set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from aiservice.bundle.fetch import fetch
from aiservice.bundle.read import Refused

MakeBundle = Callable[..., str]


def publish(store: S3Store, folder: Path, prefix: str) -> None:
    for path in folder.iterdir():
        obstore.put(store, f"{prefix}{path.name}", path.read_bytes())


async def told(uri: str, cache: Path) -> str:
    with pytest.raises(Refused) as e:
        await fetch(uri, cache)
    assert e.value.reason == "SourceUnavailable"
    return e.value.message


async def test_a_bundle_and_a_file(s3: S3Store, tmp_path: Path, make_bundle: MakeBundle) -> None:
    digest = make_bundle(tmp_path / "b", b"model" * 500_000)
    publish(s3, tmp_path / "b", "fraud/v 1/")
    opened = await fetch("s3://models/fraud/v 1", tmp_path / "cache")
    assert opened.digest == digest
    assert opened.golden()
    publish(s3, tmp_path / "b", "")
    assert (await fetch("s3://models", tmp_path / "other")).digest == digest
    single = await fetch("s3://models/fraud/v 1/model.onnx", tmp_path / "cache")
    assert single.model.read_bytes() == opened.model.read_bytes()


async def test_pinned_and_cached_needs_no_network(
    s3: S3Store, tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make_bundle(tmp_path / "b")
    publish(s3, tmp_path / "b", "pinned/")
    await fetch("s3://models/pinned", tmp_path / "cache")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert (await fetch("s3://models/pinned", tmp_path / "cache", digest)).digest == digest
    message = await told("s3://models/pinned", tmp_path / "cache")
    assert "gave up after 4 tries" in message
    assert "Connection refused" in message


async def test_what_is_not_there(s3: S3Store, tmp_path: Path) -> None:
    assert "looked for s3://models/none/bundle.json" in await told("s3://models/none", tmp_path / "cache")
    assert "s3://other-bucket/v1/bundle.json" in await told("s3://other-bucket/v1", tmp_path / "cache")


async def test_credentials(s3: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    message = await told("s3://models/v1", tmp_path / "cache")
    assert "access denied" in message
    assert "AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is set, AWS_SESSION_TOKEN is not set" in message
    assert "wrong" not in message
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert "set AWS_ALLOW_HTTP=true" in await told("s3://models/v1", tmp_path / "cache")
