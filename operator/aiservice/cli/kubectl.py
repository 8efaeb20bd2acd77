"""kubectl aiservice: the same verbs over a cluster. kubectl finds `kubectl-aiservice` on PATH."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aiservice import __version__
from aiservice.cli import app as local
from aiservice.cli.exits import BAD_INPUT, Format, fail, out

if TYPE_CHECKING:
    from aiservice.cli.api_server import ApiServer

app = typer.Typer(
    help="AIServices of a cluster: what is so, why, and what a person decides. Start with: [bold]kubectl aiservice status[/bold]",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = local.Name
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace. Default: the context's.", show_default=False)]
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig. Default: the current one.", show_default=False)]
Kubeconfig = Annotated[str, typer.Option("--kubeconfig", help="File. Default: $KUBECONFIG, or ~/.kube/config.", show_default=False)]


def _server(namespace: str, context: str, kubeconfig: str) -> ApiServer:
    from aiservice.cli.api_server import ApiServer, Target

    return ApiServer(Target(kubeconfig, context, namespace))


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        out.print(__version__)
        raise typer.Exit


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="The AIService's name. Default: all.", show_default=False)] = None,
    output: local.Output = Format.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and follow it.")] = False,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Revisions, weights, the evidence of each gate, and why. Exit status 1 if a service is not Ready, 3 if there is none."""
    from aiservice.cli import show
    from aiservice.cli.in_cluster import InCluster

    if name and everywhere:
        fail(BAD_INPUT, f"a name and -A given: {name} stands in one namespace, say which with -n")
    show.status(InCluster(_server(namespace, context, kubeconfig), everywhere), name, output, watch=watch)


@app.command()
def why(name: Name, namespace: Namespace = "", context: Context = "", kubeconfig: Kubeconfig = "") -> None:
    """Why it is as it is: the reason in a sentence, each gate with its numbers, the whole journal."""
    from aiservice.cli import show
    from aiservice.cli.in_cluster import InCluster

    show.explain(InCluster(_server(namespace, context, kubeconfig)), name)


@app.command()
def promote(name: Name, namespace: Namespace = "", context: Context = "", kubeconfig: Kubeconfig = "") -> None:
    """Give the candidate all requests now, whatever the gates say."""
    _command("promote", name, _server(namespace, context, kubeconfig))


@app.command()
def abort(name: Name, namespace: Namespace = "", context: Context = "", kubeconfig: Kubeconfig = "") -> None:
    """Take the requests from the candidate and remember it as rejected."""
    _command("abort", name, _server(namespace, context, kubeconfig))


@app.command()
def retry(name: Name, namespace: Namespace = "", context: Context = "", kubeconfig: Kubeconfig = "") -> None:
    """Forget that the wanted revision was rejected and try it once more."""
    _command("retry", name, _server(namespace, context, kubeconfig))


def _command(verb: str, name: str, server: ApiServer) -> None:
    from aiservice.cli import in_cluster
    from aiservice.core.world import Verb

    out.print(in_cluster.command(server, name, Verb(verb)))


@app.command()
def predict(
    name: Name,
    data: local.Data,
    resolve: Annotated[
        str, typer.Option(help="ADDRESS[:PORT] to connect to instead of the URL's own, as curl's --connect-to.", show_default=False)
    ] = "",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Send one inference request through the gateway and print the answer."""
    from aiservice.cli import in_cluster, sending

    sys.stdout.write(in_cluster.predict(_server(namespace, context, kubeconfig), name, sending.text(data), resolve) + "\n")


@app.command()
def label(
    name: Name,
    labels: local.Labels = None,
    data: local.LabelData = None,
    account: Annotated[
        str,
        typer.Option(help="ServiceAccount of the namespace to send them as. Default: you, by the kubeconfig's token.", show_default=False),
    ] = "",
    operator: Annotated[str, typer.Option(help="NAMESPACE/SERVICE of the operator.")] = "aiservice-system/aiservice-operator",
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Say what the right decisions were, by request id; the quality gate counts them."""
    from aiservice.cli import in_cluster, sending

    body = sending.text(data) if data else sending.pairs(labels or [])
    out.print(in_cluster.label(_server(namespace, context, kubeconfig), name, body, operator, account))


def main() -> None:
    """Entry point of kubectl-aiservice."""
    local.main(app)


if __name__ == "__main__":
    main()
