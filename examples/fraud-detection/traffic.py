"""A client: sends real transactions one by one, counts every answer, and reports frauds late, as life does."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from aiservice.api.runtime import REVISION_HEADER


@dataclass(slots=True)
class Counts:
    """What this client saw. A failure is any answer but 200, and no answer."""

    sent: int = 0
    failed: int = 0
    by_revision: dict[str, int] = field(default_factory=dict)
    """Failed answers by the revision that gave them; "" where nobody said."""
    errors: list[str] = field(default_factory=list)
    labelled: int = 0


@dataclass(slots=True)
class Client:
    """`rate` requests a second over `connections` connections; frauds are reported `delay` seconds after their answer."""

    url: str
    labels_url: str
    traffic: Path
    rate: float = 600.0
    connections: int = 8
    delay: float = 3.0
    counts: Counts = field(default_factory=Counts)
    _next: int = 0
    _due: float = 0.0
    _going: asyncio.Event = field(default_factory=asyncio.Event)
    _frauds: list[tuple[float, str]] = field(default_factory=list)
    _busy: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def go(self) -> None:
        self._due = time.monotonic()
        self._going.set()

    async def pause(self) -> None:
        """Send nothing more; returns when every request has its answer."""
        self._going.clear()
        await self._idle.wait()

    async def run(self) -> None:
        """Until cancelled."""
        table = np.load(self.traffic)
        rows, fraud = table["inputs"], table["labels"]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            await asyncio.gather(self._report(session), *(self._send(session, rows, fraud) for _ in range(self.connections)))

    async def _send(self, session: aiohttp.ClientSession, rows: np.ndarray, fraud: np.ndarray) -> None:
        while True:
            await self._going.wait()
            self._due = max(self._due + 1 / self.rate, time.monotonic() - 0.05)
            await asyncio.sleep(max(0.0, self._due - time.monotonic()))
            if not self._going.is_set():
                continue
            i, self._next = self._next, self._next + 1
            row = i % len(rows)
            tensor = {"name": "transactions", "datatype": "FP32", "shape": [1, rows.shape[1]], "data": rows[row].tolist()}
            self._busy += 1
            self._idle.clear()
            try:
                await self._one(session, f"t{i}", json.dumps({"id": f"t{i}", "inputs": [tensor]}), bool(fraud[row]))
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()

    async def _one(self, session: aiohttp.ClientSession, name: str, body: str, fraud: bool) -> None:
        self.counts.sent += 1
        try:
            async with session.post(self.url, data=body) as answer:
                text = await answer.text()
                if answer.status == 200:
                    if fraud:
                        self._frauds.append((time.monotonic() + self.delay, name))
                    return
                who, why = answer.headers.get(REVISION_HEADER, ""), f"{answer.status}: {text[:200]}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            who, why = "", f"no answer: {error}"
        self.counts.failed += 1
        self.counts.by_revision[who] = self.counts.by_revision.get(who, 0) + 1
        self.counts.errors = [*self.counts.errors, f"{who} {why}"][-50:]

    async def _report(self, session: aiohttp.ClientSession) -> None:
        """Chargebacks: only frauds are ever reported."""
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            due = {name: "fraud" for at, name in self._frauds if at <= now}
            self._frauds = [f for f in self._frauds if f[0] > now]
            if due:
                async with session.post(self.labels_url, json={"labels": due}) as answer:
                    self.counts.labelled += (await answer.json())["matched"]
