"""Where the local world keeps what the API server would: spec, generation and status of each service, tokens, who runs."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aiservice.api.service import AIService
from aiservice.api.status import AIServiceStatus
from aiservice.local.files import is_locked, read_if_there, write_whole

Kind = TypeVar("Kind", bound=BaseModel)


def root() -> Path:
    """$AISERVICE_STATE, or aiservice/ where this user's programs keep their state."""
    given = os.environ.get("AISERVICE_STATE")
    if given:
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "aiservice"


def cache() -> Path:
    """$AISERVICE_CACHE, or aiservice/ in this user's cache: model bundles by digest."""
    given = os.environ.get("AISERVICE_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "aiservice"


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of one service."""

    folder: Path

    @classmethod
    def of(cls, name: str, under: Path | None = None) -> Store:
        return cls((under or root()) / "services" / name)

    @classmethod
    def every(cls, under: Path | None = None) -> list[Store]:
        services = (under or root()) / "services"
        return [cls(f) for f in sorted(services.iterdir()) if (f / "service.json").exists()] if services.is_dir() else []

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def running(self) -> bool:
        """Whether an `aiservice up` looks after it now."""
        return is_locked(self.lock)

    def load(self) -> AIService | None:
        """The service as it was last saved, or None. Raises ValueError naming the file if it cannot be read."""
        text = read_if_there(self.folder / "service.json")
        if text is None:
            return None
        service = _parsed(AIService, self.folder / "service.json", text)
        place = self.folder / "status.json"
        status = read_if_there(place)
        return service if status is None else service.model_copy(update={"status": _parsed(AIServiceStatus, place, status)})

    def save(self, service: AIService) -> None:
        """The spec, with its generation."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "service.json", service.model_dump_json(by_alias=True, exclude_none=True, exclude={"status"}))

    def save_status(self, status: AIServiceStatus) -> None:
        write_whole(self.folder / "status.json", status.model_dump_json(by_alias=True, exclude_none=True))

    def token(self) -> str:
        """What opens the predictors' private endpoints and the control port; made once."""
        path = self.folder / "token"
        token = read_if_there(path)
        if not token:
            self.folder.mkdir(parents=True, exist_ok=True)
            token = secrets.token_urlsafe(32)
            write_whole(path, token, private=True)
        return token

    def keep(self, what: str, value: Any) -> None:
        write_whole(self.folder / f"{what}.json", json.dumps(value))

    def kept(self, what: str) -> Any:
        """What was kept, or None; a damaged file counts as none."""
        text = read_if_there(self.folder / f"{what}.json")
        try:
            return json.loads(text) if text else None
        except json.JSONDecodeError:
            return None


def _parsed(kind: type[Kind], path: Path, text: str) -> Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path}: the saved state cannot be read ({f'{where}: ' if where else ''}{first['msg']}); it is damaged, or another version of "
            f"aiservice wrote it. Use that version, or move the file away to start anew; nothing was changed"
        ) from None
