"""What workers are made of: messages that arrive whole, totals that never go back."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.load import Loaded, load
from aiservice_predictor.metrics import Metrics
from aiservice_predictor.record import pack
from aiservice_predictor.reservoir import MAX_STRATA, OTHER
from aiservice_predictor.workers.channel import Channel
from aiservice_predictor.workers.child import Told
from aiservice_predictor.workers.totals import Totals
from predictor import models


def pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return Channel(one), Channel(other)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**20), st.booleans()), max_size=12))
def test_messages_arrive_whole_and_in_order_however_slowly_they_are_read(sent: list[tuple[int, bool]]) -> None:
    sender, receiver = pair()
    found: list[bytes] = []
    messages = [bytes([n]) * size for n, (size, _) in enumerate(sent)]
    for message, (_, read) in zip(messages, sent, strict=True):
        sender.send(message)
        if read:
            found += receiver.receive()
    while sender.unsent:
        found += receiver.receive()
        sender.flush()
    sender.close()
    found += receiver.receive()
    assert found == messages
    assert receiver.ended
    receiver.close()


def test_a_last_word_is_waited_for() -> None:
    sender, receiver = pair()
    sender.send(bytes(2**23))
    assert sender.unsent
    thread = threading.Thread(target=sender.finish)
    thread.start()
    found: list[bytes] = []
    while not found:
        found += receiver.receive()
    thread.join()
    assert sender.unsent == 0
    assert found == [bytes(2**23)]
    sender.close()
    receiver.close()


def test_a_side_that_is_gone_is_no_fault() -> None:
    sender, receiver = pair()
    receiver.close()
    sender.send("anything")
    assert sender.unsent == 0
    assert sender.receive() == []
    assert sender.ended
    sender.close()


def told(rows: int, **seen: int) -> Told:
    metrics = Metrics()
    metrics.rows = rows
    metrics.request("rest", "ok", 0.001)
    return Told(metrics, dict(seen), True)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    models.bundle(tmp_path)
    return load(tmp_path)


def totals(bundle: Loaded) -> Totals:
    return Totals(bundle, PredictorConfig(model_name="m", revision="r1"))


def value(text: bytes, line: str) -> float:
    return next(float(t.rpartition(" ")[2]) for t in text.decode().splitlines() if t.startswith(line + " "))


def test_what_is_gone_still_counts(loaded: Loaded) -> None:
    found = totals(loaded)
    one, other = told(3, low=2, high=1), told(4, high=4)
    before = found.text([one, other])
    found.gone(one)
    after = found.text([other, told(1, low=1)])
    assert (value(before, "aiservice_rows_total"), value(after, "aiservice_rows_total")) == (7, 8)
    assert value(after, 'aiservice_requests_total{outcome="ok",protocol="rest"}') == 3
    assert value(after, "aiservice_request_seconds_count") == 3
    assert found.seen([other]) == {"low": 2, "high": 5}


def test_decisions_are_told_apart_up_to_a_number_and_none_goes_back(loaded: Loaded) -> None:
    found = totals(loaded)
    first = told(60, **{f"a{n}": 1 for n in range(60)})
    second = told(60, **{f"b{n}": 1 for n in range(60)})
    seen = found.seen([first, second])
    assert len(seen) == MAX_STRATA + 1
    assert seen[OTHER] == 20
    found.gone(first)
    later = found.seen([second])
    assert later == seen
    found.keep(pack("1", 0.0, ["b59"], {"x": np.zeros((1, 3), np.float32)}), "b59", drawn=True)
    assert [(e.sequence, e.stratum) for e in found.reservoir.spread(1)] == [(1, OTHER)]
