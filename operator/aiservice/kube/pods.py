"""Pods -> what runs of each revision. Pure: API objects in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from aiservice.api.runtime import CONTAINER, HTTP_PORT, REFUSED, Refusal
from aiservice.core import names
from aiservice.core.world import Manifest, Running

LOUD = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
)


def revision(pod: Manifest) -> str | None:
    """Whose pod it is: KServe hands an InferenceService's labels to its pods."""
    found = pod["metadata"].get("labels", {}).get(names.REVISION_LABEL)
    return str(found) if found else None


def leaving(pod: Manifest) -> bool:
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def ready(pod: Manifest) -> bool:
    """The kubelet says so; whether its answers are right is another question."""
    conditions = pod.get("status", {}).get("conditions", ())
    return not leaving(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def run(pod: Manifest, container: str = CONTAINER) -> str:
    """Changes whenever the predictor (or another container) in it starts anew."""
    return f"{pod['metadata']['uid']}.{_state(pod, container).get('restartCount', 0)}"


def address(pod: Manifest) -> str | None:
    found = pod.get("status", {}).get("podIP")
    return str(found) if found else None


def url(pod: Manifest) -> str:
    """Under which its predictor answers."""
    return f"http://{address(pod)}:{HTTP_PORT}"


def refused(pod: Manifest) -> Refusal | None:
    """A predictor that will not load its model says why in its termination message."""
    state = _state(pod)
    for past in (state.get("state", {}), state.get("lastState", {})):
        ended = past.get("terminated")
        if ended and ended.get("exitCode") == REFUSED:
            try:
                return Refusal.model_validate_json(ended.get("message", ""))
            except ValidationError:
                return Refusal(reason="DamagedBundle", message=ended.get("message") or "the predictor refused its model without a word")
    return None


def words(pod: Manifest) -> str:
    """What a person would want to know of a pod that is not ready."""
    status = pod.get("status", {})
    for c in status.get("conditions", ()):
        if c["type"] == "PodScheduled" and c["status"] == "False":
            return f"cannot be scheduled: {c.get('message', c.get('reason', ''))}"
    for state in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        waiting = state.get("state", {}).get("waiting", {})
        said = [f"{waiting['reason']}: {waiting.get('message', '')[:300]}"] if waiting.get("reason") in LOUD else []
        said += _ends(state)
        if said:
            return f"{state['name']}: {'; '.join(said)}"
    return f"{status.get('phase', 'Unknown').lower()}, not ready yet"


def _ends(state: Manifest) -> list[str]:
    """How often a container ended, how it did the last time, and its last words."""
    now, before = (state.get(which, {}).get("terminated", {}) for which in ("state", "lastState"))
    ended = now if now.get("exitCode") else before
    if not ended:
        return []
    said = " ".join(ended.get("message", "").split())[-300:] or "it said nothing"
    how = f"with status {ended.get('exitCode')}: {said}"
    if ended.get("reason") == "OOMKilled":
        how = "killed for its memory (OOMKilled): realTime.resources.limits.memory is too little for it"
    return [f"it ended {state.get('restartCount', 0) + (ended is now)} times, last {how}"]


def absent(service: Manifest) -> str:
    """What KServe says of an InferenceService that has no pod: a quota, a webhook, a policy, a Secret that is not there."""
    said = {c["type"]: c for c in service.get("status", {}).get("conditions", ()) if c["status"] == "False" and c.get("message")}
    found = said.get("PredictorReady") or said.get("Ready")
    return f"it has no pod: {found.get('reason', '')}: {found['message']}" if found else "it has no pod yet"


def running(
    pods: Sequence[Manifest],
    answers: Mapping[str, bool],
    wrong: Mapping[str, str],
    digests: Mapping[str, str],
    silent: Mapping[str, str],
) -> dict[str, Running]:
    """Revision -> what runs. `answers`: runs whose golden requests were right; `wrong`: those whose were not, and how; `digests`: run -> model;
    `silent`: ready runs that could not be asked, and why."""
    out: dict[str, Running] = {}
    for name in sorted({r for p in pods if (r := revision(p))}):
        own = [p for p in pods if revision(p) == name and not leaving(p)]
        good = [p for p in own if ready(p) and answers.get(run(p))]
        mismatch = next((wrong[run(p)] for p in own if run(p) in wrong), None)
        refusal = next((found for p in own if (found := refused(p))), None)
        if refusal is None and mismatch:
            refusal = Refusal(reason="GoldenMismatch", message=mismatch[:2048])
        digest = next((digests[run(p)] for p in own if run(p) in digests), None)
        waiting = next((silent.get(run(p)) or words(p) for p in own if p not in good), "ready" if good else "no pod yet")
        out[name] = Running(len(own), len(good), digest, refusal, waiting)
    return out


def _state(pod: Manifest, container: str = CONTAINER) -> dict[str, Any]:
    states = pod.get("status", {}).get("containerStatuses", ())
    return next((dict(s) for s in states if s.get("name") == container), {})
