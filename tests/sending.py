"""Clients that send all the while and count every answer, over REST and gRPC."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import grpc
import numpy as np

from clients import triton
from local import bundles

REVISION = "x-aiservice-revision"


def score(number: int) -> float:
    return (number * 7 % 20) / 20


def truth(number: int) -> bool:
    """The right decision on a request, as bundles without bias or scale decide."""
    return score(number) >= 0.5


def request_id(number: int) -> str:
    return f"request-{number}"


@dataclass
class Counts:
    """What clients saw."""

    answers: Counter[int] = field(default_factory=Counter)
    """HTTP status (gRPC: 200 or 1000 + code) -> number; 0: no answer."""
    by_revision: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    """Numbers of the requests that had a right answer: their ids and contents follow from them."""

    @property
    def good(self) -> int:
        return self.answers[200]

    @property
    def failed(self) -> int:
        return sum(n for status, n in self.answers.items() if status != 200)

    def saw(self, number: int, status: int, revision: str, text: str) -> None:
        self.answers[status] += 1
        self.by_revision[revision] += 1
        if status == 200:
            self.answered.append(number)
        else:
            self.errors.append(f"{status} {revision} {text[:500]}")


Send = Callable[[int, Counts], Awaitable[None]]


@asynccontextmanager
async def at_once(send: Send, clients: int, pause: float) -> AsyncIterator[Counts]:
    """`clients` at once, each `pause` seconds after its last answer."""
    counts, numbers, stop = Counts(), itertools.count(), asyncio.Event()

    async def client() -> None:
        while not stop.is_set():
            await send(next(numbers), counts)
            await asyncio.sleep(pause)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        yield counts
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def rest(port: int, name: str, host: str = "", *, clients: int = 4, pause: float = 0.01) -> AsyncIterator[Counts]:
    """V2 requests of one row, every kind, scores from 0 to 1."""
    url, headers = f"http://127.0.0.1:{port}/v2/models/{name}/infer", {"Host": host} if host else {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), headers=headers) as session:

        async def send(number: int, counts: Counts) -> None:
            body = json.dumps({"id": request_id(number), "inputs": bundles.row(score(number), number % bundles.KINDS)})
            try:
                async with session.post(url, data=body) as answer:
                    counts.saw(number, answer.status, answer.headers.get(REVISION, ""), await answer.text())
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                counts.saw(number, 0, "", repr(error))

        async with at_once(send, clients, pause) as counts:
            yield counts


@asynccontextmanager
async def over_grpc(port: int, name: str, host: str = "", *, clients: int = 2, pause: float = 0.02) -> AsyncIterator[Counts]:
    """The same over gRPC, on one connection."""
    options = [("grpc.default_authority", host)] if host else []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def send(number: int, counts: Counts) -> None:
            try:
                await call(_request(name, number), timeout=30)
                counts.saw(number, 200, "", "")
            except grpc.aio.AioRpcError as error:
                counts.saw(number, 1000 + error.code().value[0], "", str(error.details()))

        async with at_once(send, clients, pause) as counts:
            yield counts


def _request(name: str, number: int) -> bytes:
    message = triton.service_pb2.ModelInferRequest(model_name=name, id=f"grpc-{number}")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.append(np.array([[score(number), number % bundles.KINDS]], dtype=np.float32).tobytes())
    raw: bytes = message.SerializeToString()
    return raw
