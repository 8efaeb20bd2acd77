"""aiservice bundle: look into a model before it is served."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aiservice.cli.exits import BAD_INPUT, fail

bundles = typer.Typer(help="Look into a model bundle, or one .onnx file.", no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)
Place = Annotated[Path, typer.Argument(help="A bundle's folder, or an .onnx file.", show_default=False)]


@bundles.command()
def inspect(path: Place) -> None:
    """Print signature, decision, metrics and lineage as JSON. The model is loaded to see what it says of itself."""
    found = subprocess.run([sys.executable, "-m", "aiservice_predictor", "inspect", str(path)], capture_output=True, text=True, check=False)
    if found.returncode:
        last = (found.stderr.strip().splitlines() or [f"exit status {found.returncode}"])[-1]
        try:
            said = json.loads(last)
            fail(BAD_INPUT, f"{said['reason']}: {said['message']}")
        except (ValueError, KeyError, TypeError):
            fail(BAD_INPUT, last)
    sys.stdout.write(found.stdout)


@bundles.command()
def verify(
    path: Place, digest: Annotated[str | None, typer.Option(help="sha256:... that it must have.", show_default=False)] = None
) -> None:
    """Check every file against bundle.json. Exit status 2 if anything differs."""
    from aiservice.bundle import read

    try:
        opened = read.load(path, digest)
    except read.Refused as refused:
        fail(BAD_INPUT, f"{refused.reason}: {refused.message}")
    files = len(opened.manifest.files) if opened.manifest else 1
    out.print(f"{path}: {files} files, {opened.size:,} bytes, as bundle.json says\n{opened.digest}" if opened.manifest else opened.digest)
