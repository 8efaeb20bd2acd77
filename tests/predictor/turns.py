"""The event loop, held up."""

from __future__ import annotations

import time

from aiservice_predictor.batcher import Batcher


def no_turn_until_done(batcher: Batcher) -> None:
    """Block the event loop until the thread is through with its call."""
    call = batcher._call
    assert call
    while len(call.results) < len(call.batch):
        time.sleep(0.001)
