"""The commands: up, down, load, build, status, engine-stop."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence

from . import addons, debian, engine, kind, node, project
from .settings import Settings, from_environment
from .shell import Failure, prefer, run, say, step


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="hack/cluster", description="The project's test cluster (kind).")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "start it, or repair it"),
        ("down", "end it"),
        ("engine-stop", "end the dockerd that `up` started"),
        ("status", "what runs"),
    ):
        commands.add_parser(name, help=text)
    loading = commands.add_parser("load", help="put images of the local engine into every node")
    loading.add_argument("image", nargs="+")
    commands.add_parser("build", help="docker build with BASE, BUILD_BASE and this machine's package index", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "build":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        settings = from_environment()
        if options.command == "build":
            return build(settings, rest)
        if options.command == "load":
            prefer(settings.tools)
            project.load(settings, options.image)
        else:
            COMMANDS[options.command](settings)
    except Failure as failure:
        say(f"hack/cluster: {failure}")
        return 1
    except KeyboardInterrupt:
        say("hack/cluster: stopped; `make cluster` goes on from here")
        return 130
    return 0


def up(settings: Settings) -> None:
    began = time.monotonic()
    engine.ensure(settings)
    settings = kind.as_found(choose(settings))
    kind.tools(settings)
    image = node.build(settings) if settings.images == "build" else ""
    kind.up(settings, image)
    addons.up(settings)
    say(
        f"  cluster {settings.name} is ready: {time.monotonic() - began:.0f} s; gateway http://127.0.0.1:{settings.port}, hosts NAME.NAMESPACE.localhost"
    )
    say(f"  kubectl and helm: {settings.tools}")
    print(f"export KUBECONFIG={settings.kubeconfig}")


def choose(settings: Settings) -> Settings:
    """pull or build: what the variable says, else what a quick probe of the registry finds."""
    if settings.images:
        say(f"  images: {settings.images} (said by IMAGES)")
        return settings
    with step("can images be pulled?"):
        images = "pull" if engine.can_pull(debian.PROBE) else "build"
    say(
        f"  images: {images} ({'a registry answers' if images == 'pull' else 'no registry answers'}; IMAGES=pull or IMAGES=build forces it)"
    )
    return dataclasses.replace(settings, images=images)


def build(settings: Settings, arguments: Sequence[str]) -> int:
    engine.ensure(settings)
    return project.build(choose(settings), arguments)


def down(settings: Settings) -> None:
    prefer(settings.tools)
    if not engine.answers():
        say("  no Docker engine answers: nothing runs")
        return
    kind.delete(settings)
    say(f"  cluster {settings.name} is gone; caches stay in {settings.cache}")
    if engine.running_pid(settings):
        say("  the dockerd that `make cluster` started still runs: `python3 hack/cluster engine-stop` ends it")


def status(settings: Settings) -> None:
    prefer(settings.tools)
    print(run("kubectl", "--kubeconfig", settings.kubeconfig, "get", "pods", "-A", "-o", "wide"))


COMMANDS: dict[str, Callable[[Settings], None]] = {"up": up, "down": down, "status": status, "engine-stop": engine.stop}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
