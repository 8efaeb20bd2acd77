"""A wheel whose predictor is compiled: HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip install . (a C compiler is needed)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))


class Compile(BuildHookInterface):
    """Adds the compiled modules beside their sources."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from compile import compiled

        if version == "editable":
            return
        target = Path(self.directory) / "compiled"
        build_data["force_include"] |= {str(path): str(path.relative_to(target)) for path in compiled(target)}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
