"""Opening a model: what is sound opens, every kind of damage is refused with the file's name and what to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiservice.bundle.read import Refused, load

MakeBundle = Callable[..., str]


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: MakeBundle) -> Path:
    make_bundle(tmp_path / "b")
    return tmp_path / "b"


def refused(path: Path, reason: str, *told: str, digest: str | None = None) -> str:
    with pytest.raises(Refused) as e:
        load(path, digest)
    assert e.value.reason == reason, e.value.message
    for text in told:
        assert text in e.value.message
    assert e.value.refusal().reason == reason
    return e.value.message


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_sound_bundle_opens(tmp_path: Path, make_bundle: MakeBundle) -> None:
    digest = make_bundle(tmp_path / "b")
    opened = load(tmp_path / "b", digest)
    assert opened.manifest is not None
    assert (opened.manifest.name, opened.digest) == ("sample", digest)
    assert opened.model == tmp_path / "b" / "model.onnx"
    assert opened.size == sum(p.stat().st_size for p in (tmp_path / "b").iterdir())
    assert opened.golden()[0].outputs[0]["data"] == [0.5]
    assert opened.reference()[0].weight == 2.5


def test_a_bare_file_and_a_folder_with_one_file_open(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"model")
    digest = "sha256:" + hashlib.sha256(b"model").hexdigest()
    for path in (tmp_path / "a.onnx", tmp_path):
        opened = load(path, digest)
        assert (opened.manifest, opened.digest, opened.size) == (None, digest, 5)
        assert (opened.golden(), opened.reference()) == ([], [])
    (tmp_path / "b.onnx").write_bytes(b"other")
    refused(tmp_path, "MissingFile", "2 .onnx files (a.onnx, b.onnx)", "no bundle.json")


def test_nothing_to_open(tmp_path: Path) -> None:
    refused(tmp_path, "MissingFile", "neither bundle.json nor an .onnx file")
    refused(tmp_path / "none", "MissingFile", "no such file or folder")
    (tmp_path / "a.txt").write_text("x")
    refused(tmp_path / "a.txt", "MissingFile", "ends in .onnx")


def test_another_model_than_the_pinned_one(bundle: Path, tmp_path: Path) -> None:
    pin = "sha256:" + "0" * 64
    refused(bundle, "DigestMismatch", pin, load(bundle).digest, digest=pin)
    (tmp_path / "m.onnx").write_bytes(b"model")
    refused(tmp_path / "m.onnx", "DigestMismatch", pin, digest=pin)


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "reference.json"])
def test_a_flipped_bit(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    refused(bundle, "DamagedBundle", f"{name}: sha256 is {hashlib.sha256(data).hexdigest()}", "bundle.json says", "fetch it again")


@pytest.mark.parametrize("change", [-1, 1])
def test_a_truncated_or_longer_file(bundle: Path, change: int) -> None:
    data = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes((data + b"x")[: len(data) + change])
    refused(bundle, "DamagedBundle", f"model.onnx: has {len(data) + change:,} bytes, bundle.json says {len(data):,}")


def test_a_missing_file(bundle: Path) -> None:
    (bundle / "golden.json").unlink()
    refused(bundle, "MissingFile", "golden.json: listed in bundle.json but not in")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "bundle.json", "a\x00b", "x\n"])
def test_names_that_lead_elsewhere(bundle: Path, name: str) -> None:
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    edit(bundle, files=files | {name: files["model.onnx"]})
    refused(bundle, "DamagedBundle", "not the plain name of a file")


def test_links(bundle: Path, tmp_path: Path) -> None:
    """Kubernetes mounts volumes as links within the folder; a link out of it is refused."""
    (bundle / "..data").mkdir()
    (bundle / "model.onnx").rename(bundle / "..data" / "model.onnx")
    (bundle / "model.onnx").symlink_to("..data/model.onnx")
    load(bundle)
    (bundle / "..data" / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    refused(bundle, "DamagedBundle", "model.onnx: is a link to", "outside of the bundle")
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to("model.onnx")
    refused(bundle, "MissingFile", "model.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": "x"}', "\ufeff{}", "{" * 100_000])
def test_a_manifest_that_is_none(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text)
    refused(bundle, "DamagedBundle", "bundle.json: ", "write the bundle anew")


def test_a_manifest_with_a_fault(bundle: Path) -> None:
    sound = (bundle / "bundle.json").read_text()
    decision = json.loads(sound)["decision"]
    for fields, told in (
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"opset": "18"}, "opset: Input should be a valid integer"),
        ({"version": 2}, "version: "),
        ({"files": {}}, "files does not list model.onnx"),
        ({"decision": decision | {"output": "q"}}, "output 'q' is not one of the model's outputs (p)"),
        ({"decision": decision | {"kind": "Tolerance"}}, "kind Tolerance needs tolerance"),
    ):
        (bundle / "bundle.json").write_text(sound)
        edit(bundle, **fields)
        refused(bundle, "DamagedBundle", told)
    del decision["threshold"], decision["negative"]
    edit(bundle, decision=decision)
    refused(bundle, "DamagedBundle", "kind Threshold needs threshold and negative")


def test_rows_that_are_none(tmp_path: Path, make_bundle: MakeBundle) -> None:
    make_bundle(tmp_path / "b")
    files = json.loads((tmp_path / "b" / "bundle.json").read_text())["files"]
    (tmp_path / "b" / "golden.json").write_text("[{}]")
    files["golden.json"] = {"sha256": hashlib.sha256(b"[{}]").hexdigest(), "size": 4}
    edit(tmp_path / "b", files=files)
    with pytest.raises(Refused, match=r"golden.json: 0.inputs: Field required"):
        load(tmp_path / "b").golden()


def test_a_file_that_changes_after_it_was_opened(bundle: Path) -> None:
    opened = load(bundle)
    (bundle / "reference.json").write_text("[]")
    with pytest.raises(Refused, match=r"reference.json: sha256 is"):
        opened.reference()


def test_a_long_message_fits_the_termination_log() -> None:
    assert len(Refused("DamagedBundle", "x" * 5000).refusal().message) == 2048


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_of_any_byte_is_refused(bundle: Path, data: st.DataObject) -> None:
    digest = load(bundle).digest
    name = data.draw(st.sampled_from(sorted(p.name for p in bundle.iterdir())))
    before = (bundle / name).read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    after = before[:at] + bytes([before[at] ^ data.draw(st.integers(1, 255))]) + before[at + 1 :]
    (bundle / name).write_bytes(after)
    try:
        with pytest.raises(Refused):
            load(bundle, digest)
    finally:
        (bundle / name).write_bytes(before)
