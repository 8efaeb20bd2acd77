"""The operator on the test cluster: seconds from apply to the first answer and from a verdict to the last request of the candidate, memory and CPU while
nothing happens, writes to the API server.

make cluster deploy && .venv/bin/python benchmarks/control_plane.py [--services 1,50] [--idle 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRIES = 5
"""A machine without a free core lets the acting operator lose its Lease."""
sys.path.insert(0, str(ROOT / "tests"))

from aiservice.api.status import AIServiceStatus, Decision, DecisionKind  # noqa: E402
from cluster.kube import PORT, SYSTEM, Kube, Refused, nodes, run  # noqa: E402
from cluster.kube import ready as is_ready  # noqa: E402
from local.machine import infer  # noqa: E402
from sending import Counts  # noqa: E402


@contextmanager
def namespace() -> Iterator[Kube]:
    made = Kube(f"bench-{uuid.uuid4().hex[:6]}")
    run("kubectl", "create", "namespace", made.namespace)
    made.claim()
    try:
        yield made
    finally:
        run("kubectl", "delete", "namespace", made.namespace)
        run("kubectl", "delete", "pv", f"models-{made.namespace}", "--wait=false")
        for node in nodes():
            run("docker", "exec", node, "rm", "-rf", f"/var/models/{made.namespace}")


def service(kube: Kube, name: str) -> dict[str, Any]:
    body = kube.service("v1", name=name)
    body["spec"]["realTime"]["resources"] = {"requests": {"cpu": "5m", "memory": "64Mi"}}
    return body


def leader() -> str:
    return run("kubectl", "-n", SYSTEM, "get", "lease", "aiservice-operator", "-o", "jsonpath={.spec.holderIdentity}")


@dataclass(frozen=True, slots=True)
class Reading:
    """One operator, at one time; counters begin with its process."""

    cpu: float
    """Seconds."""
    memory: float
    """MiB."""
    writes: float
    looks: float


def reading(pod: str) -> Reading | None:
    """None while the pod is just starting."""
    try:
        return _reading(pod)
    except (Refused, LookupError, StopIteration):
        return None


def _reading(pod: str) -> Reading:
    where = run("kubectl", "-n", SYSTEM, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
    summary = json.loads(run("kubectl", "get", "--raw", f"/api/v1/nodes/{where}/proxy/stats/summary"))
    stats = next(p for p in summary["pods"] if p["podRef"]["name"] == pod)
    text = run("kubectl", "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics")
    found = re.findall(r"^aiservice_operator_(api_writes|reconciles)_total\{([^}]*)\} (\S+)", text, re.MULTILINE)
    writes, looks = (
        sum(float(v) for name, labels, v in found if name == which and "Lease" not in labels) for which in ("api_writes", "reconciles")
    )
    return Reading(stats["cpu"]["usageCoreNanoSeconds"] / 1e9, stats["memory"]["workingSetBytes"] / 2**20, writes, looks)


def watched(during: Callable[[], object]) -> Reading | None:
    """What the acting operator used and did meanwhile, and its memory at the end; None if another one acts at the end, or it began anew."""
    pod = leader()
    before = reading(pod)
    during()
    after = reading(pod)
    if not before or not after or leader() != pod or after.looks < before.looks:
        return None
    return Reading(after.cpu - before.cpu, after.memory, after.writes - before.writes, after.looks - before.looks)


def until_ready(kube: Kube, names: list[str], patience: float) -> None:
    deadline = time.monotonic() + patience
    left = set(names)
    while left:
        left = {n for n in left if not is_ready(kube.status(n))} if len(left) == 1 else _unready(kube, left)
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready after {patience:.0f} s: {sorted(left)[:5]}")
        time.sleep(0.1)


def _unready(kube: Kube, names: set[str]) -> set[str]:
    conditions = {o["metadata"]["name"]: o.get("status", {}).get("conditions", ()) for o in kube.get("ais")["items"]}
    return {n for n in names if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions.get(n, ()))}


def first_answer(kube: Kube, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds from `kubectl apply` until Ready, and until the first answer through the gateway."""
    ready, answered = [], []
    for i in range(repeats):
        name, began = f"quick-{i}", time.monotonic()
        kube.apply(service(kube, name))
        until_ready(kube, [name], 120)
        ready.append(time.monotonic() - began)
        infer(f"http://127.0.0.1:{PORT}", kube.host(name), name)
        answered.append(time.monotonic() - began)
        kube.ctl("delete", "ais", name)
    return ready, answered


async def rolled_back(kube: Kube, scratch: Path, repeats: int) -> list[float]:
    """Seconds from the decision to roll back until no client meets the candidate any more, which has half of the requests and fails."""
    rollout: dict[str, Any] = {"replay": {"requests": 0}, "gates": {"errors": {"margin": "2%"}}, "steps": [{"weight": 50, "hold": "1h"}]}
    kube.apply(kube.service("v1", **rollout))
    await kube.until(is_ready, "v1 serves")
    out = []
    async with kube.traffic(clients=4, pause=0.005) as counts:
        for i in range(repeats):
            await asyncio.to_thread(kube.publish, scratch, f"bad-{i}", fails=5, bias=i / 1000)
            await asyncio.to_thread(kube.apply, kube.service(f"bad-{i}", **rollout))
            candidate = await kube.until(lambda s: s.rollout.candidate, "a candidate")
            watching = asyncio.create_task(last_met(counts, candidate))
            decided = await kube.until(decision(candidate), "rolled back")
            out.append(max(0.0, await watching - decided.at.timestamp()))
    return out


def decision(candidate: str) -> Callable[[AIServiceStatus], Decision | None]:
    return lambda s: next((d for d in s.rollout.decisions if d.revision == candidate and d.kind is DecisionKind.ROLLED_BACK), None)


async def last_met(counts: Counts, revision: str) -> float:
    """When a client last had an answer of this revision: five seconds passed without another."""
    seen, at = 0, 0.0
    while not at or time.time() - at < 5:
        if counts.by_revision[revision] != seen:
            seen, at = counts.by_revision[revision], time.time()
        await asyncio.sleep(0.005)
    return at


def told(what: str, seconds: list[float]) -> None:
    print(f"{what}: median {statistics.median(seconds):.1f} s of {len(seconds)}, worst {max(seconds):.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", default="1,50", help="how many AIServices, a list")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds that are looked at while nothing happens")
    parser.add_argument("--repeats", type=int, default=5, help="first answers and rollbacks that are timed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, namespace() as kube:
        kube.publish(Path(scratch), "v1")
        if asked.repeats:
            ready, answered = first_answer(kube, asked.repeats)
            told("apply -> Ready", ready)
            told("apply -> first answer", answered)
            told("decided to roll back -> the candidate's last request", asyncio.run(rolled_back(kube, Path(scratch), asked.repeats)))
            kube.ctl("delete", "ais", "--all")
        made: list[str] = []
        for wanted in sorted(int(n) for n in asked.services.split(",")):
            new = [f"svc-{i}" for i in range(len(made), wanted)]
            made += new
            began = time.monotonic()
            did = watched(lambda new=new: start(kube, new))  # type: ignore[misc]
            each = f", {did.writes / len(new):.1f} writes and {did.looks / len(new):.1f} looks each" if did else ""
            print(f"{wanted} services: {len(new)} more ready after {time.monotonic() - began:.0f} s{each}", flush=True)
            for _ in range(TRIES):
                time.sleep(30)
                still = watched(lambda: time.sleep(asked.idle))
                if still:
                    share = still.cpu / asked.idle * 100
                    did_what = f"{share:.1f} % of a core, {still.writes:.0f} writes in {still.looks:.0f} looks"
                    print(f"{wanted} services, idle {asked.idle:.0f} s: {still.memory:.0f} MiB, {did_what}", flush=True)
                    break
                print("the lead changed meanwhile: measured again", flush=True)


def start(kube: Kube, names: list[str]) -> None:
    for name in names:
        kube.apply(service(kube, name))
    until_ready(kube, names, 1200)


if __name__ == "__main__":
    main()
