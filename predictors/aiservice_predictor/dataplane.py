"""The protocol-neutral middle: tensors in, tensors out. Knows nothing of HTTP or gRPC."""

from __future__ import annotations

from itertools import count
from time import time
from uuid import uuid4

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor import decision
from aiservice_predictor.batcher import MAX_ROWS, Batcher, Limits
from aiservice_predictor.codec.request import Part, Request
from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.failures import NotFound, Overloaded
from aiservice_predictor.load import Loaded, tensors
from aiservice_predictor.metrics import Exposition, Metrics
from aiservice_predictor.recorder import Recorder
from aiservice_predictor.waiting import Waiting

_LEAST_QUEUE = 2**26
"""Bytes that may wait, however small `max_body` is."""
_STUCK = 30
"""Times the timeout."""


class DataPlane:
    """One served model. Belongs to one event loop."""

    def __init__(self, loaded: Loaded, config: PredictorConfig, recorder: Recorder | None = None, workers: int = 1) -> None:
        """`workers`: how many planes serve together, each with its share of the queue."""
        self.config = config
        self.name = config.model_name
        self.digest = loaded.digest
        self.loaded = loaded
        self.signature = loaded.signature
        self.metrics = Metrics()
        self.recorder = recorder or Recorder(loaded.signature.decision, config.reservoir_bytes)
        self._record = self.recorder.add
        self.exposition = Exposition(
            self.metrics, {"name": config.model_name, "revision": config.revision, "digest": loaded.digest}, self.recorder
        )
        self.draining = False
        self.last = 0.0
        """perf_counter of the last request."""
        self.open = 0
        """Requests that are not answered yet."""
        limits = Limits(
            max_rows=config.batch_max_size or MAX_ROWS,
            stretch=config.batch_max_size is None,
            max_delay=config.batch_max_delay,
            queue=-(-config.queue // workers),
            queue_bytes=max(_LEAST_QUEUE, 2 * config.max_body),
            by_row=loaded.by_row and config.batch_max_size != 1,
            inline=loaded.signature.fixed_rows and loaded.model.steady,
            uniform=loaded.signature.fixed_rows,
        )
        self._batcher = Batcher(loaded.model.run, limits, self.metrics)
        for golden in loaded.golden[:1]:
            inputs = tensors(loaded.signature.inputs, golden.inputs)
            self._batcher.try_out(inputs, loaded.signature.rows(inputs))
        self._timeout = config.timeout
        self._decides = loaded.signature.decision.output
        self._ids = count()
        self._prefix = uuid4().hex[:16]

    @property
    def ready(self) -> bool:
        return not self.draining

    @property
    def live(self) -> bool:
        """False where one call of the model has run so long that only a restart will help."""
        return self._batcher.running_for() < _STUCK * max(self.config.timeout, 1)

    def serves(self, name: str) -> None:
        """Raises NotFound unless the model has this name."""
        if name != self.name:
            raise NotFound(f"model '{name[:80]}' is not served here; this is '{self.name}'")

    def full(self) -> Overloaded | None:
        """The failure where a request would be refused whatever it holds: to be asked before it is received and decoded."""
        return self._batcher.full()

    def enter(self, call: Waiting, request: Request, seconds: float | None = None) -> None:
        """Have all outputs of the model made for the request, and give it an id where it has none; `call` is told.

        `seconds`: how long the client still waits; the configured timeout where that is less. Raises Overloaded, Late.
        """
        if not request.id:
            request.id = f"{self._prefix}-{next(self._ids)}"
        limit = self._timeout if seconds is None else min(seconds, self._timeout)
        self._batcher.enter(call, request.inputs, request.rows, limit, request.size)

    def withdraw(self, call: Waiting) -> None:
        """Nobody waits for it any more."""
        self._batcher.withdraw(call)

    def answered(self, request: Request, part: Part) -> None:
        """The answer to a client's request (not a replayed one) was encoded: count and record it."""
        self.metrics.rows += request.rows
        self._record(request.id, time(), request.inputs, part.tensor(self._decides), request.size)

    def decisions(self, outputs: Tensors) -> list[str]:
        """One text a row."""
        return decision.decide(self.signature.decision, outputs)

    def stop_taking(self) -> None:
        """Not ready from now on; what comes is still answered."""
        self.draining = True

    def close(self) -> None:
        """What is still open is answered with Overloaded, now."""
        self._batcher.close()
