"""aiservice: what a person types. Each command imports what it needs: help, and a mistyped word, are answered at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from aiservice import __version__
from aiservice.cli.bundles import bundles
from aiservice.cli.exits import BAD_INPUT, NOT_READY, Format, err, fail, out, saying

app = typer.Typer(
    help="Serve models, and never ship a worse one. Start with: [bold]aiservice up -f service.yaml[/bold]",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bundles, name="bundle")


Manifests = Annotated[
    list[Path], typer.Option("--file", "-f", help="A manifest (YAML or JSON). May be given several times.", show_default=False)
]
Name = Annotated[str, typer.Argument(help="The AIService's name.", show_default=False)]
Data = Annotated[str, typer.Option("--data", "-d", help="The V2 request: JSON, or @FILE, or @- for standard input.", show_default=False)]
Labels = Annotated[list[str] | None, typer.Argument(help="ID=DECISION, any number of them.", show_default=False)]
LabelData = Annotated[
    str | None, typer.Option("--data", "-d", help='{"labels": {"ID": DECISION}} as JSON, @FILE or @-.', show_default=False)
]
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
    import asyncio

    from aiservice.cli.table import line_of
    from aiservice.local import manifest
    from aiservice.local.up import CannotStart, Up

    try:
        asyncio.run(Up(file, listen, port, lambda name, decision: err.print(line_of(name, decision)), saying).run())
    except manifest.Invalid as invalid:
        fail(BAD_INPUT, *[f"{invalid.path}: {p}" for p in invalid.problems])
    except CannotStart as reason:
        fail(NOT_READY, str(reason))


@app.command()
def validate(file: Manifests) -> None:
    """Say whether manifests are right, and where not. Exit status 2 if one is not."""
    from aiservice.core import names
    from aiservice.local import manifest

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
    from aiservice.cli.rendered import rendered

    sys.stdout.write(rendered(file, json=output is Format.JSON))


@app.command(name="crd")
def print_crd() -> None:
    """Print the CustomResourceDefinition, for kubectl apply."""
    import yaml

    from aiservice.api.crd import crd

    sys.stdout.write(yaml.safe_dump(crd(), sort_keys=False, width=140))


@app.command()
def runtime(image: Annotated[str, typer.Option(help="The predictor's image.")] = "aiservice-predictor:latest") -> None:
    """Print the ClusterServingRuntime that KServe runs our predictors with."""
    import yaml

    from aiservice.core.render.runtime import serving_runtime

    sys.stdout.write(yaml.safe_dump(serving_runtime(image), sort_keys=False))


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="The AIService's name. Default: all.", show_default=False)] = None,
    output: Output = Format.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and follow it.")] = False,
) -> None:
    """Revisions, weights, the evidence of each gate, and why. Exit status 1 if a service is not Ready, 3 if there is none."""
    from aiservice.cli import show
    from aiservice.cli.here import Here

    show.status(Here(), name, output, watch=watch)


@app.command()
def why(name: Name) -> None:
    """Why it is as it is: the reason in a sentence, each gate with its numbers, the whole journal."""
    from aiservice.cli import show
    from aiservice.cli.here import Here

    show.explain(Here(), name)


@app.command()
def promote(name: Name) -> None:
    """Give the candidate all requests now, whatever the gates say."""
    from aiservice.cli import remote

    out.print(remote.command(name, "promote"))


@app.command()
def abort(name: Name) -> None:
    """Take the requests from the candidate and remember it as rejected."""
    from aiservice.cli import remote

    out.print(remote.command(name, "abort"))


@app.command()
def retry(name: Name) -> None:
    """Forget that the wanted revision was rejected and try it once more."""
    from aiservice.cli import remote

    out.print(remote.command(name, "retry"))


@app.command()
def predict(
    name: Name,
    data: Data,
) -> None:
    """Send one inference request through the gateway and print the answer."""
    from aiservice.cli import remote, sending

    sys.stdout.write(remote.predict(name, sending.text(data)) + "\n")


@app.command()
def label(
    name: Name,
    labels: Labels = None,
    data: LabelData = None,
) -> None:
    """Say what the right decisions were, by request id; the quality gate counts them."""
    from aiservice.cli import remote, sending

    out.print(remote.label(name, sending.text(data) if data else sending.pairs(labels or [])))


@app.command()
def down(name: Name) -> None:
    """End what a killed `aiservice up` left running. State and evidence stay; `up` goes on from them."""
    import asyncio

    from aiservice.cli import remote

    out.print(asyncio.run(remote.down(name)))


def main(program: typer.Typer = app) -> None:
    """Entry point. A closed pipe and Ctrl-C end it quietly."""
    try:
        program()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
