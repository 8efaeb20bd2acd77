"""How long the pure core takes for one reconcile of each of 1,000 services held in memory.

.venv/bin/python benchmarks/reconcile.py [SERVICES]
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from core.history import Numbers, Truth
from core.simulate import spec


def main() -> None:
    services = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    worlds = []
    for seed in range(services):
        world = Numbers(spec(1), random.Random(seed))
        for _ in range(3):
            world.turn()
        worlds.append(world)
    print(f"{services:,} services, one core:")
    _measure("idle (stable, nothing new)", worlds)
    for world in worlds:
        world.ask(spec(2), Truth(errors=0.005, slow=0.02))
        for _ in range(5):
            world.turn()
    _measure("in a rollout (evidence judged, sentences written)", worlds)


def _measure(what: str, worlds: list[Numbers]) -> None:
    began = time.process_time()
    for world in worlds:
        world.turn()
    spent = time.process_time() - began
    print(f"  {what}: {spent:.2f} s in all, {spent / len(worlds) * 1e3:.2f} ms a service")


if __name__ == "__main__":
    main()
