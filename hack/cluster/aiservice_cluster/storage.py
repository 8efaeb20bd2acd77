"""KServe's storage initializer from PyPI, for s3:// models in build mode: its own entry point, and of its many stores S3 and HTTP only."""

import shutil
import tempfile
from pathlib import Path

from . import debian, project
from .engine import has_image
from .gomod import module_dir
from .pypi import MOUNTS
from .settings import Settings, key
from .shell import run, step

RECIPE = 1
KSERVE = "github.com/kserve/kserve"
PIP = "python3 -m pip install -q --no-cache-dir --no-compile --disable-pip-version-check --target /opt/site"
DOCKERFILE = """FROM {build} AS build
RUN {mounts} {pip} --no-deps kserve-storage=={version} && {pip} certifi pyyaml requests boto3=={boto3}
FROM {base}
COPY --from=build /opt/site /opt/site
COPY --chmod=0755 initializer-entrypoint /storage-initializer/scripts/initializer-entrypoint
ENV PYTHONPATH=/opt/site
USER 1000
ENTRYPOINT ["/storage-initializer/scripts/initializer-entrypoint"]
"""


def recipe(settings: Settings) -> str:
    return key(RECIPE, DOCKERFILE, PIP, settings.versions["pypi"]["kserve-storage"], settings.versions["pypi"]["boto3"])


def tag(settings: Settings) -> str:
    return f"kserve/storage-initializer:{settings.go(KSERVE)}"


def install(settings: Settings) -> None:
    """Build it once, put it into every node."""
    keyed = f"aiservice-cluster/storage-initializer:{recipe(settings)}"
    if not has_image(keyed):
        with step("image storage-initializer"), tempfile.TemporaryDirectory() as scratch:
            script = module_dir(KSERVE, settings.go(KSERVE)) / "python/storage-initializer/scripts/initializer-entrypoint"
            shutil.copyfile(script, Path(scratch) / script.name)
            versions = settings.versions["pypi"]
            text = DOCKERFILE.format(
                build=debian.python_build(settings),
                base=debian.python(settings),
                mounts=MOUNTS,
                pip=PIP,
                version=versions["kserve-storage"],
                boto3=versions["boto3"],
            )
            debian.build(keyed, text, Path(scratch), packages=True)
    run("docker", "tag", keyed, tag(settings))
    project.load(settings, [tag(settings)])


def ready(settings: Settings) -> bool:
    return project.held_everywhere(settings, tag(settings))
