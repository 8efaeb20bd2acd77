"""Open a model: a bundle folder, a folder with one .onnx file, or an .onnx file. Nothing leaves here unverified."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from aiservice.api.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE, Bundle, Decision, DecisionKind, GoldenRequest, ReferenceRow
from aiservice.api.runtime import Refusal

Reason = Literal[
    "DigestMismatch", "DamagedBundle", "MissingFile", "UnsupportedModel", "GoldenMismatch", "SourceUnavailable", "NoSpace"
]  # fmt: skip

_T = TypeVar("_T")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
_MESSAGE_MAX: Final = 2048
_REMEDY: Final = "the copy is damaged; fetch it again"
_GOLDEN: Final = TypeAdapter(list[GoldenRequest])
_REFERENCE: Final = TypeAdapter(list[ReferenceRow])


class Refused(Exception):
    """A model that must not be loaded: which rule it breaks, and a sentence with the file, what was expected and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message

    def refusal(self) -> Refusal:
        """As the predictor writes it to its termination log; a message too long for it is cut."""
        message = self.message if len(self.message) <= _MESSAGE_MAX else self.message[: _MESSAGE_MAX - 3] + "..."
        return Refusal(reason=self.reason, message=message)


@dataclass(frozen=True)
class Opened:
    """A model whose files were verified when it was opened."""

    manifest: Bundle | None
    """None for a bare .onnx file."""
    digest: str
    """`sha256:...` of bundle.json, or of the .onnx file."""
    model: Path
    size: int
    """Bytes of all verified files, bundle.json included."""

    @property
    def folder(self) -> Path:
        return self.model.parent

    def golden(self) -> list[GoldenRequest]:
        """The golden requests; none for a bare .onnx file. Raises Refused (DamagedBundle, MissingFile)."""
        data = self._content(GOLDEN)
        return [] if data is None else _parsed(_GOLDEN, data, GOLDEN)

    def reference(self) -> list[ReferenceRow]:
        """The labelled reference rows; none where the bundle has none. Raises Refused (DamagedBundle, MissingFile)."""
        data = self._content(REFERENCE)
        return [] if data is None else _parsed(_REFERENCE, data, REFERENCE)

    def _content(self, name: str) -> bytes | None:
        """Bytes of a listed file, verified once more: it may have changed since it was opened."""
        if self.manifest is None or name not in self.manifest.files:
            return None
        data = _bytes(self.folder / name)
        _must_match(name, hashlib.sha256(data).hexdigest(), self.manifest.files[name].sha256)
        return data


def load(path: Path, digest: str | None = None, remedy: str = _REMEDY) -> Opened:
    """Open and verify what stands at `path`.

    `digest` (`sha256:...`) pins bundle.json, or the .onnx file where there is no bundle.json. Reads every listed file once, in
    pieces. Files of the folder that bundle.json does not list are not looked at. `remedy` ends the message about a damaged file.
    Raises Refused.
    """
    if not path.exists():
        raise Refused("MissingFile", f"{path}: no such file or folder; expected a folder with {MANIFEST}, or an .onnx file")
    if path.is_file():
        if path.suffix != ".onnx":
            raise Refused("MissingFile", f"{path}: expected a folder with {MANIFEST}, or a file whose name ends in .onnx")
        return _load_onnx(path, digest)
    if (path / MANIFEST).exists():
        return _load_bundle(path, digest, remedy)
    models = sorted(p for p in path.glob("*.onnx") if p.is_file())
    if len(models) == 1:
        return _load_onnx(models[0], digest)
    if not models:
        raise Refused("MissingFile", f"{path}: holds neither {MANIFEST} nor an .onnx file")
    names = ", ".join(m.name for m in models[:5])
    raise Refused(
        "MissingFile", f"{path}: holds {len(models)} .onnx files ({names}) and no {MANIFEST}; name one of them, or write a bundle"
    )


def parse_manifest(data: bytes, digest: str | None = None, where: str = MANIFEST) -> tuple[Bundle, str]:
    """Content of bundle.json -> (its model, its digest `sha256:...`); pinned by `digest`. Raises Refused (DigestMismatch, DamagedBundle)."""
    got = "sha256:" + hashlib.sha256(data).hexdigest()
    check_pin(where, got, digest)
    try:
        manifest = Bundle.model_validate_json(data)
    except ValidationError as e:
        raise Refused("DamagedBundle", f"{where}: {_first(e)}; write the bundle anew") from None
    for name in manifest.files:
        if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
            raise Refused("DamagedBundle", f"{where}: files lists {name!r}, which is not the plain name of a file beside {MANIFEST}")
    for name in (MODEL, GOLDEN):
        if name not in manifest.files:
            raise Refused("DamagedBundle", f"{where}: files does not list {name}; write the bundle anew")
    fault = decision_fault(manifest.decision, {t.name for t in manifest.outputs})
    if fault:
        raise Refused("DamagedBundle", f"{where}: decision: {fault}")
    return manifest, got


def check_pin(where: str, got: str, digest: str | None) -> None:
    """Raise Refused (DigestMismatch) where `digest` is given and is not `got`; both `sha256:...`."""
    if digest is not None and got != digest:
        raise Refused(
            "DigestMismatch", f"{where}: digest is {got}, the pin says {digest}: this is another model; change the pin or the source"
        )


def decision_fault(decision: Decision, outputs: set[str]) -> str | None:
    """What makes a decision unusable, as a sentence; None where it is whole."""
    if decision.output not in outputs:
        return f"output {decision.output!r} is not one of the model's outputs ({', '.join(sorted(outputs))})"
    needed = {
        DecisionKind.CLASS: (),
        DecisionKind.THRESHOLD: ("threshold", "positive", "negative"),
        DecisionKind.TOLERANCE: ("tolerance",),
    }[decision.kind]
    missing = [name for name in needed if getattr(decision, name) is None]
    if missing:
        return f"kind {decision.kind.value} needs {' and '.join(missing)}"
    return None


def verify(folder: Path, manifest: Bundle, remedy: str = _REMEDY) -> int:
    """Check size and sha256 of every listed file, -> their bytes in all. Raises Refused (MissingFile, DamagedBundle, SourceUnavailable)."""
    root = folder.resolve()
    for name, file in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            raise Refused("MissingFile", f"{name}: listed in {MANIFEST} but not in {folder}: {remedy}")
        if not path.resolve().is_relative_to(root):
            raise Refused("DamagedBundle", f"{name}: is a link to {path.resolve()}, outside of the bundle {folder}; copy the file into it")
        size = path.stat().st_size
        if size != file.size:
            raise Refused("DamagedBundle", f"{name}: has {size:,} bytes, {MANIFEST} says {file.size:,}: {remedy}")
        _must_match(name, _sha256(path), file.sha256, remedy)
    return sum(f.size for f in manifest.files.values())


def _load_bundle(folder: Path, digest: str | None, remedy: str) -> Opened:
    data = _bytes(folder / MANIFEST)
    manifest, got = parse_manifest(data, digest, str(folder / MANIFEST))
    return Opened(manifest, got, folder / MODEL, verify(folder, manifest, remedy) + len(data))


def _load_onnx(path: Path, digest: str | None) -> Opened:
    got = "sha256:" + _sha256(path)
    check_pin(str(path), got, digest)
    return Opened(None, got, path, path.stat().st_size)


def _must_match(name: str, got: str, expected: str, remedy: str = _REMEDY) -> None:
    if got != expected:
        raise Refused("DamagedBundle", f"{name}: sha256 is {got}, {MANIFEST} says {expected}: {remedy}")


def _parsed(adapter: TypeAdapter[_T], data: bytes, name: str) -> _T:
    try:
        return adapter.validate_json(data)
    except ValidationError as e:
        raise Refused("DamagedBundle", f"{name}: {_first(e)}; write the bundle anew") from None


def _first(error: ValidationError) -> str:
    """The first fault as `files.model.onnx.size: Input should be ...`."""
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{where}: " if where else "") + fault["msg"] + more


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise _unreadable(path, e) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise _unreadable(path, e) from None


def _unreadable(path: Path, error: OSError) -> Refused:
    reason: Reason = "MissingFile" if isinstance(error, FileNotFoundError) else "SourceUnavailable"
    return Refused(reason, f"{path}: cannot be read: {error.strerror or error}")
