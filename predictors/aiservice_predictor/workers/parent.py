"""The process above the workers: accepts connections and hands them out, starts workers and starts them again, and owns what is one for all.

It forks them after the model was loaded, so that they share its memory; hence no thread and no event loop here. A connection goes to the
worker with the fewest, which one long connection more or less would not even out if the kernel chose (SO_REUSEPORT).
"""

from __future__ import annotations

import gc
import heapq
import mmap
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from itertools import count
from ssl import SSLContext
from time import perf_counter
from typing import Any

import orjson

from aiservice.api.runtime import PredictorConfig
from aiservice_predictor.load import Loaded
from aiservice_predictor.shared import choose, give
from aiservice_predictor.workers.channel import Channel
from aiservice_predictor.workers.child import GRPC, HTTP, NO_MORE, Place, Told, work
from aiservice_predictor.workers.crew import Question, Questions, Worker
from aiservice_predictor.workers.totals import Totals

_TELL = 1.0
"""Seconds between two looks at what the workers counted: so much is lost with one that crashes."""
_PATIENCE = 0.5
"""Seconds for a worker to tell; one that is busy longer is taken as it last was."""
_DOUBTED, _GIVEN_UP = 3, 10
"""Looks that a worker did not answer until it is spared what others can do, and until it is killed."""
_LEAST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a worker that crashed is started again: twice as long each time, until one has lived for a while."""
_LIVED = 60.0
_AFTER = 3.0
"""Seconds after the drain's until a worker that is still there is killed."""
_AT_ONCE = 64
_AGAIN = 0.05
_BACKLOG = 2048


class Parent:
    """Runs in the main thread, once."""

    def __init__(self, config: PredictorConfig, loaded: Loaded, workers: int, *tls: SSLContext | None) -> None:
        self._config, self._loaded, self._wanted, self._tls = config, loaded, workers, tls
        self._totals = Totals(loaded, config)
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Worker] = {}
        self._left = memoryview(mmap.mmap(-1, 8 * workers)).cast("q")
        """Connections that each worker has lost; written by the worker alone."""
        self._questions = Questions(self._send)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._listeners: dict[bytes, socket.socket] = {}
        self._listening = self._started = self._ending = self._shut = False
        self._crashes = 0
        self._status = 0

    def run(self) -> int:
        """Until a signal ends it; the exit status."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        for heard in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(heard, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._signals(woken.recv(256)))
        self._listeners = {HTTP: self._bind(self._config.http_port), GRPC: self._bind(self._config.grpc_port)}
        for number in range(self._wanted):
            self._start(number)
        self._later(_TELL, self._look)
        while self._workers or not self._ending:
            for key, _ in self._selector.select(self._due()):
                key.data()
            while self._timers and self._timers[0][0] <= perf_counter():
                heapq.heappop(self._timers)[2]()
        return self._status

    def _bind(self, port: int) -> socket.socket:
        host = self._config.host
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.setblocking(False)
        return sock

    def _start(self, number: int) -> None:
        if self._ending:
            return
        ours, theirs = socket.socketpair()
        hand, take = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._left[number] = 0
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            self._become(number, (ours, hand), theirs, take)
        theirs.close()
        take.close()
        hand.setblocking(False)
        worker = self._workers[pid] = Worker(number, pid, Channel(ours), hand)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))

    def _become(self, number: int, parents: Iterable[socket.socket], channel: socket.socket, intake: socket.socket) -> None:
        """The child's side of a fork; does not come back."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            others = (s for w in self._workers.values() for s in (w.channel.sock, w.intake))
            for sock in (*parents, *others, *self._listeners.values()):
                sock.close()
            left = self._left

            def gone() -> None:
                left[number] += 1

            work(self._config, self._loaded, self._wanted, Place(channel, intake, gone), *self._tls)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        for _ in range(sum(numbers.count(n) for n in (signal.SIGTERM, signal.SIGINT))):
            self._end()

    def _end(self) -> None:
        """Once: everybody drains. Twice: now."""
        word, first = ("now", False) if self._ending else ("end", True)
        self._ending = True
        for worker in self._workers.values():
            self._send(worker, word)
        if first:
            self._later(self._config.drain + _AFTER, self._kill)

    def _kill(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._lost(worker, os.waitstatus_to_exitcode(status))

    def _lost(self, worker: Worker, status: int) -> None:
        self._hear(worker)
        self._totals.gone(worker.told)
        self._deaf(worker)
        worker.channel.close()
        worker.intake.close()
        self._questions.forget(worker)
        self._questions.heard(worker)
        self._doors()
        if self._ending:
            self._status = max(self._status, abs(status))
            return
        self._crashes = 0 if perf_counter() - worker.since > _LIVED else self._crashes
        pause = min(_LONGEST_PAUSE, _LEAST_PAUSE * 2**self._crashes)
        self._crashes += 1
        self._totals.restarts += 1
        said = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        print(f"aiservice_predictor: worker {worker.number} {said}; it is started again in {pause:g} s", file=sys.stderr, flush=True)
        self._later(pause, lambda: self._start(worker.number))

    def _hear(self, worker: Worker) -> None:
        for word, *rest in worker.channel.receive():
            self._said(worker, word, rest)
        if worker.channel.ended:
            self._deaf(worker)
            return
        worker.channel.flush()
        self._watch(worker)

    def _deaf(self, worker: Worker) -> None:
        if worker.channel.sock in self._selector.get_map():
            self._selector.unregister(worker.channel.sock)

    def _said(self, worker: Worker, word: str, rest: list[Any]) -> None:
        worker.silent = 0
        if word == "kept":
            for kept in rest[0]:
                self._totals.keep(*kept)
        elif word == "told":
            worker.told = rest[0]
            if not worker.told.live:
                os.kill(worker.pid, signal.SIGKILL)
            self._questions.heard(worker)
        elif word == "ask":
            self._ask(worker, *rest)
        elif word == "closed":
            worker.taking = False
            self._no_more(worker)
            self._doors()
        else:
            worker.taking = True
            self._doors()

    def _no_more(self, worker: Worker) -> None:
        """After every connection that it was given."""
        try:
            worker.intake.send(NO_MORE)
        except BlockingIOError:
            self._later(_AGAIN, lambda: self._no_more(worker))
        except OSError:
            return  # it has ended

    def _ask(self, asker: Worker, number: int, what: str, arguments: tuple[Any, ...]) -> None:
        answers: dict[str, Callable[..., object]] = {
            "metrics": lambda: self._totals.text(self._told()),
            "recorded": lambda *a: (self._totals.run, self._totals.seen(self._told()), choose(self._totals.reservoir, *a)),
            "label": lambda labels: give(self._totals.reservoir, labels),
        }
        everybody = [w for w in self._workers.values() if w.silent < _DOUBTED]
        question = Question(asker, number, lambda: answers[what](*arguments), everybody)
        self._questions.ask(question)
        self._later(_PATIENCE, lambda: self._questions.heard(*question.waiting))

    def _told(self) -> list[Told]:
        return [w.told for w in self._workers.values()]

    def _look(self) -> None:
        """Make everybody tell; one that does not is started again, as is one whose call of the model will never end."""
        for worker in self._workers.values():
            worker.silent += 1
            if worker.silent > _GIVEN_UP:
                os.kill(worker.pid, signal.SIGKILL)
            elif worker.silent <= _DOUBTED:
                self._send(worker, "tell")
        self._later(_TELL, self._look)

    def _doors(self) -> None:
        """Listen once all are ready; then accept as long as anybody takes connections."""
        taking = sum(w.taking for w in self._workers.values())
        if not self._started and taking == self._wanted:
            self._started = True
            for sock in self._listeners.values():
                sock.listen(_BACKLOG)
            ports = {name: self._listeners[kind].getsockname()[1] for name, kind in (("http", HTTP), ("grpc", GRPC))}
            print("ready", orjson.dumps(ports).decode(), flush=True)
        accepts = self._started and taking > 0 and not self._shut
        if accepts != self._listening:
            self._listening = accepts
            for kind, sock in self._listeners.items():
                if accepts:
                    self._selector.register(sock, selectors.EVENT_READ, lambda kind=kind: self._accept(kind))
                else:
                    self._selector.unregister(sock)
        if self._ending and not taking:
            self._shut = True
            for sock in self._listeners.values():
                sock.close()

    def _accept(self, kind: bytes) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listeners[kind].accept()
            except OSError:
                return
            with connection:
                self._hand_out(kind, connection)

    def _hand_out(self, kind: bytes, connection: socket.socket) -> None:
        """To whoever has the fewest; where nobody can take it, its client is told so by a reset."""
        taking = [w for w in self._workers.values() if w.taking]
        for worker in sorted(taking, key=lambda w: (w.silent >= _DOUBTED, w.passed - self._left[w.number])):
            try:
                socket.send_fds(worker.intake, [kind], [connection.fileno()])
            except OSError:
                continue
            worker.passed += 1
            return

    def _send(self, worker: Worker, *message: object) -> None:
        worker.channel.send(message)
        self._watch(worker)

    def _watch(self, worker: Worker) -> None:
        key = self._selector.get_map().get(worker.channel.sock)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.unsent else 0)
        if key is not None and key.events != events:
            self._selector.modify(worker.channel.sock, events, key.data)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (perf_counter() + seconds, next(self._order), call))

    def _due(self) -> float:
        return max(0.0, self._timers[0][0] - perf_counter()) if self._timers else 1.0
