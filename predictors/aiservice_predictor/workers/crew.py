"""What the parent knows of its workers, and the questions that it answers for all of them together."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from time import perf_counter

from aiservice_predictor.metrics import Metrics
from aiservice_predictor.workers.channel import Channel
from aiservice_predictor.workers.child import Told


class Worker:
    """One of them."""

    def __init__(self, number: int, pid: int, channel: Channel, intake: socket.socket) -> None:
        self.number, self.pid, self.channel, self.intake = number, pid, channel, intake
        self.since = perf_counter()
        self.silent = 0
        """Looks since it was last heard."""
        self.passed = 0
        """Connections that it was given."""
        self.taking = False
        """It is ready for connections."""
        self.told = Told(Metrics(), {}, True)


class Question:
    """Asked by a worker; answered once all have told what they counted."""

    def __init__(self, asker: Worker, number: int, answer: Callable[[], object], waiting: Iterable[Worker]) -> None:
        self.asker, self.number, self.answer = asker, number, answer
        self.waiting = set(waiting)


class Questions:
    """Those that are not answered yet."""

    def __init__(self, send: Callable[..., None]) -> None:
        """`send`: worker and message."""
        self._send = send
        self._open: list[Question] = []

    def ask(self, question: Question) -> None:
        self._open.append(question)
        for worker in tuple(question.waiting):
            self._send(worker, "tell")

    def heard(self, *workers: Worker) -> None:
        """They have told, or are not waited for any longer: answer what waits for nobody else."""
        for question in self._open:
            question.waiting.difference_update(workers)
            if not question.waiting:
                self._send(question.asker, "answer", question.number, question.answer())
        self._open = [q for q in self._open if q.waiting]

    def forget(self, asker: Worker) -> None:
        self._open = [q for q in self._open if q.asker is not asker]
