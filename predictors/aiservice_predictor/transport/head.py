"""The head of an HTTP/1 request: bytes -> Head, strictly. Whatever two servers could read in two ways is refused.

A head is a pure function of its bytes, and a client that keeps its connection sends the same bytes again and again: `Heads` remembers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from aiservice_predictor.failures import Failure

MAX_HEAD = 2**16
"""Bytes of a request's first line and headers."""
MAX_FIELDS = 100
_REMEMBERED = 512
_LONGEST_REMEMBERED = 2048
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIRST = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELD = re.compile(rb"(%s):[ \t]*([\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?)?[ \t]*" % _TOKEN)
_ABSOLUTE = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]{1,15}")


class BadHead(Exception):
    """The connection is over: after this, nobody knows where the next request would begin."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Head:
    """One request's head. `route` and what follows it is set by the routes, once for the same bytes."""

    __slots__ = (
        "chunked", "continues", "direct", "echo", "fields", "gzip_in", "gzip_out", "json_size", "keep", "length", "method", "old", "path",
        "plain", "query", "refusal", "replay", "route",
    )  # fmt: skip

    def __init__(self, method: str, path: str, query: bytes, fields: dict[bytes, bytes], old: bool) -> None:
        self.method, self.path, self.query, self.fields, self.old = method, path, query, fields, old
        """`old`: HTTP/1.0. Names of fields are in lower case; values of one that came several times are joined by commas."""
        self.length = 0
        self.chunked = False
        self.continues = False
        """The client waits for 100 before it sends the body."""
        self.keep = not old
        self.plain = True
        """The body, if any, follows at once with its length said: no chunks, nobody waits for 100."""
        self.route: Any
        """The transport.routes.Route that answers."""
        self.refusal: Failure | None = None
        """The answer, where the head alone decides that the request is refused."""
        self.echo = b""
        """Header lines of the answer that repeat the request's."""
        self.gzip_in = self.gzip_out = self.replay = False
        self.json_size: int | None = None
        self.direct = False
        """A body that does not come at once is received where its tensors will be read."""


class Heads:
    """Parses, and remembers what was parsed."""

    def __init__(self, prepare: Callable[[Head], None]) -> None:
        self._prepare = prepare
        self._known: dict[bytes, Head] = {}

    def get(self, raw: bytes) -> Head:
        """`raw`: from the first line to the last header, without the empty line. Raises BadHead."""
        head = self._known.get(raw)
        if head is None:
            head = parse(raw)
            self._prepare(head)
            if len(raw) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[raw] = head
        return head


def parse(raw: bytes) -> Head:
    """Raises BadHead."""
    lines = raw.removeprefix(b"\r\n").split(b"\r\n")
    first = _FIRST.fullmatch(lines[0])
    if first is None:
        raise BadHead("the first line must be: METHOD TARGET HTTP/1.1")
    if first[3] != b"1":
        raise BadHead("HTTP/1.1 is spoken here", 505)
    if len(lines) - 1 > MAX_FIELDS:
        raise BadHead(f"the request has more than {MAX_FIELDS} headers", 431)
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadHead(f"a header line is not 'name: value': '{line[:80].decode('latin-1')}'")
        name, value = match[1].lower(), match[2] or b""
        if name in fields:
            if name in (b"content-length", b"transfer-encoding", b"host"):
                raise BadHead(f"{name.decode()} is given twice")
            value = fields[name] + b", " + value
        fields[name] = value
    path, query = _target(first[2])
    head = Head(first[1].decode(), path, query, fields, old=first[4] == b"0")
    if b"host" not in fields and not head.old:
        raise BadHead("the host header is missing")
    _framing(head)
    _connection(head)
    return head


def _target(target: bytes) -> tuple[str, bytes]:
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            target = target[absolute.end() :] or b"/"
        elif target != b"*":
            raise BadHead("the target must begin with '/'")
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return unquote(path.decode("ascii")), query


def _framing(head: Head) -> None:
    length, coding = head.fields.get(b"content-length"), head.fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadHead("content-length and transfer-encoding are both given")
        if head.old:
            raise BadHead("HTTP/1.0 has no transfer-encoding")
        if coding.lower() != b"chunked":
            raise BadHead(f"transfer-encoding '{coding[:40].decode('latin-1')}' is not spoken here; send chunked or none", 501)
        head.chunked = True
    elif length is not None:
        if not _DIGITS.fullmatch(length):
            raise BadHead(f"content-length '{length[:40].decode('latin-1')}' is not a number of bytes")
        head.length = int(length)
    expect = head.fields.get(b"expect")
    if expect is not None and not head.old:
        if expect.lower() != b"100-continue":
            raise BadHead(f"expectation '{expect[:40].decode('latin-1')}' cannot be met", 417)
        head.continues = head.chunked or head.length > 0
    head.plain = not head.chunked and not head.continues


def _connection(head: Head) -> None:
    said = {word.strip().lower() for word in head.fields.get(b"connection", b"").split(b",")}
    if b"close" in said:
        head.keep = False
    elif head.old:
        head.keep = b"keep-alive" in said
