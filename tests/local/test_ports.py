"""A port that somebody takes between looking for it and binding it."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from aiservice.local import process, replica
from aiservice.local.replica import Recipe, Replica
from local.machine import Machine, until

A = "raaaaaaaa"


async def test_a_port_that_somebody_took_is_tried_no_more(box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking for a free port and binding it."""
    box.bundle("v1")
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    ports = replica.free_ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = [int(taken.getsockname()[1]), ports(1)[0]]
        given = [first]
        monkeypatch.setattr(replica, "free_ports", lambda n: given.pop() if given else ports(n))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            recipe = Recipe(
                "svc", A, f"file://{box.folder}/v1", None, ("python", "-m", "aiservice_predictor"), {"AISERVICE_MODEL_NAME": "svc"}, "t"
            )
            made = Replica(recipe, 0, box.folder / "p", box.folder / "c", session, lambda: None)
            made.start()
            await until(lambda: made.ready, made.message)
            assert made.http not in first
            assert made.message == "ready after 1 restarts"
            assert len(list(process.marked(replica.MARK, box.folder / "p"))) == 1
            await made.stop()
    assert box.processes() == []
