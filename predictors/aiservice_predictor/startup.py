"""What starting leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from pathlib import Path

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ [1-9]\d*\s")
"""A file's code, never written to."""
_DONTNEED = 4


def calm_collector() -> None:
    """Full collections would walk all that was imported, and find nothing: no cycle is made by an answered request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 100)


def release_code() -> None:
    """Code of the libraries that only starting needed leaves our memory: 20 MiB, most of it onnxruntime's. What is called again comes back
    from the page cache, without reading the disk. Nothing happens where the kernel does not tell what is mapped."""
    with contextlib.suppress(OSError):
        for first, last in _clean(Path("/proc/self/smaps").read_text()):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)


def _clean(smaps: str) -> list[tuple[int, int]]:
    """Mappings of code of which no page is a copy of our own, as relocations and debuggers make them: such a page would be lost."""
    found: list[tuple[int, int]] = []
    candidate: tuple[int, int] | None = None
    for line in smaps.splitlines():
        match = _MAPPING.match(line)
        if match is not None:
            candidate = int(match[1], 16), int(match[2], 16)
        elif candidate is not None and line.startswith("Anonymous:"):
            if line.split()[1] == "0":
                found.append(candidate)
            candidate = None
    return found
