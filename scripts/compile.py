"""A compiled copy of the predictor: `python scripts/compile.py TARGET` (needs a C compiler, mypy and setuptools; docs/decisions/0016-compiled.md).

TARGET gets the package aiservice_predictor with extension modules beside the sources of the hot path. The checkout gets none: an extension
that is older than the source beside it would hide what was edited.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "aiservice_predictor"
HOT = (
    "batcher", "calls", "dataplane", "decision", "metrics", "pace", "recorder", "thinning", "thread", "waiting",
    "codec.grpc", "codec.grpc_raw", "codec.json_out", "codec.numbers", "codec.request", "codec.rest", "codec.rest_codec", "codec.rest_known",
    "codec.tensors", "codec.v1",
    "transport.body", "transport.chunked", "transport.exchange", "transport.grpc", "transport.head", "transport.host", "transport.http1",
    "transport.incoming", "transport.infer", "transport.routes",
    "transport.h2.connection", "transport.h2.frames", "transport.h2.heads", "transport.h2.hpack_in", "transport.h2.hpack_out",
    "transport.h2.outgoing", "transport.h2.stream", "transport.h2.wire",
)  # fmt: skip
"""Compiled together: each border between compiled and interpreted code costs a part of the gain."""
_BUILD = """
from setuptools import setup
from mypyc.build import mypycify
setup(name="compiled", packages=[], ext_modules=mypycify({arguments!r}, opt_level="3", debug_level="0", group_name="{package}"))
"""


def compiled(target: Path) -> list[Path]:
    """The extension modules, under `target`, which holds the package's sources as well. Exits with what is missing."""
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        sys.exit("compile: no C compiler: on Debian, apt-get install gcc libc6-dev; or name one in CC")
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        sys.exit("compile: mypy and setuptools are missing: pip install --require-hashes -r requirements/compile.txt")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        sys.exit("compile: Python.h is missing: on Debian, apt-get install python3-dev")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "predictors" / PACKAGE, target / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    sources = [f"{PACKAGE}/{name.replace('.', '/')}.py" for name in HOT]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mypy.ini"
        config.write_text("[mypy]\nignore_missing_imports = True\nexplicit_package_bases = True\nplugins = pydantic.mypy\n")
        arguments = [f"--config-file={config}", f"--cache-dir={folder}/mypy", *sources]
        script = Path(folder) / "setup.py"
        script.write_text(_BUILD.format(arguments=arguments, package=PACKAGE))
        done = subprocess.run(
            [sys.executable, str(script), "-q", "build_ext", "--inplace", f"--build-temp={folder}/objects"],
            cwd=target, env=os.environ | {"MYPYPATH": f"{ROOT / 'operator'}{os.pathsep}{target}", "CFLAGS": f"{os.environ.get('CFLAGS', '')} -g0"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"compile: failed\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    shutil.rmtree(target / "build", ignore_errors=True)
    return sorted(target.rglob("*.so"))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/compile.py TARGET")
    start = time.perf_counter()
    modules = compiled(Path(sys.argv[1]).resolve())
    size = sum(path.stat().st_size for path in modules)
    print(f"compile: {len(HOT)} modules, {size / 1e6:.1f} MB, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
