"""The operator, killed right after its N-th write: python crashing.py N. Run in a node's network, where it reaches the Pods."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiservice.kube.cluster import Cluster
from aiservice.kube.main import main

left = int(sys.argv[1])


def deadly(verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        global left
        done = await verb(*args, **kwargs)
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return wrapped


for name in ("apply", "apply_status", "create", "delete"):
    setattr(Cluster, name, deadly(getattr(Cluster, name)))
main()
