"""Running commands: quiet when they pass, their last lines when they fail, and each step's seconds."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class Failure(Exception):
    """Something the user can act on; printed as one sentence, without a traceback."""


_path: list[Path] = []


def prefer(folder: Path) -> None:
    """Put a folder first on PATH for every command that follows."""
    folder.mkdir(parents=True, exist_ok=True)
    _path[:] = [folder]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    env = {**os.environ, **(extra or {})}
    env["PATH"] = os.pathsep.join([*map(str, _path), env.get("PATH", os.defpath)])
    env["DOCKER_BUILDKIT"] = "1"
    env.pop("KUBECONFIG", None)
    return env


def which(name: str) -> str | None:
    return shutil.which(name, path=environment()["PATH"])


def run(
    *command: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run to the end and return stdout; a failure shows the command's own last words."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, input=stdin, text=True, capture_output=True, env=environment(env), cwd=cwd, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise Failure(f"{words[0]} is not installed, or not on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{_short(words)} did not end within {timeout:.0f} s") from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise Failure(f"{_short(words)} failed ({done.returncode}):\n{said}")
    return done.stdout


def succeeds(*command: str | Path, timeout: float = 30, env: Mapping[str, str] | None = None) -> bool:
    try:
        run(*command, timeout=timeout, env=env)
    except Failure:
        return False
    return True


def pipe(source: Sequence[str], sink: Sequence[str]) -> None:
    """source | sink, both must pass."""
    with subprocess.Popen(source, stdout=subprocess.PIPE, env=environment()) as first:
        done = subprocess.run(sink, stdin=first.stdout, capture_output=True, text=True, env=environment(), check=False)
        if first.stdout:
            first.stdout.close()
    if first.returncode or done.returncode:
        raise Failure(f"{_short(source)} | {_short(sink)} failed:\n{done.stdout[-500:]}{done.stderr[-1500:]}")


def _short(words: Sequence[str]) -> str:
    line = " ".join(words)
    return line if len(line) < 160 else line[:157] + "..."


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"  {name} ...")
    began = time.monotonic()
    yield
    say(f"  {name}: {time.monotonic() - began:.1f} s")


def until(what: str, ready: Callable[[], bool], seconds: float, hint: str, pause: float = 1.0) -> None:
    """Wait for something to become true, or say what to look at."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise Failure(f"{what} was not so after {seconds:.0f} s; {hint}")
        time.sleep(pause)


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """A scratch path that becomes `target` in one rename, only if all went well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    remove(scratch)
    try:
        yield scratch
        remove(target)
        scratch.rename(target)
    finally:
        remove(scratch)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
