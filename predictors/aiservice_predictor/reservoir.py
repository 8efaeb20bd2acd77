"""Recent requests, stratified by decision, bounded in bytes, in memory only.

New requests enter a first-in-first-out part (three quarters of the bytes). What falls out of it moves to the ring of its rarest decision;
the rings share the last quarter, and the largest of them gives way first, so that rare decisions stay long after common ones are gone.
What is added is all there was, or under load a sample of it that was drawn without looking at decisions.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from aiservice_predictor.codec.tensors import Tensors
from aiservice_predictor.record import Contents, Record, size_of, unpack

MAX_STRATA = 100
OTHER = "other"
LABEL = 512
"""Bytes that a label takes beside its text, at four a character."""
_STRATUM, _DRAWN, _HEAD = 0, 1, 10
"""A kept request is one `bytes`: the number of its stratum, whether it was drawn, eight bytes of its sequence, then the record."""
_MOST_NUMBERS = 255
_NONE: Tensors = {}


@dataclass(frozen=True, slots=True)
class Label:
    """The true decision of a request, learnt later."""

    text: str
    at: float
    """Unix seconds when it came."""
    sequence: int
    """Order in which labels came."""

    @property
    def size(self) -> int:
        return LABEL + 4 * len(self.text)


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that is kept, as it is given out."""

    id: str
    at: float
    """Unix seconds."""
    sequence: int
    """Order in which requests were kept."""
    decisions: list[str]
    stratum: str
    inputs: Tensors
    size: int
    fair: bool
    """False: kept for its decision, beside those that stand for all."""
    label: Label | None


class Reservoir:
    """Keeps `limit` bytes at most at any time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fifo_limit = limit * 3 // 4
        self._rare_limit = limit - self._fifo_limit
        self._sequence = 0
        self._fifo: deque[bytes] = deque()
        self._rings: dict[int, deque[bytes]] = {}
        """By the number of their stratum."""
        self._ring_bytes: Counter[int] = Counter()
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._by_id: dict[int, bytes] = {}
        """By the hash of the id, which is smaller than the id."""
        self._large: dict[int, Tensors] = {}
        self._labels: dict[int, Label] = {}
        """Both by sequence."""
        self._labelled: OrderedDict[int, bytes] = OrderedDict()
        """By the label's sequence."""
        self._fifo_bytes = 0
        self._rare_bytes = 0
        self._label_bytes = 0
        self._last_label = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self._fifo_bytes + self._rare_bytes + self._label_bytes

    def __len__(self) -> int:
        return len(self._fifo) + sum(map(len, self._rings.values()))

    def add(self, record: Record, stratum: str, drawn: bool = True) -> None:
        """Keep a request; older ones give way. Drawn: one that stands for all; otherwise it is kept for its decision alone, as if it had
        fallen out of the first part already. One that is larger than the whole part is not kept."""
        self._sequence += 1
        kept = bytes((self._number(stratum), drawn)) + self._sequence.to_bytes(_HEAD - _DRAWN - 1, "little") + record.packed
        if record.large:
            self._large[self._sequence] = record.large
        size = self._size(kept)
        if size > (self._fifo_limit if drawn else self._rare_limit):
            self._large.pop(self._sequence, None)
            return
        self._by_id[hash(record.id)] = kept
        if drawn:
            self._fifo.append(kept)
            self._fifo_bytes += size
        else:
            self._keep_rare(kept, size)
        self._shrink()

    def label(self, id: str, text: str, now: float) -> bool:
        """Give a kept request its true decision; False where it is not kept (any more), or where the text is too long to be kept."""
        kept = self._by_id.get(hash(id))
        label = Label(text, now, self._last_label + 1)
        if kept is None or label.size > self._limit // 16 or self._record(kept).id != id:
            return False
        sequence = _sequence(kept)
        self._unlabel(sequence)
        self._last_label += 1
        self._labels[sequence] = label
        self._labelled[label.sequence] = kept
        self._label_bytes += label.size
        self._shrink()
        return sequence in self._labels

    def labelled_after(self, sequence: int, limit: int) -> list[Entry]:
        """Labelled entries whose label came after that label sequence, in that order."""
        return [self._entry(kept) for kept in islice((k for s, k in self._labelled.items() if s > sequence), limit)]

    def spread(self, limit: int) -> list[Entry]:
        """At most `limit` entries: of each decision the most recent ones, an equal share each, then the most recent of the rest; oldest first."""
        there = Counter(map(itemgetter(_STRATUM), self._fifo))
        share = limit // max(1, len({*there, *self._rings}))
        found = [kept for ring in self._rings.values() for kept in islice(reversed(ring), limit)]
        found += _recent(self._fifo, limit, Counter({number: min(share, count) for number, count in there.items()}))
        taken: Counter[int] = Counter()
        chosen, rest = [], []
        for kept in sorted(found, key=_sequence, reverse=True):
            if taken[kept[_STRATUM]] < share:
                taken[kept[_STRATUM]] += 1
                chosen.append(kept)
            else:
                rest.append(kept)
        chosen += rest[: max(0, limit - len(chosen))]
        return [self._entry(kept) for kept in sorted(chosen, key=_sequence)]

    def _number(self, stratum: str) -> int:
        number = self._numbers.get(stratum)
        if number is None:
            if len(self._names) >= _MOST_NUMBERS and stratum != OTHER:
                return self._number(OTHER)
            number = self._numbers[stratum] = len(self._names)
            self._names.append(stratum)
        return number

    def _record(self, kept: bytes) -> Contents:
        return unpack(memoryview(kept)[_HEAD:], self._large.get(_sequence(kept), _NONE))

    def _size(self, kept: bytes) -> int:
        return size_of(kept, self._large.get(_sequence(kept), _NONE))

    def _entry(self, kept: bytes) -> Entry:
        sequence, contents = _sequence(kept), self._record(kept)
        fair = bool(kept[_DRAWN]) and bool(self._fifo) and sequence >= _sequence(self._fifo[0])
        return Entry(
            contents.id, contents.at, sequence, contents.decisions, self._names[kept[_STRATUM]], contents.inputs,
            self._size(kept), fair, self._labels.get(sequence),
        )  # fmt: skip

    def _shrink(self) -> None:
        while self._fifo and self._fifo_bytes + self._label_bytes > self._fifo_limit:
            kept = self._fifo.popleft()
            size = self._size(kept)
            self._fifo_bytes -= size
            self._keep_rare(kept, size)
        while self._rings and self.size > self._limit:
            self._drop_oldest()

    def _keep_rare(self, kept: bytes, size: int) -> None:
        if size > self._rare_limit:
            self._forget(kept)
            return
        number = kept[_STRATUM]
        self._rings.setdefault(number, deque()).append(kept)
        self._ring_bytes[number] += size
        self._rare_bytes += size
        while self._rare_bytes > self._rare_limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Of the largest ring."""
        number = max(self._ring_bytes, key=self._ring_bytes.__getitem__)
        ring = self._rings[number]
        kept = ring.popleft()
        size = self._size(kept)
        self._ring_bytes[number] -= size
        self._rare_bytes -= size
        if not ring:
            del self._rings[number], self._ring_bytes[number]
        self._forget(kept)

    def _forget(self, kept: bytes) -> None:
        key, sequence = hash(self._record(kept).id), _sequence(kept)
        if self._by_id.get(key) is kept:
            del self._by_id[key]
        self._large.pop(sequence, None)
        self._unlabel(sequence)

    def _unlabel(self, sequence: int) -> None:
        label = self._labels.pop(sequence, None)
        if label is not None:
            del self._labelled[label.sequence]
            self._label_bytes -= label.size


def _sequence(kept: bytes) -> int:
    return int.from_bytes(kept[_DRAWN + 1 : _HEAD], "little")


def _recent(fifo: deque[bytes], limit: int, wanted: Counter[int]) -> list[bytes]:
    """The last `limit`, and of each stratum as many of the last as are wanted."""
    found, missing = [], wanted.total()
    for place, kept in enumerate(reversed(fifo)):
        if place >= limit and not missing:
            break
        short = wanted[kept[_STRATUM]] > 0
        if short:
            wanted[kept[_STRATUM]] -= 1
            missing -= 1
        if short or place < limit:
            found.append(kept)
    return found
