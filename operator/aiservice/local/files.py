"""Small files that are whole or absent, and locks that die with their holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRIES = 10
"""Whoever only asks whether a lock is held holds it for a moment; that is not to be taken for a holder."""


class Locked(Exception):
    """Somebody else holds the lock; `holder` is what they wrote into it."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by {holder or 'another process'}")
        self.holder = holder


def write_whole(path: Path, content: str, *, private: bool = False, durable: bool = True) -> None:
    """Replace the file at once: a reader finds the old content or the new; where `durable`, a reader after a power cut too.

    Raises OSError (for example no space left) with the old content intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_if_there(path: Path) -> str | None:
    """The text, or None where there is no such file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def cut(path: Path, most: int) -> None:
    """A log that has more than `most` bytes keeps its last tenth. Whoever writes it appends."""
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size <= most:
            return
        with path.open("rb+") as log:
            log.seek(size - most // 10)
            last = log.read().partition(b"\n")[2]
            log.truncate(0)
        with path.open("ab") as log:
            log.write(last)


@contextmanager
def locked(path: Path, holder: str) -> Iterator[None]:
    """Hold an exclusive lock; raises Locked at once if somebody else does. It is not inherited by child processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for attempt in range(TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                if attempt == TRIES - 1:
                    raise Locked(path, os.pread(descriptor, 200, 0).decode(errors="replace").strip()) from None
                time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds it now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
