"""Recent requests, stratified by decision, bounded in bytes, in memory only.

New requests enter a first-in-first-out part (three quarters of the bytes). What falls out of it moves to the ring of its rarest decision;
the rings share the last quarter, and the largest of them gives way first, so that rare decisions stay long after common ones are gone.
What is added is all there was, or under load a sample of it that was drawn without looking at decisions.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from sys import getsizeof

from aiservice_predictor.codec.tensors import Array, Tensors

OVERHEAD = 1024
"""Bytes that an entry takes beside its arrays, its id and its decisions."""
MAX_STRATA = 100
OTHER = "other"


@dataclass(slots=True, eq=False)
class Entry:
    """One recorded request."""

    id: str
    at: float
    sequence: int
    decisions: list[str]
    stratum: str
    inputs: Tensors
    size: int
    fair: bool = True
    label: str | None = None
    labelled: float | None = None
    label_sequence: int | None = None


def size_of(id: str, inputs: Tensors, rows: int) -> int:
    """Bytes that an entry holds on to: whole buffers where arrays are views."""
    size = OVERHEAD + len(id) * 4 + 96 * rows
    if len(inputs) == 1:
        (array,) = inputs.values()
        return size + _held(array)[1]
    return size + sum(dict(map(_held, inputs.values())).values())


def _held(array: Array) -> tuple[int, int]:
    """The buffer behind an array, and its bytes; with those of the texts in it."""
    holder, base = array, array.base
    while base is not None:
        holder, base = base, getattr(base, "base", None)
    if isinstance(holder, bytes):
        return id_of(holder), len(holder)
    if array.dtype == object:
        return id_of(holder), sum(map(getsizeof, array.ravel().tolist())) + array.nbytes
    return id_of(holder), max(array.nbytes, getattr(holder, "nbytes", 0))


id_of = id
"""The builtin: `id` names a request's id everywhere here."""


class Reservoir:
    """Entries that are kept; `limit` bytes at most at any time."""

    def __init__(self, limit: int) -> None:
        self._fifo_limit = limit * 3 // 4
        self._rare_limit = limit - self._fifo_limit
        self._fifo: deque[Entry] = deque()
        self._rings: dict[str, deque[Entry]] = {}
        self._ring_bytes: Counter[str] = Counter()
        self._by_id: dict[str, Entry] = {}
        self._labelled: OrderedDict[int, Entry] = OrderedDict()
        self._fifo_bytes = 0
        self._rare_bytes = 0
        self._last_label = 0

    @property
    def bytes(self) -> int:
        return self._fifo_bytes + self._rare_bytes

    def __len__(self) -> int:
        return len(self._fifo) + sum(map(len, self._rings.values()))

    def largest(self) -> int:
        """Bytes of the largest entry that is taken."""
        return self._fifo_limit

    def add(self, entry: Entry) -> None:
        """Keep an entry; older ones give way. One that is larger than the whole first part is not kept."""
        if entry.size > self._fifo_limit:
            return
        while self._fifo_bytes + entry.size > self._fifo_limit:
            self._retire(self._fifo.popleft())
        self._fifo.append(entry)
        self._fifo_bytes += entry.size
        self._by_id[entry.id] = entry

    def add_rare(self, entry: Entry) -> None:
        """Keep an entry for its decision alone, as if it had fallen out of the first part already."""
        self._by_id[entry.id] = entry
        self._keep_rare(entry)

    def label(self, id: str, text: str, now: float) -> bool:
        """Give a kept request its true decision; False where it is not kept (any more)."""
        entry = self._by_id.get(id)
        if entry is None:
            return False
        if entry.label_sequence is not None:
            self._labelled.pop(entry.label_sequence, None)
        self._last_label += 1
        entry.label, entry.labelled, entry.label_sequence = text, now, self._last_label
        self._labelled[self._last_label] = entry
        return True

    def labelled_after(self, sequence: int, limit: int) -> list[Entry]:
        """Labelled entries whose label came after that label sequence, in that order."""
        return _first(self._labelled.values(), limit, lambda e: (e.label_sequence or 0) > sequence)

    def spread(self, limit: int) -> list[Entry]:
        """At most `limit` entries: of each decision the most recent ones, an equal share each, then the most recent of the rest; oldest first."""
        newest = sorted((*self._fifo, *(e for ring in self._rings.values() for e in ring)), key=lambda e: -e.sequence)
        share = limit // max(1, len({e.stratum for e in newest}))
        taken: Counter[str] = Counter()
        chosen, rest = [], []
        for entry in newest:
            if taken[entry.stratum] < share:
                taken[entry.stratum] += 1
                chosen.append(entry)
            else:
                rest.append(entry)
        chosen += rest[: max(0, limit - len(chosen))]
        return sorted(chosen, key=lambda e: e.sequence)

    def _retire(self, entry: Entry) -> None:
        self._fifo_bytes -= entry.size
        self._keep_rare(entry)

    def _keep_rare(self, entry: Entry) -> None:
        if entry.size > self._rare_limit:
            self._forget(entry)
            return
        entry.fair = False
        self._rings.setdefault(entry.stratum, deque()).append(entry)
        self._ring_bytes[entry.stratum] += entry.size
        self._rare_bytes += entry.size
        while self._rare_bytes > self._rare_limit:
            stratum = max(self._ring_bytes, key=self._ring_bytes.__getitem__)
            self._drop_oldest(stratum)

    def _drop_oldest(self, stratum: str) -> None:
        ring = self._rings[stratum]
        entry = ring.popleft()
        self._ring_bytes[stratum] -= entry.size
        self._rare_bytes -= entry.size
        if not ring:
            del self._rings[stratum], self._ring_bytes[stratum]
        self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        if self._by_id.get(entry.id) is entry:
            del self._by_id[entry.id]
        if entry.label_sequence is not None:
            self._labelled.pop(entry.label_sequence, None)


def _first(entries: Iterable[Entry], limit: int, wanted: Callable[[Entry], bool]) -> list[Entry]:
    found: list[Entry] = []
    for entry in entries:
        if len(found) >= limit:
            break
        if wanted(entry):
            found.append(entry)
    return found
