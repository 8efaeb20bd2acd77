"""Services of this machine: what `aiservice up` keeps."""

from __future__ import annotations

from aiservice.cli.exits import BAD_INPUT, NOT_FOUND, fail
from aiservice.cli.source import Seen
from aiservice.local.store import Store


class Here:
    """A Source."""

    program = "aiservice"
    beat = 0.5
    everywhere = False

    def services(self, name: str | None) -> list[Seen]:
        stores = [Store.of(name)] if name else Store.every()
        try:
            found = [(s, store.running) for store in stores if (s := store.load()) is not None]
        except (OSError, ValueError) as error:
            fail(BAD_INPUT, str(error))
        if not found:
            others = ", ".join(s.name for s in Store.every())
            hint = f"; there are: {others}" if others else "; start one: aiservice up -f service.yaml"
            fail(NOT_FOUND, f"there is no service {name!r} here{hint}" if name else f"there is no service here{hint}")
        return found

    def unattended(self, name: str) -> str:
        return f"Nobody looks after it now. Start: aiservice up -f FILE (its predictors may still run; to end them: aiservice down {name})"
