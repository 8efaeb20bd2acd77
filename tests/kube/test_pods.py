"""Pods as the API server tells of them -> what runs of each revision."""

from __future__ import annotations

from typing import Any

from aiservice.api.runtime import CONTAINER, REFUSED
from aiservice.core.names import REVISION_LABEL
from aiservice.kube import pods


def pod(name: str = "p", revision: str = "r00000001", *, ready: bool = True, **state: Any) -> dict[str, Any]:
    container = {"name": CONTAINER, "restartCount": 0, "state": {"running": {}}} | state
    return {
        "metadata": {"name": name, "uid": name, "labels": {REVISION_LABEL: revision}},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [container],
        },
    }


def test_ready_counts_only_those_whose_golden_requests_were_right() -> None:
    two = [pod("a"), pod("b")]
    seen = pods.running(two, {"a.0": True}, {}, {"a.0": "sha256:x"}, {})["r00000001"]
    assert (seen.replicas, seen.ready, seen.digest) == (2, 1, "sha256:x")


def test_a_pod_that_leaves_is_not_counted() -> None:
    gone = pod("a")
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pods.running([gone], {"a.0": True}, {}, {}, {})["r00000001"].replicas == 0


def test_a_refusal_is_read_from_the_termination_message() -> None:
    ended = {"terminated": {"exitCode": REFUSED, "message": '{"reason": "DigestMismatch", "message": "expected a, got b"}'}}
    for state in ({"state": ended}, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}):
        refused = pods.running([pod(ready=False, **state)], {}, {}, {}, {})["r00000001"].refused
        assert refused is not None
        assert (refused.reason, refused.message) == ("DigestMismatch", "expected a, got b")


def test_a_refusal_without_words_is_one_still() -> None:
    ended = {"terminated": {"exitCode": REFUSED, "message": "Killed"}}
    refused = pods.refused(pod(ready=False, state=ended))
    assert refused is not None
    assert refused.message == "Killed"


def test_a_golden_mismatch_is_a_refusal() -> None:
    refused = pods.running([pod("a")], {}, {"a.0": "golden request 1: differs"}, {}, {})["r00000001"].refused
    assert refused is not None
    assert refused.reason == "GoldenMismatch"


def test_a_crash_is_no_refusal_and_says_how_often_and_why() -> None:
    state: dict[str, Any] = {
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 1, "message": "no memory"}},
    }
    seen = pods.running([pod(ready=False, **state)], {}, {}, {}, {})["r00000001"]
    assert seen.refused is None
    assert "CrashLoopBackOff" in seen.message
    assert "4 times" in seen.message
    assert "no memory" in seen.message


def test_a_missing_image_and_a_full_cluster_say_so() -> None:
    image = pod(ready=False, state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    assert "ErrImagePull: not found" in pods.words(image)
    pending = pod(ready=False)
    pending["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: insufficient cpu"}]
    assert "insufficient cpu" in pods.words(pending)


def test_one_that_was_killed_for_its_memory_says_what_to_raise() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert "realTime.resources.limits.memory" in pods.words(pod(ready=False, restartCount=2, lastState=ended))


def test_without_a_pod_kserve_is_asked_why() -> None:
    quota = {"type": "PredictorReady", "status": "False", "reason": "FailedCreate", "message": "exceeded quota: small"}
    follows = {"type": "Ready", "status": "False", "reason": "FailedCreate", "message": "PredictorReady is not"}
    assert pods.absent({"status": {"conditions": [follows, quota]}}) == "it has no pod: FailedCreate: exceeded quota: small"
    assert pods.absent({}) == "it has no pod yet"


def test_a_restart_is_another_run() -> None:
    assert pods.run(pod("a")) != pods.run(pod("a", restartCount=1))


def test_one_that_is_ready_and_cannot_be_asked_does_not_count_and_says_why() -> None:
    seen = pods.running([pod("a")], {}, {}, {}, {"a.0": "a is ready, but the operator cannot ask it: timeout"})["r00000001"]
    assert (seen.ready, seen.message) == (0, "a is ready, but the operator cannot ask it: timeout")
