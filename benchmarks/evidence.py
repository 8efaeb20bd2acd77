"""How often a rollout decides wrongly, and how soon rightly: whole rollouts through the real state machine, looked at after every batch.

    .venv/bin/python benchmarks/evidence.py [ROLLOUTS]        prints the table of docs/evidence.md; 2,000 a row unless said
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from core.history import Numbers, Truth

from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import DecisionKind

ROWS = {
    "identical (0.5 % errors, 2 % slow)": (Truth(errors=0.005, slow=0.02), Truth(errors=0.005, slow=0.02)),
    "errors +0.5 % (at the margin)": (Truth(errors=0.005, slow=0.02), Truth(errors=0.010, slow=0.02)),
    "errors +1 %": (Truth(errors=0.005, slow=0.02), Truth(errors=0.015, slow=0.02)),
    "errors +4 %": (Truth(errors=0.005, slow=0.02), Truth(errors=0.045, slow=0.02)),
    "latency +3 %": (Truth(errors=0.005, slow=0.02), Truth(errors=0.005, slow=0.05)),
}
LONGEST = 3 * 3600.0


def spec(version: int) -> AIServiceSpec:
    steps = [{"weight": 5, "hold": "2m"}, {"weight": 25, "hold": "5m"}, {"weight": 50, "hold": "5m"}]
    gates = {"errors": {"margin": "0.5%"}, "latency": {"slo": "100ms", "margin": "1%"}}
    body = {"model": {"uri": f"file:///v{version}"}, "rollout": {"replay": {"requests": 0}, "steps": steps, "gates": gates}}
    return AIServiceSpec.model_validate_json(json.dumps(body))


def rollout(stable: Truth, candidate: Truth, seed: int, *, rate: float = 50.0, seconds: float = 5.0) -> tuple[DecisionKind | None, float, int]:
    """One rollout at `rate` requests a second, a look every `seconds`. -> how it ended, after how many seconds, candidate requests."""
    world = Numbers(spec(1), random.Random(seed), rate=rate, seconds=seconds, bare=True)
    world.truth[world.wanted] = stable
    for _ in range(3):
        world.turn()
    world.ask(spec(2), candidate)
    ends = (DecisionKind.PROMOTED, DecisionKind.ROLLED_BACK)
    for _ in range(int(LONGEST / seconds)):
        world.turn()
        last = world.status.rollout.decisions[-1]
        if last.kind in ends and last.revision == world.wanted:
            return last.kind, last.seconds, last.requests
    return None, LONGEST, world.status.rollout.requests


def row(args: tuple[str, int]) -> str:
    name, rollouts = args
    ended = [rollout(*ROWS[name], seed) for seed in range(rollouts)]
    promoted = sum(kind is DecisionKind.PROMOTED for kind, _, _ in ended)
    back = sum(kind is DecisionKind.ROLLED_BACK for kind, _, _ in ended)
    most = max((DecisionKind.PROMOTED, DecisionKind.ROLLED_BACK), key=lambda k: sum(e[0] is k for e in ended))
    minutes = [s / 60 for kind, s, _ in ended if kind is most]
    requests = [n for kind, _, n in ended if kind is most]
    p90 = quantiles(minutes, n=10)[-1]
    return (
        f"| {name} | {promoted / rollouts:.1%} | {back / rollouts:.1%} | {1 - (promoted + back) / rollouts:.1%} | "
        f"{median(minutes):.1f} / {p90:.1f} | {median(requests):,.0f} |"
    )


def main() -> None:
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{rollouts:,} rollouts a row, 50 requests/s, a look every 5 s, steps 5/25/50 % (2, 5, 5 minutes), confidence 95 %\n")
    print("| candidate | promoted | rolled back | still waiting | minutes (median / p90) | candidate requests |")
    print("|---|---|---|---|---|---|")
    with ProcessPoolExecutor(2) as pool:
        for line in pool.map(row, [(name, rollouts) for name in ROWS]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
