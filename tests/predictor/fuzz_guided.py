"""The targets of fuzz.py under atheris, which keeps what reaches new code: `make fuzz`, or `python tests/predictor/fuzz_guided.py INPUTS [SEED]`.

Begins with tests/predictor/corpus and what earlier runs found in build/fuzz; an input that fails is left in build/fuzz/TARGET-crash-*.
atheris has wheels for Linux on x86_64 alone, so it is none of the project's dependencies but fetched into the user's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ATHERIS = "3.0.0"
CACHE = Path.home() / ".cache" / "aiservice-tools"
CORPUS = Path(__file__).with_name("corpus")
OUT = Path(__file__).parents[2] / "build" / "fuzz"
TARGETS = sorted(path.name for path in CORPUS.iterdir())
INSTRUMENTED = ["aiservice_predictor.codec", "aiservice_predictor.transport", "hpack"]
MOST = 4096
"""Bytes of an input."""


def guided(target: str, inputs: int, seed: int) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from predictor import fuzz

    found = OUT / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-runs={inputs}", f"-max_len={MOST}", f"-seed={seed}", f"-artifact_prefix={OUT}/{target}-", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, f"{found}", f"{CORPUS / target}"], fuzz.TARGETS[target])
    atheris.Fuzz()


def everything(inputs: int, seed: int) -> int:
    """Each target in a process of its own, as many at a time as there are cores; 1 where one fails."""
    share = inputs // len(TARGETS)
    path = os.pathsep.join([*sys.path[1:], f"{_fetched()}"])

    def one(target: str) -> int:
        start = time.monotonic()
        command = [sys.executable, __file__, target, f"{share}", f"{seed}"]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
        kept = len(list((OUT / target).glob("*")))
        print(
            f"{target}: {share:,} inputs in {time.monotonic() - start:.0f} s, {kept} kept: {'failed' if done.returncode else 'clean'}",
            flush=True,
        )
        if done.returncode:
            print((done.stdout + done.stderr)[-4000:], flush=True)
        return done.returncode

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return int(any(list(pool.map(one, TARGETS))))


def _fetched() -> Path:
    """Where atheris lies."""
    home = CACHE / f"atheris-{ATHERIS}-python{sys.version_info.major}.{sys.version_info.minor}"
    (packages,) = (home / "lib").glob("python*/site-packages") if home.is_dir() else (home,)
    if not (packages / "atheris").is_dir():
        venv.create(home, with_pip=True, clear=True)
        command = [f"{home}/bin/pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:", f"atheris=={ATHERIS}"]
        if subprocess.run(command, check=False).returncode:
            sys.exit(
                "atheris cannot be installed: it has wheels for Linux on x86_64; elsewhere run `PYTHONPATH=tests python tests/predictor/fuzz.py INPUTS`"
            )
        (packages,) = (home / "lib").glob("python*/site-packages")
    return packages


def main() -> int:
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    inputs, seed = numbers[0], numbers[1] if len(numbers) > 1 else 1
    if sys.argv[1] in TARGETS:
        guided(sys.argv[1], inputs, seed)
    return everything(inputs, seed)


if __name__ == "__main__":
    sys.exit(main())
