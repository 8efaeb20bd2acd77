"""What a manifest becomes."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from aiservice.api.status import RevisionStatus, Role
from aiservice.cli.exits import BAD_INPUT, fail
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.core.world import Manifest
from aiservice.local import manifest


def rendered(files: Sequence[Path], *, json: bool) -> str:
    """The objects of services that are new."""
    objects: list[Manifest] = []
    for path in files:
        try:
            service = manifest.read(path)
        except manifest.Invalid as invalid:
            fail(BAD_INPUT, *[f"{path}: {p}" for p in invalid.problems])
        made_from = names.template(service.spec)
        revision = RevisionStatus(name=names.revision(made_from), role=Role.STABLE, template=made_from, weight=100)
        objects += everything(service, [revision])
    return jsonlib.dumps(objects, indent=2) + "\n" if json else yaml.safe_dump_all(objects, sort_keys=False)
