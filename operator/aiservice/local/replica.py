"""One predictor of a revision: fetch, start, golden requests, ready; when it ends, again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from aiservice.api.runtime import REFUSED, Refusal
from aiservice.bundle.fetch import fetch
from aiservice.bundle.read import Refused
from aiservice.local.files import read_if_there
from aiservice.local.process import Process
from aiservice.measure import golden
from aiservice.measure.client import Predictor

FIRST_BACK_OFF = 0.5
LONGEST_BACK_OFF = 30.0
STEADY = 60.0
"""Seconds after which a start counts as good and the back-off begins anew."""
PASSING = ("SourceUnavailable", "NoSpace")
"""Why a model cannot be loaded now, but may be later."""
PROBE = 0.1
LEAVE = 0.3
"""Seconds between taking a predictor from the gateway and telling it to end: the gateway hears of it first."""
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the rendered InferenceService says of a predictor, with this machine's paths and secrets filled in."""

    service: str
    revision: str
    uri: str
    digest: str | None
    command: tuple[str, ...]
    env: Mapping[str, str]
    token: str


@dataclass(slots=True)
class Replica:
    """`changed` is called whenever its readiness or its words change."""

    recipe: Recipe
    number: int
    folder: Path
    cache: Path
    session: aiohttp.ClientSession
    changed: Callable[[], None]
    process: Process | None = None
    http: int = 0
    grpc: int = 0
    ready: bool = False
    digest: str | None = None
    refused: Refusal | None = None
    restarts: int = 0
    message: str = "not started yet"
    _task: asyncio.Task[None] | None = field(default=None, repr=False)
    _leaving: bool = False

    @property
    def label(self) -> str:
        return f"{self.recipe.revision}-{self.number}"

    @property
    def predictor(self) -> Predictor:
        return Predictor(self.recipe.revision, f"http://127.0.0.1:{self.http}", self.recipe.service, self.recipe.token, self.session)

    @property
    def run(self) -> str:
        """Names this start of the predictor: its counters belong to it."""
        return f"{self.label}.{self.process.pid}.{self.process.born}" if self.process else ""

    def start(self) -> None:
        self._task = asyncio.create_task(self._live(), name=f"predictor {self.label}")

    async def stop(self) -> None:
        """Out of the gateway first, then out of the world."""
        self._leaving = True
        was_ready, self.ready = self.ready, False
        self.changed()
        if was_ready:
            await asyncio.sleep(LEAVE)
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self.process:
            await self.process.stop(PATIENCE)
        self._record.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)

    async def release(self) -> None:
        """Stop looking after it; it runs on."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.label}.json"

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.label}.log"

    @property
    def _last_words(self) -> Path:
        return self.folder / f"{self.label}.end"

    def _say(self, message: str) -> None:
        if message != self.message:
            self.message = message
            self.changed()

    async def _live(self) -> None:
        back_off = FIRST_BACK_OFF
        self._find()
        while True:
            began = time.monotonic()
            try:
                if self.process is None:
                    await self._launch()
                await self._serve()
            except Refused as refused:
                if refused.reason not in PASSING:
                    self._give_up(refused.refusal())
                    return
                self._say(refused.message)
            except OSError as error:
                self._say(f"cannot be started: {error.strerror or error}")
            if self.refused:
                return
            self.ready, self.process = False, None
            self.restarts += 1
            self.changed()
            if time.monotonic() - began > STEADY:
                back_off = FIRST_BACK_OFF
            await asyncio.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF)

    def _give_up(self, refusal: Refusal) -> None:
        self.refused, self.ready = refusal, False
        self._say(refusal.message)
        self.changed()

    def _find(self) -> None:
        """The one that an earlier run of ours left running."""
        kept = json.loads(read_if_there(self._record) or "null")
        if kept:
            self.process = Process.find(kept["pid"], kept["born"])
            if self.process:
                self.http, self.grpc, self.digest = kept["http"], kept["grpc"], kept["digest"]

    async def _launch(self) -> None:
        self._say(f"fetching {self.recipe.uri}")
        bundle = await fetch(self.recipe.uri, self.cache, self.recipe.digest)
        self.digest = bundle.digest
        self.http, self.grpc = free_ports(2)
        self._last_words.unlink(missing_ok=True)
        place = bundle.model if bundle.manifest is None else bundle.model.parent
        env = dict(os.environ) | dict(self.recipe.env)
        env |= {
            "AISERVICE_MODEL_DIR": str(place),
            "AISERVICE_DIGEST": bundle.digest,
            "AISERVICE_HOST": "127.0.0.1",
            "AISERVICE_HTTP_PORT": str(self.http),
            "AISERVICE_GRPC_PORT": str(self.grpc),
            "AISERVICE_TOKEN": self.recipe.token,
            "AISERVICE_TERMINATION_LOG": str(self._last_words),
        }
        self.process = Process.start(_here(self.recipe.command), log=self._log, env=env)
        record = {"pid": self.process.pid, "born": self.process.born, "http": self.http, "grpc": self.grpc, "digest": self.digest}
        self._record.write_text(json.dumps(record))
        self._say("loading its model")

    async def _serve(self) -> None:
        """From started to ended."""
        assert self.process
        ended = asyncio.create_task(self.process.ended())
        try:
            while not await self.predictor.ready():
                done, _ = await asyncio.wait({ended}, timeout=PROBE)
                if done:
                    return self._ended()
            wrong = await golden.check(self.predictor)
            if wrong:
                self._give_up(Refusal(reason="GoldenMismatch", message=wrong))
                await self.process.stop(PATIENCE)
                return None
            if self._leaving:
                return None
            self.ready = True
            self._say(f"ready after {self.restarts} restarts" if self.restarts else "ready")
            self.changed()
            await ended
        finally:
            ended.cancel()
        return self._ended()

    def _ended(self) -> None:
        assert self.process
        self.ready = False
        status = self.process.status
        words = read_if_there(self._last_words)
        if status == REFUSED or words:
            try:
                self._give_up(Refusal.model_validate_json(words or ""))
                return
            except ValidationError:
                pass
        last = (read_if_there(self._log) or "").strip().splitlines()[-1:]
        how = "ended" if status is None else f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        self._say(f"{how} ({self.restarts + 1} times){': ' + last[0][:300] if last else ''}")


def _here(command: Sequence[str]) -> list[str]:
    """The image's Python is this Python."""
    return [sys.executable if part == "python" else part for part in command]


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
