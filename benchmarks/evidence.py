"""How often a rollout decides wrongly, and how soon rightly: whole rollouts through the real state machine, looked at after every batch.

.venv/bin/python benchmarks/evidence.py [ROLLOUTS]        prints the table of docs/evidence.md; 2,000 a row unless said
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from aiservice.api.status import DecisionKind
from core.history import Truth
from core.simulate import rollout

ROWS = {
    "identical (0.5 % errors, 2 % slow)": (Truth(errors=0.005, slow=0.02), Truth(errors=0.005, slow=0.02)),
    "errors +0.5 % (at the margin)": (Truth(errors=0.005, slow=0.02), Truth(errors=0.010, slow=0.02)),
    "errors +1 %": (Truth(errors=0.005, slow=0.02), Truth(errors=0.015, slow=0.02)),
    "errors +4 %": (Truth(errors=0.005, slow=0.02), Truth(errors=0.045, slow=0.02)),
    "latency +3 %": (Truth(errors=0.005, slow=0.02), Truth(errors=0.005, slow=0.05)),
}


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
