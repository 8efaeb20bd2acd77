"""One predictor of a revision: fetch, start, golden requests, ready; when it ends, again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
from aiservice.local.files import cut, read_if_there
from aiservice.local.process import Process
from aiservice.measure import golden
from aiservice.measure.client import Predictor

log = logging.getLogger("aiservice")

FIRST_BACK_OFF = 0.5
LONGEST_BACK_OFF = 30.0
STEADY = 60.0
"""Seconds after which a start counts as good and the back-off begins anew."""
PASSING = ("SourceUnavailable", "NoSpace")
"""Why a model cannot be loaded now, but may be later."""
PROBE = 0.1
WATCH = 1.0
"""Seconds between two questions to a ready predictor whether it still is."""
HUNG = 3.0
"""Seconds that it has to answer."""
MISSED = 3
"""So many answers must be missing, one after the other, until it gets no more requests."""
LEAVE = 0.3
"""Seconds between taking a predictor from the gateway and telling it to end: the gateway hears of it first."""
PATIENCE = 30.0
MARK = "AISERVICE_TERMINATION_LOG"
"""The variable by which a predictor that an earlier run left is found."""
LONGEST_LOG = 8 * 2**20


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
    _after: str = ""
    """How the one before ended: it is still said while the next one starts."""

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

    def adopt(self, process: Process, env: Mapping[str, str], *, ready: bool) -> None:
        """Before `start`: it runs already. `ready`: the gateway was told of it, so it has passed its golden requests."""
        self.process, self.ready = process, ready
        self.http, self.grpc = int(env["AISERVICE_HTTP_PORT"]), int(env["AISERVICE_GRPC_PORT"])
        self.digest = env.get("AISERVICE_DIGEST")
        self.message = "ready" if ready else "found running"

    def start(self) -> None:
        self._task = asyncio.create_task(self._live(), name=f"predictor {self.label}")

    async def stop(self) -> None:
        """Out of the gateway first, then out of the world."""
        self._leaving = True
        was_ready, self.ready = self.ready, False
        self.changed()
        if was_ready:
            await asyncio.sleep(LEAVE)
        await self.release()
        if self.process:
            await self.process.stop(PATIENCE)
        for path in (self._log, self._last_words):
            path.unlink(missing_ok=True)

    async def release(self) -> None:
        """Stop looking after it; it runs on."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

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
        """Until it is refused. Whatever else happens it is started again, and never twice at once."""
        back_off = FIRST_BACK_OFF
        while True:
            began = time.monotonic()
            try:
                if self.process is None:
                    await self._launch()
                await self._serve()
            except Refused as refused:
                if refused.reason not in PASSING:
                    self._give_up(refused.refusal())
                else:
                    self._say(refused.message)
            except OSError as error:
                self._say(f"cannot be started: {error.strerror or error}")
            except Exception as error:
                log.exception("%s %s: unexpected; starting it again", self.recipe.service, self.label)
                self._say(f"cannot be started: {error!r}"[:500])
            self.ready = False
            if self.process:
                self.changed()
                await self.process.stop(PATIENCE)
                self.process = None
                self.restarts += 1
            self.changed()
            if self.refused or self._leaving:
                return
            if time.monotonic() - began > STEADY:
                back_off = FIRST_BACK_OFF
            await asyncio.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF)

    def _give_up(self, refusal: Refusal) -> None:
        self.refused, self.ready = refusal, False
        self._say(refusal.message)

    async def _launch(self) -> None:
        self._say(f"fetching {self.recipe.uri}{self._after}")
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
            MARK: str(self._last_words),
        }
        self.process = Process.start(_here(self.recipe.command), log=self._log, env=env)
        self._say(f"loading its model{self._after}")

    async def _serve(self) -> None:
        """From started, or found, to ended or refused."""
        assert self.process
        ended = asyncio.create_task(self.process.ended())
        try:
            while not self.ready:
                if await self.predictor.ready() and self.process.alive and await self._passes():
                    if self._leaving:
                        return
                    self.ready = True
                    self._say(f"ready after {self.restarts} restarts" if self.restarts else "ready")
                    self.changed()
                elif self.refused or await _within(ended, PROBE):
                    break
            if not self.refused:
                await self._watch(ended)
        finally:
            ended.cancel()
        if not self.refused:
            self._ended()

    async def _passes(self) -> bool:
        """Its golden requests. One that is answered wrongly is a refusal; one that is not answered is asked again."""
        try:
            wrong = await golden.check(self.predictor)
        except golden.NotAnswered as error:
            self._say(str(error))
            return False
        if wrong:
            self._give_up(Refusal(reason="GoldenMismatch", message=wrong))
        return not wrong

    async def _watch(self, ended: asyncio.Task[None]) -> None:
        """Until it ends. While it does not answer it gets no requests."""
        missed = 0
        while not await _within(ended, WATCH):
            cut(self._log, LONGEST_LOG)
            try:
                async with asyncio.timeout(HUNG):
                    missed = 0 if await self.predictor.ready() else missed + 1
            except TimeoutError:
                missed += 1
            if self._leaving or self.ready == (missed < MISSED):
                continue
            self.ready = missed < MISSED
            self._say("ready" if self.ready else f"does not answer its readiness probe ({missed} times)")
            self.changed()

    def _ended(self) -> None:
        assert self.process
        self.ready = False
        status = self.process.status
        reason = read_if_there(self._last_words)
        if status == REFUSED or reason:
            with contextlib.suppress(ValidationError):
                refusal = Refusal.model_validate_json(reason or "")
                if refusal.reason in PASSING:
                    self._say(refusal.message)
                else:
                    self._give_up(refusal)
                return
        last = (read_if_there(self._log) or "").strip().splitlines()[-1:]
        how = "ended" if status is None else f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        words = f"{how} ({self.restarts + 1} times){': ' + last[0][:300] if last else ''}"
        self._after = f"; the one before {words}"
        self._say(words)


async def _within(ended: asyncio.Task[None], patience: float) -> bool:
    """Whether it ended in that time."""
    done, _ = await asyncio.wait({ended}, timeout=patience)
    return bool(done)


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
