"""Programs and charts from the Go module proxy: nothing is cloned, nothing is vendored."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .settings import Settings, key
from .shell import Failure, atomic, run, step, which

RECIPE = 1  # count up when the way of building changes, so that caches are left behind
FLAGS = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=mod -p=2 -buildvcs=false"}


@dataclass(frozen=True)
class Program:
    """One module and the main packages of it that are built, with what the linker stamps into them."""

    module: str
    packages: tuple[str, ...]
    stamps: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@cache
def module_dir(module: str, version: str) -> Path:
    """Where the module's sources lie, downloaded and checked by Go."""
    if not which("go"):
        raise Failure("Go is needed to read charts and build programs: install it (the version that the modules of versions.toml ask for)")
    answer = json.loads(run("go", "mod", "download", "-json", f"{module}@{version}", cwd=Path("/"), timeout=900))
    return Path(answer["Dir"])


def build(settings: Settings, program: Program) -> Path:
    """The folder with the built programs; from the cache where the recipe and version are the same."""
    version = settings.go(program.module)
    name = re.sub(r"/v\d+$", "", program.module).rsplit("/", 1)[-1]
    folder = settings.cache / "go" / f"{name}-{version}-{key(RECIPE, program, version)}"
    if folder.is_dir():
        return folder
    with step(f"build {name} {version}"), atomic(folder) as scratch:
        _compile(program, version, scratch)
    return folder


def _compile(program: Program, version: str, target: Path) -> None:
    work = target / ".module"
    work.mkdir(parents=True)
    (work / "go.mod").write_text(_go_mod(program.module, version))
    nice = ["nice", "-n", "10"] if which("nice") else []
    stamps = " ".join(["-s", "-w", *(f"-X {stamp.format(version=version, minor=version.split('.')[1])}" for stamp in program.stamps)])
    tags = ["-tags", ",".join(program.tags)] if program.tags else []
    run(*nice, "go", "build", "-trimpath", "-ldflags", stamps, *tags, "-o", f"{target}/", *program.packages, cwd=work, env=FLAGS)
    shutil.rmtree(work)


def _go_mod(module: str, version: str) -> str:
    """A module that requires this one, with its own replace lines: Go ignores those of a dependency, and several need theirs.

    A replace into the module's own tree is left out, for the tree's modules are published as well. Where they are required as v0.0.0
    the published version is required: Kubernetes v1.36.3 has its staging modules so, and they are published as v0.36.3.
    """
    described = json.loads(run("go", "mod", "edit", "-json", module_dir(module, version) / "go.mod"))
    required = {entry["Path"]: entry["Version"] for entry in described["Require"]}
    lines = ["module tools", "", f"go {described['Go']}", "", f"require {module} {version}", ""]
    for replace in described.get("Replace") or []:
        old, new = replace["Old"], replace["New"]
        if not new["Path"].startswith("."):
            lines.append(f"replace {old['Path']} {old.get('Version', '')} => {new['Path']} {new.get('Version', '')}")
        elif required.get(old["Path"]) == "v0.0.0":
            lines.append(f"require {old['Path']} v0.{version.split('.', 1)[1]}")
    return "\n".join(lines) + "\n"


def programs(settings: Settings, wanted: Sequence[Program]) -> dict[str, Path]:
    """Every built program by its file name."""
    return {path.name: path for program in wanted for path in build(settings, program).iterdir()}
