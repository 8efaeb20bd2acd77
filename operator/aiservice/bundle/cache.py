"""Verified models by digest: `<folder>/sha256-<hex>/`. An entry appears by rename, whole and on disk, or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from aiservice.bundle.read import Opened, Refused, load

_POLL = 0.1
_log = logging.getLogger(__name__)


class Cache:
    """One folder that any number of processes share. Beside the entries: `.locks/`, `.part-<key>/` while one is fetched, `.sources/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks = folder / ".locks"
        self._sources = folder / ".sources"
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            self._sources.mkdir(exist_ok=True)
        except OSError as e:
            raise Refused("SourceUnavailable", f"{folder}: the cache cannot be written: {e.strerror or e}") from None

    def entry(self, digest: str) -> Path:
        """`sha256:<hex>` -> where it stands, or would."""
        return self.folder / digest.replace(":", "-")

    def find(self, digest: str) -> tuple[Opened | None, str]:
        """The entry, read in full and verified; or None and what is wrong with it (empty: there is none)."""
        path = self.entry(digest)
        if not path.exists():
            return None, ""
        try:
            return load(path, digest), ""
        except Refused as e:
            _log.warning("cached model %s is damaged and will be fetched again: %s", path, e.message)
            return None, e.message

    @asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[Path]:
        """Alone with `key` among all processes, inside an empty folder to fetch into, which is gone afterwards unless it was installed.

        The lock is the kernel's: a killed process holds none, and what it left is removed here.
        """
        while True:
            fd = self._try_lock(key)
            if fd is not None:
                break
            await asyncio.sleep(_POLL)
        part = self.folder / f".part-{key}"
        try:
            await asyncio.to_thread(shutil.rmtree, part, True)
            part.mkdir()
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            os.close(fd)

    def install(self, part: Path, opened: Opened) -> Opened:
        """Make the verified folder `part` the entry of its digest. A damaged one in its place is removed, a sound one is kept."""
        for path in part.iterdir():
            _fsync(path)
        _fsync(part)
        target = self.entry(opened.digest)
        if target.exists():
            sound, _ = self.find(opened.digest)
            if sound:
                return sound
            self._discard(target)
        try:
            part.rename(target)
        except OSError:
            sound, _ = self.find(opened.digest)
            if sound:
                return sound
            raise
        _fsync(self.folder)
        return replace(opened, model=target / opened.model.name)

    def remembered(self, uri: str, etag: str) -> str | None:
        """Digest of the .onnx file that `uri` held when its entity tag was `etag`."""
        with suppress(OSError, ValueError, KeyError):
            known = json.loads(self._source(uri).read_text())
            return str(known["digest"]) if known["etag"] == etag else None
        return None

    def remember(self, uri: str, etag: str, digest: str) -> None:
        """Let `remembered` know. The tag is a hint: the entry itself is always verified."""
        path = self._source(uri)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"uri": uri, "etag": etag, "digest": digest}))
        temporary.replace(path)

    def prune(self, keep: set[str]) -> list[str]:
        """Remove every entry whose digest is not in `keep`, and what killed processes left. -> removed digests. Skips what is being fetched."""
        removed = []
        for path in sorted(self.folder.glob("sha256-*")):
            digest = path.name.replace("-", ":", 1)
            if digest in keep:
                continue
            with self._idle(lock_key(digest)) as idle:
                if idle:
                    self._discard(path)
                    removed.append(digest)
        for path in self.folder.glob(".part-*"):
            with self._idle(path.name.removeprefix(".part-")) as idle:
                if idle:
                    shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".trash-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self._sources.iterdir():
            with suppress(OSError, ValueError, KeyError):
                if not self.entry(json.loads(path.read_text())["digest"]).exists():
                    path.unlink()
        return removed

    def _source(self, uri: str) -> Path:
        return self._sources / f"{lock_key(uri)}.json"

    def _discard(self, path: Path) -> None:
        """Gone at once for everyone, then deleted: a half-deleted entry is never visible."""
        trash = Path(tempfile.mkdtemp(prefix=".trash-", dir=self.folder))
        with suppress(FileNotFoundError):
            path.rename(trash / path.name)
        shutil.rmtree(trash, ignore_errors=True)

    def _try_lock(self, key: str) -> int | None:
        fd = os.open(self._locks / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextmanager
    def _idle(self, key: str) -> Iterator[bool]:
        fd = self._try_lock(key)
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)


def lock_key(name: str) -> str:
    """A digest or a URI -> a short plain file name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def prune(cache: Path, keep: set[str]) -> list[str]:
    """Remove the models whose digests (`sha256:...`) are not in `keep`. -> removed digests."""
    return Cache(cache).prune(keep)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
