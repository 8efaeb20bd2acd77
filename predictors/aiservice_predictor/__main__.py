"""`python -m aiservice_predictor` serves what the environment says; `python -m aiservice_predictor inspect PATH` describes a model."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from aiservice.api.runtime import REFUSED
from aiservice.bundle.read import Refused

_USAGE = "usage: python -m aiservice_predictor [inspect PATH]"


def main() -> None:
    """Exits 0 when ended by a signal, 78 where the model is refused, 2 on a wrong command or environment."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    arguments = sys.argv[1:]
    if not arguments:
        status = _serve()
    elif len(arguments) == 2 and arguments[0] == "inspect":
        status = _inspect(Path(arguments[1]))
    else:
        print(_USAGE, file=sys.stderr)
        status = 2
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a call of the model that still runs would hold the interpreter


def _serve() -> int:
    from aiservice_predictor.arrival import arrived
    from aiservice_predictor.config import WrongConfig, from_environment
    from aiservice_predictor.server import serve

    try:
        config = from_environment(os.environ)
    except WrongConfig as error:
        print(f"aiservice_predictor: {error}", file=sys.stderr)
        return 2
    try:
        arrived(Path(config.model_dir), os.environ)
        return serve(config)
    except WrongConfig as error:
        print(f"aiservice_predictor: {error}", file=sys.stderr)
        return 2
    except Refused as refused:
        with contextlib.suppress(OSError):
            Path(config.termination_log).write_text(refused.refusal().model_dump_json(by_alias=True))
        print(f"aiservice_predictor: {refused.reason}: {' '.join(refused.message.split())}", file=sys.stderr)
        return REFUSED
    except (OSError, RuntimeError) as error:
        print(f"aiservice_predictor: cannot listen on {config.host}: {error}", file=sys.stderr)
        return 1


def _inspect(path: Path) -> int:
    import orjson

    from aiservice_predictor.inspect_model import inspect

    try:
        print(orjson.dumps(inspect(path), option=orjson.OPT_INDENT_2).decode())
    except Refused as refused:
        print(refused.refusal().model_dump_json(by_alias=True), file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    main()
