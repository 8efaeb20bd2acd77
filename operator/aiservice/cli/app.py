"""aiservice: what a person types."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.live import Live

from aiservice import __version__
from aiservice.api.crd import crd
from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus, Role
from aiservice.cli import remote
from aiservice.cli.bundles import bundles
from aiservice.cli.exits import BAD_INPUT, NOT_FOUND, NOT_READY, fail
from aiservice.cli.table import line_of, overview, watched
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.core.render.runtime import serving_runtime
from aiservice.core.world import Manifest
from aiservice.local import manifest
from aiservice.local.store import Store
from aiservice.local.up import CannotStart, Up

app = typer.Typer(
    help="Serve models, and never ship a worse one. Start with: [bold]aiservice up -f service.yaml[/bold]",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bundles, name="bundle")
PLAIN_WIDTH = 200
"""Columns where there is no terminal to ask."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


Manifests = Annotated[
    list[Path], typer.Option("--file", "-f", help="A manifest (YAML or JSON). May be given several times.", show_default=False)
]
Name = Annotated[str, typer.Argument(help="The AIService's name.", show_default=False)]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        out.print(__version__)
        raise typer.Exit


@app.command()
def up(
    file: Manifests,
    port: Annotated[int, typer.Option(help="Port of the gateway, for REST and gRPC.", min=1, max=65535)] = 8080,
    listen: Annotated[str, typer.Option(help="Address that the gateway listens on; 0.0.0.0 lets others in.")] = "127.0.0.1",
) -> None:
    """Serve what the manifests say, here, until Ctrl-C. Saving a manifest is applying it."""
    run = Up(file, listen, port, lambda n, d: err.print(line_of(n, d)), lambda n, text: err.print(f"[bold]{n}[/bold]  {text}"))
    try:
        asyncio.run(run.run())
    except manifest.Invalid as invalid:
        fail(BAD_INPUT, *[f"{invalid.path}: {p}" for p in invalid.problems])
    except CannotStart as reason:
        fail(NOT_READY, str(reason))


@app.command()
def validate(file: Manifests) -> None:
    """Say whether manifests are right, and where not. Exit status 2 if one is not."""
    wrong = []
    for path in file:
        try:
            service = manifest.read(path)
            out.print(f"{path}: {service.metadata.name} is valid; it would be revision {names.revision(names.template(service.spec))}")
        except manifest.Invalid as invalid:
            wrong += [f"{path}: {p}" for p in invalid.problems]
    if wrong:
        fail(BAD_INPUT, *wrong)


@app.command()
def render(file: Manifests, output: Output = Format.YAML) -> None:
    """Print the objects that a new service is made of: what the operator applies and what `up` runs."""
    objects: list[Manifest] = []
    for path in file:
        try:
            service = manifest.read(path)
        except manifest.Invalid as invalid:
            fail(BAD_INPUT, *[f"{path}: {p}" for p in invalid.problems])
        made_from = names.template(service.spec)
        revision = RevisionStatus(name=names.revision(made_from), role=Role.STABLE, template=made_from, weight=100)
        objects += everything(service, [revision])
    if output is Format.JSON:
        sys.stdout.write(json.dumps(objects, indent=2) + "\n")
    else:
        sys.stdout.write(yaml.safe_dump_all(objects, sort_keys=False))


@app.command(name="crd")
def print_crd() -> None:
    """Print the CustomResourceDefinition, for kubectl apply."""
    sys.stdout.write(yaml.safe_dump(crd(), sort_keys=False, width=140))


@app.command()
def runtime(image: Annotated[str, typer.Option(help="The predictor's image.")] = "aiservice-predictor:latest") -> None:
    """Print the ClusterServingRuntime that KServe runs our predictors with."""
    sys.stdout.write(yaml.safe_dump(serving_runtime(image), sort_keys=False))


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="The AIService's name. Default: all.", show_default=False)] = None,
    output: Output = Format.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and follow it.")] = False,
) -> None:
    """Revisions, weights, the evidence of each gate, and why. Exit status 1 if a service is not Ready, 3 if there is none."""
    if watch and output in (Format.TABLE, Format.WIDE):
        _watch(name, output is Format.WIDE)
        return
    services = _services(name)
    if output in (Format.JSON, Format.YAML):
        found = [s.status.wire() for s, _ in services] if name else [s.wire() for s, _ in services]
        body = found[0] if name else {"apiVersion": "v1", "kind": "List", "items": found}
        sys.stdout.write(json.dumps(body, indent=2) + "\n" if output is Format.JSON else yaml.safe_dump(body, sort_keys=False))
    elif name:
        out.print(watched(*services[0], wide=output is Format.WIDE))
    else:
        out.print(overview(services))
    if not all(_ready(s) for s, _ in services):
        raise typer.Exit(NOT_READY)


def _ready(service: AIService) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in service.status.conditions)


def _services(name: str | None) -> list[tuple[AIService, bool]]:
    """(service, whether an `up` looks after it). Leaves with NOT_FOUND where there is none."""
    stores = [Store.of(name)] if name else Store.every()
    try:
        found = [(s, store.running) for store in stores if (s := store.load()) is not None]
    except ValueError as error:
        fail(BAD_INPUT, str(error))
    if not found:
        others = ", ".join(s.name for s in Store.every())
        hint = f"; there are: {others}" if others else "; start one: aiservice up -f service.yaml"
        fail(NOT_FOUND, f"there is no service {name!r} here{hint}" if name else f"there is no service here{hint}")
    return found


def _watch(name: str | None, wide: bool) -> None:
    import time

    def picture() -> object:
        services = _services(name)
        return watched(*services[0], wide=wide) if name else overview(services)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if not out.is_terminal:
            last = ""
            while True:
                with out.capture() as capture:
                    out.print(picture())
                if capture.get() != last:
                    last = capture.get()
                    sys.stdout.write(last)
                    sys.stdout.flush()
                time.sleep(0.5)
        with Live(console=out, auto_refresh=False, screen=False) as live:
            while True:
                live.update(picture(), refresh=True)  # type: ignore[arg-type]
                time.sleep(0.5)
    except KeyboardInterrupt:
        return


@app.command()
def promote(name: Name) -> None:
    """Give the candidate all requests now, whatever the gates say."""
    out.print(remote.command(name, "promote"))


@app.command()
def abort(name: Name) -> None:
    """Take the requests from the candidate and remember it as rejected."""
    out.print(remote.command(name, "abort"))


@app.command()
def retry(name: Name) -> None:
    """Forget that the wanted revision was rejected and try it once more."""
    out.print(remote.command(name, "retry"))


@app.command()
def predict(
    name: Name,
    data: Annotated[
        str, typer.Option("--data", "-d", help="The V2 request: JSON, or @FILE, or @- for standard input.", show_default=False)
    ],
) -> None:
    """Send one inference request through the gateway and print the answer."""
    sys.stdout.write(remote.predict(name, remote.text(data)) + "\n")


@app.command()
def label(
    name: Name,
    labels: Annotated[list[str] | None, typer.Argument(help="ID=DECISION, any number of them.", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help='{"labels": {"ID": DECISION}} as JSON, @FILE or @-.', show_default=False)
    ] = None,
) -> None:
    """Say what the right decisions were, by request id; the quality gate counts them."""
    body = remote.text(data) if data else json.dumps({"labels": remote.pairs(labels or [])})
    out.print(remote.label(name, body))


@app.command()
def down(name: Name) -> None:
    """End what a killed `aiservice up` left running. State and evidence stay; `up` goes on from them."""
    out.print(asyncio.run(remote.down(name)))


def main() -> None:
    """Entry point. A closed pipe and Ctrl-C end it quietly."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
