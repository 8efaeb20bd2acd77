"""Processes that outlive the one who started them: started, found again, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


def birth(pid: int) -> str | None:
    """When the process began, in ticks since boot; with its pid it names a process for ever. None if there is none (or a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def cpu_seconds(pid: int, *, children: bool = False) -> float | None:
    """Processor time that it has used, or None if it is gone; `children`: and they, those included that ended."""
    try:
        spent = sum(map(int, _stat(pid)[11 : 15 if children else 13]))
    except (FileNotFoundError, ProcessLookupError):
        return None
    for child in _children(pid) if children else ():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent += sum(map(int, _stat(child)[11:13]))
    return spent / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int, *, children: bool = False) -> int | None:
    """Memory that it holds, or None if it is gone; `children`: and what each of them holds alone."""
    try:
        held = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return None
    for child in _children(pid) if children else ():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
            held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
    return held


def _children(pid: int) -> list[int]:
    """Of its main thread; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def marked(variable: str, folder: Path) -> Iterator[tuple[Process, dict[str, str]]]:
    """Every process whose environment names something in `folder` under `variable`, with its environment; not its children, which inherit it.

    What we start carries such a mark from its first moment, so that it is found whenever its starter was killed.
    """
    found = list(_marked(variable, folder))
    inherited = {child for process, _ in found for child in _children(process.pid)}
    return ((process, env) for process, env in found if process.pid not in inherited)


def _marked(variable: str, folder: Path) -> Iterator[tuple[Process, dict[str, str]]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            raw = (entry / "environ").read_bytes()
        except OSError:
            continue
        env = dict(item.partition("=")[::2] for item in raw.decode(errors="replace").split("\0") if item)
        born = birth(int(entry.name))
        if born and env.get(variable, "").startswith(f"{folder}/"):
            yield Process(int(entry.name), born), env


@dataclass(slots=True)
class Process:
    """A process of ours, whether this run started it or found it."""

    pid: int
    born: str
    child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """In a session of its own, so that Ctrl-C in our terminal does not reach it. Output goes to `log`, begun anew."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:  # appending, so that a log that is cut while it is written goes on at its new end
            out.truncate(0)
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=cwd, start_new_session=True
            )
        return cls(child.pid, birth(child.pid) or "", child)

    @property
    def alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return birth(self.pid) == self.born

    @property
    def status(self) -> int | None:
        """Exit status, where we are told (our own children); negative: the signal that ended it."""
        return self.child.poll() if self.child is not None else None

    async def ended(self) -> None:
        """Return when it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(descriptor, gone.set)
            if self.alive:
                await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        if self.child is not None:
            self.child.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    async def stop(self, patience: float) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL. Returns when it is gone."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self.ended()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL. Returns when it is gone."""
        self.signal(signal.SIGKILL)
        await self.ended()
