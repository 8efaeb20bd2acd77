"""Fetch a model into the cache: verified as a whole before anyone can see it, once for all processes, never when it is there already."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from aiservice.api.bundle import MANIFEST, MODEL, Bundle
from aiservice.bundle.cache import Cache, lock_key
from aiservice.bundle.read import Opened, Refused, load, parse_manifest
from aiservice.bundle.source import Absent, Body, Flaky, Source, open_source

Progress = Callable[[int, int], None]
"""Bytes fetched, bytes in all."""

BACKOFF = (0.5, 1.0, 2.0)
"""Seconds before each further try after a network fault."""

_MANIFEST_MAX = 16 * 2**20
_T = TypeVar("_T")


async def fetch(uri: str, cache: Path, digest: str | None = None, progress: Progress | None = None) -> Opened:
    """The verified model at `uri`, as a cache entry.

    `uri`: file:///absolute/path, s3://bucket/prefix or https://host/path (see `source.open_source`); it names a bundle folder, or one
    file if it ends in .onnx. With `digest` (`sha256:...`) only that model is accepted, and no network is touched once it is cached.
    Raises Refused: SourceUnavailable, NoSpace, DigestMismatch, DamagedBundle, MissingFile.
    """
    entries = Cache(cache)
    damage = ""
    if digest:
        cached, damage = await asyncio.to_thread(entries.find, digest)
        if cached:
            return cached
    onnx = uri.endswith(".onnx")
    folder, _, name = uri.rpartition("/") if onnx else (uri, "", MANIFEST)
    job = _Job(uri, open_source(folder), entries, digest, progress or (lambda done, total: None))
    try:
        return await (job.onnx(name) if onnx else job.bundle())
    except Refused as e:
        if damage and e.reason == "SourceUnavailable":
            raise Refused(e.reason, f"{e.message}; the copy in the cache is damaged: {damage}") from None
        raise
    except OSError as e:
        raise _unwritable(cache, e) from None


@dataclass
class _Job:
    uri: str
    source: Source
    cache: Cache
    pin: str | None
    progress: Progress
    done: int = field(default=0, init=False)
    total: int = field(default=0, init=False)

    async def bundle(self) -> Opened:
        data = await self._retried(lambda: self._manifest())
        manifest, digest = parse_manifest(data, self.pin, self.source.address(MANIFEST))
        cached, _ = await asyncio.to_thread(self.cache.find, digest)
        if cached:
            return cached
        async with self.cache.locked(lock_key(digest)) as part:
            cached, _ = await asyncio.to_thread(self.cache.find, digest)
            if cached:
                return cached
            return await self._fill(part, data, manifest, digest)

    async def _fill(self, part: Path, data: bytes, manifest: Bundle, digest: str) -> Opened:
        (part / MANIFEST).write_bytes(data)
        self.total = sum(f.size for f in manifest.files.values())
        self._room(self.total)
        for name, file in sorted(manifest.files.items()):
            try:
                await self._retried(lambda n=name, s=file.size: self._download(n, part / n, s))  # type: ignore[misc]
            except Absent:
                hint = "the bundle is not complete; publish it again"
                raise Refused("MissingFile", f"{self.source.address(name)}: {MANIFEST} lists it, but it is not there: {hint}") from None
        opened = await asyncio.to_thread(load, part, digest, f"the source {self.uri} is damaged; publish it again")
        return await asyncio.to_thread(self.cache.install, part, opened)

    async def onnx(self, name: str) -> Opened:
        """One file. Unpinned, its digest is known only once it is here, so processes wait for each other by URI."""
        async with self.cache.locked(lock_key(self.pin or self.uri)) as part:
            if self.pin:
                cached, _ = await asyncio.to_thread(self.cache.find, self.pin)
                if cached:
                    return cached
            try:
                return await self._retried(lambda: self._onnx(name, part))
            except Absent:
                raise Refused("SourceUnavailable", f"{self.uri}: no such file") from None

    async def _onnx(self, name: str, part: Path) -> Opened:
        body = await self.source.get(name)
        known = self.cache.remembered(self.uri, body.etag) if body.etag else None
        if known and not self.pin:
            cached, _ = await asyncio.to_thread(self.cache.find, known)
            if cached:
                return cached
        self.total = body.size
        self._room(body.size)
        await self._write(body, part / MODEL, body.size)
        opened = await asyncio.to_thread(load, part / MODEL)
        if self.pin and opened.digest != self.pin:
            raise Refused(
                "DigestMismatch",
                f"{self.uri}: digest is {opened.digest}, the pin says {self.pin}: this is another model; change the pin or the source",
            )
        installed = await asyncio.to_thread(self.cache.install, part, opened)
        if body.etag:
            self.cache.remember(self.uri, body.etag, opened.digest)
        return installed

    async def _manifest(self) -> bytes:
        try:
            body = await self.source.get(MANIFEST)
        except Absent:
            hint = f"the URI must name a folder with {MANIFEST}, or one file that ends in .onnx"
            raise Refused(
                "SourceUnavailable", f"{self.uri}: looked for {self.source.address(MANIFEST)}, which is not there; {hint}"
            ) from None
        data = bytearray()
        async for chunk in body.chunks:
            data += chunk
            if len(data) > _MANIFEST_MAX:
                raise Refused("DamagedBundle", f"{self.source.address(MANIFEST)}: is larger than {_MANIFEST_MAX:,} bytes")
        return bytes(data)

    async def _download(self, name: str, path: Path, size: int) -> None:
        await self._write(await self.source.get(name), path, size)

    async def _write(self, body: Body, path: Path, size: int) -> None:
        """Stream to `path`, at most one byte more than `size`. A failed try takes its progress back."""
        written = 0
        try:
            with path.open("wb") as file:
                async for chunk in body.chunks:
                    await asyncio.to_thread(file.write, chunk[: size + 1 - written])
                    written += len(chunk)
                    self.progress(self.done + min(written, size), self.total)
                    if written > size:
                        break
        finally:
            await _close(body)
        self.done += min(written, size)

    def _room(self, needed: int) -> None:
        free = shutil.disk_usage(self.cache.folder).free
        if needed > free:
            where = f"{self.cache.folder} has {free:,} free"
            raise Refused("NoSpace", f"{self.uri}: needs {needed:,} bytes, {where}, {needed - free:,} too few; make room or move the cache")

    async def _retried(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        for delay in (*BACKOFF, None):
            try:
                return await attempt()
            except Flaky as e:
                if delay is None:
                    raise Refused("SourceUnavailable", f"{self.uri}: gave up after {len(BACKOFF) + 1} tries: {e}") from None
                await asyncio.sleep(delay)
        raise AssertionError


async def _close(body: Body) -> None:
    close = getattr(body.chunks, "aclose", None)
    if close:
        await close()


def _unwritable(cache: Path, error: OSError) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(cache).free
        return Refused(
            "NoSpace", f"{cache}: the disk ran full while a model was written ({free:,} bytes free); make room or move the cache"
        )
    return Refused("SourceUnavailable", f"{cache}: the cache cannot be written: {error.strerror or error}")
