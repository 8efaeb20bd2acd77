"""Draw docs/pictures/status.svg: `aiservice status` in the middle of a rollout, from a status that the demo had.

.venv/bin/python docs/pictures/make.py
"""

from __future__ import annotations

import io
import re
from datetime import timedelta
from pathlib import Path
from unittest import mock

from rich.console import Console

from aiservice.api.service import AIService
from aiservice.cli import table

HERE = Path(__file__).resolve().parent


def main() -> None:
    service = AIService.model_validate_json((HERE / "status.json").read_text())
    last = service.status.rollout.decisions[-1].at + timedelta(seconds=3)
    console = Console(record=True, width=150, file=io.StringIO(), force_terminal=True)
    with mock.patch.object(table, "datetime") as clock:
        clock.now.return_value = last
        console.print(table.watched(service, True))
    drawn = console.export_svg(title="aiservice status fraud-detection --watch")
    (HERE / "status.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    main()
