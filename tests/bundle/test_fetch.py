"""Fetching from files and over https: whole or not at all, once for all processes, nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiservice.bundle import fetch as fetching
from aiservice.bundle.cache import prune
from aiservice.bundle.fetch import fetch
from aiservice.bundle.read import Refused, load

MakeBundle = Callable[..., str]
Usage = namedtuple("Usage", "total used free")
MODEL = os.urandom(3 * 2**20)


def visible(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.glob("*") if p.name.startswith("sha256-"))


def left_over(cache: Path) -> list[str]:
    return [p.name for p in cache.iterdir() if p.name.startswith((".part-", ".trash-"))]


async def refused(uri: str, cache: Path, reason: str, *told: str, digest: str | None = None) -> None:
    with pytest.raises(Refused) as e:
        await fetch(uri, cache, digest)
    assert e.value.reason == reason, e.value.message
    for text in told:
        assert text in e.value.message, e.value.message
    assert not left_over(cache)


async def test_a_folder_is_copied_so_that_its_source_may_change(tmp_path: Path, make_bundle: MakeBundle) -> None:
    digest = make_bundle(tmp_path / "my models" / "b", MODEL)
    (tmp_path / "my models" / "b" / "notes.txt").write_text("not listed, not copied")
    told: list[tuple[int, int]] = []
    for uri in (f"file://{tmp_path}/my models/b", f"file://{tmp_path}/my%20models/b/", f"file://localhost{tmp_path}/my models/b"):
        opened = await fetch(uri, tmp_path / "cache", progress=lambda done, total: told.append((done, total)))
        assert opened.digest == digest
        assert opened.folder == tmp_path / "cache" / digest.replace(":", "-")
    assert sorted(p.name for p in opened.folder.iterdir()) == ["bundle.json", "golden.json", "model.onnx", "reference.json"]
    assert told[-1][0] == told[-1][1] == opened.size - (opened.folder / "bundle.json").stat().st_size
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    shutil.rmtree(tmp_path / "my models")
    assert (await fetch(f"file://{tmp_path}/gone", tmp_path / "cache", digest)).digest == digest
    assert not left_over(tmp_path / "cache")


async def test_one_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    opened = await fetch(f"file://{tmp_path}/m.onnx", tmp_path / "cache")
    assert (opened.manifest, opened.size) == (None, len(MODEL))
    assert opened.digest == "sha256:" + hashlib.sha256(MODEL).hexdigest()
    await refused(f"file://{tmp_path}/m.onnx", tmp_path / "cache", "DigestMismatch", "the pin says", digest="sha256:" + "0" * 64)
    (tmp_path / "m.onnx").write_bytes(b"another")
    assert (await fetch(f"file://{tmp_path}/m.onnx", tmp_path / "cache")).model.read_bytes() == b"another"
    assert len(visible(tmp_path / "cache")) == 2


async def test_what_is_not_there_or_not_sound(tmp_path: Path, make_bundle: MakeBundle) -> None:
    cache = tmp_path / "cache"
    await refused(f"file://{tmp_path}/none", cache, "SourceUnavailable", f"file://{tmp_path}/none/bundle.json", "must name a folder")
    await refused(f"file://{tmp_path}/none.onnx", cache, "SourceUnavailable", "no such file")
    await refused("file://relative/path", cache, "SourceUnavailable", "must be absolute")
    await refused("ftp://host/path", cache, "SourceUnavailable", "expected file:///absolute/path, s3://")
    await refused("https://host/m.onnx/?version=1", cache, "SourceUnavailable", "a query or fragment is not supported")
    digest = make_bundle(tmp_path / "b", MODEL)
    uri = f"file://{tmp_path}/b"
    await refused(uri, cache, "DigestMismatch", digest, digest="sha256:" + "0" * 64)
    (tmp_path / "b" / "golden.json").rename(tmp_path / "golden.json")
    await refused(uri, cache, "MissingFile", f"{uri}/golden.json", "bundle.json lists it")
    (tmp_path / "golden.json").rename(tmp_path / "b" / "golden.json")
    for damaged in (MODEL[:-1], MODEL + b"x", MODEL[:-1] + bytes([MODEL[-1] ^ 1])):
        (tmp_path / "b" / "model.onnx").write_bytes(damaged)
        await refused(uri, cache, "DamagedBundle", "model.onnx: ", f"the source {uri} is damaged; publish it again")
    assert not visible(cache)


async def test_a_damaged_cache_entry_is_fetched_again(tmp_path: Path, make_bundle: MakeBundle) -> None:
    cache = tmp_path / "cache"
    digest = make_bundle(tmp_path / "b", MODEL)
    for pin in (None, digest):
        entry = (await fetch(f"file://{tmp_path}/b", cache, pin)).model
        entry.write_bytes(MODEL[:-1] + b"!")
        opened = await fetch(f"file://{tmp_path}/b", cache, pin)
        assert (opened.model, opened.model.read_bytes()) == (entry, MODEL)
    entry.write_bytes(b"!")
    shutil.rmtree(tmp_path / "b")
    await refused(f"file://{tmp_path}/b", cache, "SourceUnavailable", "the copy in the cache is damaged: model.onnx", digest=digest)


async def test_too_little_room(tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "b", MODEL)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**7, 10**7 - 1000, 1000))
    await refused(f"file://{tmp_path}/b", tmp_path / "cache", "NoSpace", "needs 3,14", "has 1,000 free", "too few")
    shutil.copy(tmp_path / "b" / "model.onnx", tmp_path / "m.onnx")
    await refused(f"file://{tmp_path}/m.onnx", tmp_path / "cache", "NoSpace", "needs 3,145,728 bytes")


_FULL = """
import asyncio, collections, pathlib, sys
from aiservice.bundle import fetch as fetching
from aiservice.bundle.read import Refused
fetching.shutil.disk_usage = lambda path: collections.namedtuple("Usage", "free")(10**12)
try:
    asyncio.run(fetching.fetch(sys.argv[1], pathlib.Path(sys.argv[2])))
except Refused as e:
    print(e.reason, e.message)
print(sorted(p.name for p in pathlib.Path(sys.argv[2]).iterdir()))
"""


def test_a_disk_that_runs_full(tmp_path: Path, make_bundle: MakeBundle) -> None:
    """A real tmpfs of 1 MiB in a mount namespace of its own; where that is not allowed, the write fails with ENOSPC by hand."""
    make_bundle(tmp_path / "b", MODEL)
    (tmp_path / "cache").mkdir()
    mounted = f'mount -t tmpfs -o size=1m none {tmp_path}/cache && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"]
    script = _FULL
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        command = []
        broken = "def _broken(*a, **k): raise OSError(28, 'No space left on device')\nfetching._Job._write = _broken\n"
        script = _FULL.replace("try:", broken + "try:", 1)
    done = _python(script, f"file://{tmp_path}/b", str(tmp_path / "cache"), before=command)
    assert done.stdout.startswith("NoSpace "), done.stdout + done.stderr
    assert "the disk ran full" in done.stdout
    assert done.stdout.splitlines()[-1] == "['.locks', '.sources']"


async def test_a_cache_that_cannot_be_written(tmp_path: Path, make_bundle: MakeBundle) -> None:
    make_bundle(tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="the cache cannot be written"):
        await fetch(f"file://{tmp_path}/b", tmp_path / "file" / "cache")


async def test_https(site: Any, tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    digest = make_bundle(site.root / "v1", MODEL)
    await refused(site.url + "/v1", cache, "SourceUnavailable", "certificate is not trusted", "SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    assert (await fetch(site.url + "/v1", cache)).digest == digest
    assert site.gets == {f"/v1/{n}": 1 for n in ("bundle.json", "golden.json", "model.onnx", "reference.json")}
    await fetch(site.url + "/v1", cache)
    assert (site.gets["/v1/bundle.json"], site.gets["/v1/model.onnx"]) == (2, 1)
    site.gets.clear()
    await fetch(site.url + "/v1", cache, digest)
    assert not site.gets
    await refused(site.url + "/v2", cache, "SourceUnavailable", site.url + "/v2/bundle.json")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    await refused(site.url + "/v2", cache, "SourceUnavailable", "SSL_CERT_FILE=", "cannot be read")


async def test_a_remembered_onnx_file_is_not_downloaded_twice(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    (site.root / "m.onnx").write_bytes(MODEL)
    first = await fetch(site.url + "/m.onnx", tmp_path / "cache")
    before = first.model.stat().st_mtime_ns
    assert (await fetch(site.url + "/m.onnx", tmp_path / "cache")).model.stat().st_mtime_ns == before
    (site.root / "m.onnx").write_bytes(b"new")
    assert (await fetch(site.url + "/m.onnx", tmp_path / "cache")).model.read_bytes() == b"new"


async def test_faults_of_the_network(site: Any, tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    make_bundle(site.root / "v1", MODEL)
    site.cut["/v1/model.onnx"] = 3
    told: list[int] = []
    opened = await fetch(site.url + "/v1", tmp_path / "cache", progress=lambda done, total: told.append(done))
    assert opened.model.read_bytes() == MODEL
    assert site.gets["/v1/model.onnx"] == 4
    assert max(told) == told[-1]
    site.cut["/v1/model.onnx"] = 4
    await refused(site.url + "/v1", tmp_path / "other", "SourceUnavailable", "gave up after 4 tries")
    assert not visible(tmp_path / "other")
    site.status["/v1/bundle.json"] = 503
    await refused(site.url + "/v1", tmp_path / "other", "SourceUnavailable", "503")
    site.status["/v1/bundle.json"] = 403
    site.gets.clear()
    await refused(site.url + "/v1", tmp_path / "other", "SourceUnavailable", "access denied")
    assert site.gets["/v1/bundle.json"] == 1
    await refused("https://127.0.0.1:1/v1", tmp_path / "other", "SourceUnavailable", "gave up after 4 tries", "Connection refused")


async def test_a_manifest_without_end(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    monkeypatch.setattr(fetching, "_MANIFEST_MAX", 1000)
    (site.root / "bundle.json").write_bytes(b" " * 5000)
    await refused(site.url, tmp_path / "cache", "DamagedBundle", "larger than 1,000 bytes")


_FETCH = "import asyncio, pathlib, sys; from aiservice.bundle.fetch import fetch; print(asyncio.run(fetch(sys.argv[1], pathlib.Path(sys.argv[2]))).digest)"


@pytest.mark.parametrize("name", ["v1", "m.onnx"])
async def test_processes_that_fetch_at_once_download_once(
    site: Any, tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    make_bundle(site.root / "v1", MODEL)
    (site.root / "m.onnx").write_bytes(MODEL)
    site.delay |= {"/v1/model.onnx": 0.4, "/m.onnx": 0.4}
    running = [_start(_FETCH, f"{site.url}/{name}", str(tmp_path / "cache")) for _ in range(2)]
    told = [await asyncio.to_thread(p.communicate) for p in running]
    assert [p.returncode for p in running] == [0, 0], told
    assert len({out for out, _ in told}) == len(visible(tmp_path / "cache")) == 1
    if name == "v1":
        assert site.gets["/v1/model.onnx"] == 1


async def test_kill_in_the_middle(site: Any, tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    digest = make_bundle(site.root / "v1", MODEL)
    cache = tmp_path / "cache"
    site.delay["/v1/model.onnx"] = 60
    process = _start(_FETCH, f"{site.url}/v1", str(cache))
    while not any(p.stat().st_size for p in cache.glob(".part-*/model.onnx")):
        assert process.poll() is None
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    assert not visible(cache)
    assert left_over(cache)
    site.delay.clear()
    assert (await fetch(f"{site.url}/v1", cache)).digest == digest
    assert not left_over(cache)


async def test_a_cancelled_fetch_leaves_nothing(
    site: Any, tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    make_bundle(site.root / "v1", MODEL)
    site.delay["/v1/model.onnx"] = 60
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fetch(f"{site.url}/v1", tmp_path / "cache"), 0.5)
    assert not visible(tmp_path / "cache")
    assert not left_over(tmp_path / "cache")
    site.delay.clear()
    await fetch(f"{site.url}/v1", tmp_path / "cache")


async def test_prune(tmp_path: Path, make_bundle: MakeBundle) -> None:
    cache = tmp_path / "cache"
    kept, gone = make_bundle(tmp_path / "a", b"a"), make_bundle(tmp_path / "b", b"b")
    for name in "ab":
        await fetch(f"file://{tmp_path}/{name}", cache)
    (cache / ".part-0123").mkdir()
    (cache / ".trash-0").mkdir()
    assert prune(cache, {kept}) == [gone]
    assert visible(cache) == [kept.replace(":", "-")]
    assert not left_over(cache)
    assert load(cache / visible(cache)[0], kept).digest == kept
    assert prune(cache, {kept}) == []


def _python(script: str, *arguments: str, before: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=_env(), timeout=30)


def _start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_env()
    )


def _env() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "operator")}
