"""Bodies that a person gives, and one JSON request over HTTP."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

from aiservice.cli.exits import BAD_INPUT, NOT_READY, fail

TIMEOUT = 30.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""What runs here is never asked through a proxy."""
WRONG = (400, 404, 413, 415, 422)
"""Answers that blame the request."""


def text(data: str) -> str:
    """JSON as it is, from @FILE, or from standard input (@-)."""
    if not data.startswith("@"):
        return data
    if data == "@-":
        return sys.stdin.read()
    try:
        return Path(data[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        fail(BAD_INPUT, f"{data[1:]}: cannot be read: {error}")


def pairs(given: list[str]) -> str:
    """ID=DECISION texts, as the body of a request."""
    wrong = [g for g in given if "=" not in g]
    if wrong or not given:
        fail(BAD_INPUT, f"{wrong[0]!r} given, expected ID=DECISION" if wrong else "no labels given: ID=DECISION or -d @FILE")
    return json.dumps({"labels": dict(g.rsplit("=", 1) for g in given)})


def joined(answer: dict[str, Any]) -> str:
    """What became of labels."""
    unknown = answer["unknown"]
    return f"{answer['matched']} labels joined with their requests" + (f", {unknown} of unknown or forgotten requests" if unknown else "")


def post(
    url: str, body: str, headers: dict[str, str] | None = None, opener: urllib.request.OpenerDirector = DIRECT, hint: str = ""
) -> dict[str, Any]:
    """The JSON answer. Leaves with the answer's own sentence where it is an error."""
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", **(headers or {})}, method="POST")
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed
    except urllib.error.HTTPError as error:
        refused(error.code, error.read(), error.reason)
    except (urllib.error.URLError, OSError, ValueError) as error:
        fail(NOT_READY, f"{url}: no answer ({getattr(error, 'reason', error)}){hint}")


def refused(status: int, body: bytes, reason: str) -> NoReturn:
    """Leave with what the server said."""
    try:
        said = json.loads(body)
        message = said.get("error") or said["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        message = body.decode(errors="replace")[:300] or reason
    fail(BAD_INPUT if status in WRONG else NOT_READY, f"{status}: {message}")
