"""What KServe does that we step around or rely on, pinned on the real controller: a KServe that does otherwise fails here, and each test says what then changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiservice.api.runtime import CONTAINER, GRPC_PORT, HTTP_PORT, RUNTIME
from cluster.kube import Kube, Refused, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

MODE, AUTOSCALER = "serving.kserve.io/deploymentMode", "serving.kserve.io/autoscalerClass"
HELM_SECRET, KUSTOMIZE_SECRET = "serving.kserve.io/secretName", "serving.kserve.io/storageSecretName"
LOCAL = {"networking.kserve.io/visibility": "cluster-local"}
OWNER = "serving.kserve.io/inferenceservice"
BROKEN = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self): self.send_error(500)
    do_POST = do_GET
HTTPServer(("", 8080), Handler).serve_forever()
"""


def model(uri: str | None = "pvc://models/v1", **more: Any) -> dict[str, Any]:
    """A predictor of ours."""
    where = {"storageUri": uri} if uri else {}
    small = {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {}}
    name = [{"name": "AISERVICE_MODEL_NAME", "value": "svc"}]
    return more | {"model": {"modelFormat": {"name": "onnx"}, "runtime": RUNTIME, "env": name, "resources": small} | where}


def program(text: str) -> dict[str, Any]:
    """A predictor that is any Python program."""
    image = json.loads(run("kubectl", "get", "clusterservingruntime", RUNTIME, "-o", "json"))["spec"]["containers"][0]["image"]
    small = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {}}
    ports = [{"containerPort": HTTP_PORT}]
    return {"containers": [{"name": CONTAINER, "image": image, "command": ["python", "-c", text], "ports": ports, "resources": small}]}


def isvc(
    kube: Kube,
    predictor: dict[str, Any],
    *,
    name: str = "svc",
    labels: dict[str, str] = LOCAL,
    annotations: dict[str, str] | None = None,
    scaler: str = "external",
    **spec: Any,
) -> None:
    about = {
        "name": name,
        "namespace": kube.namespace,
        "labels": labels,
        "annotations": {MODE: "Standard", AUTOSCALER: scaler} | (annotations or {}),
    }
    body = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": about}
    kube.apply(body | {"spec": {"predictor": predictor} | spec})


def until(holds: Callable[[], Any], what: str) -> Any:
    """The first true value; what is not there yet is not true."""
    deadline, found = time.monotonic() + 90, None
    while time.monotonic() < deadline:
        try:
            found = holds()
        except Refused as refused:
            found = refused
        if found and not isinstance(found, Refused):
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within 90 s; {found}")


def condition(kube: Kube, kind: str) -> str:
    return next((str(c["status"]) for c in kube.get("isvc", "svc").get("status", {}).get("conditions", ()) if c["type"] == kind), "")


def names(kube: Kube, kinds: str) -> list[str]:
    return sorted(o["metadata"]["name"] for o in kube.get(kinds)["items"])


def deployment(kube: Kube, name: str = "svc-predictor") -> dict[str, Any]:
    found: dict[str, Any] = kube.get("deployment", name)
    return found


def test_a_canary_of_kserve_moves_no_request_and_takes_capacity_away(kube: Kube, tmp_path: Path) -> None:
    """So one InferenceService stands for one revision and the routes are ours (core/render): 0.20 has the field, 0.21 is to have the weights."""
    kube.publish(tmp_path, "v1")
    isvc(kube, model(minReplicas=2, name="stable"), labels={}, scaler="none")
    until(lambda: condition(kube, "Ready") == "True", "ready")
    assert deployment(kube, "svc-stable-predictor")["spec"]["replicas"] == 2
    canary = {"predictor": model(name="next"), "trafficPercent": 50}
    isvc(kube, model(minReplicas=2, name="stable"), labels={}, scaler="none", canary=[canary])
    (said,) = until(lambda: [s for s in kube.get("isvc", "svc")["status"].get("canaryStatuses", ()) if s["ready"]], "the canary is ready")
    assert (said["name"], said["trafficPercent"]) == ("next", 50)
    assert deployment(kube, "svc-stable-predictor")["spec"]["replicas"] == 1
    backends = [b for route in kube.get("httproutes")["items"] for rule in route["spec"]["rules"] for b in rule["backendRefs"]]
    assert {b["name"] for b in backends} == {"svc-stable-predictor"}


def test_the_observed_generation_is_its_deployments(kube: Kube, tmp_path: Path) -> None:
    """So it is never waited for: pods are looked at (kube/pods.py). With class external KServe leaves the replicas to our autoscaler."""
    kube.publish(tmp_path, "v1")
    isvc(kube, model())
    until(lambda: condition(kube, "Ready") == "True", "ready")
    kube.ctl("scale", "deployment/svc-predictor", "--replicas=2")
    found = until(
        lambda: (i := kube.get("isvc", "svc"))["status"].get("observedGeneration") == 2 and i, "the Deployment's second generation"
    )
    assert found["metadata"]["generation"] == 1
    assert deployment(kube)["spec"]["replicas"] == 2


def test_ready_is_an_open_port_where_no_probe_is_given(kube: Kube) -> None:
    """So we give one that asks for the model (core/render/inference.py), and send golden requests before a revision counts (kube/world.py)."""
    isvc(kube, program(BROKEN))
    until(lambda: condition(kube, "Ready") == "True", "a server of errors is Ready")
    (pod,) = kube.get("pods", "-l", f"{OWNER}=svc")["items"]
    assert "tcpSocket" in pod["spec"]["containers"][0]["readinessProbe"]
    with pytest.raises(Refused, match="Internal Server Error"):
        kube.ctl("get", "--raw", f"/api/v1/namespaces/{kube.namespace}/pods/{pod['metadata']['name']}:{HTTP_PORT}/proxy/")


def test_what_is_written_on_it_goes_to_its_pods_and_restarts_them(kube: Kube) -> None:
    """So all that a rollout remembers is in our own status, and pods are found by our labels: the policy, the spread and kube/pods.py need them there.

    Its Service and Deployment carry our labels as well: pruning goes by owner (kube/world.py).
    """
    isvc(kube, program(BROKEN), labels=LOCAL | {"example.com/revision": "r1"})
    until(lambda: condition(kube, "Ready") == "True", "ready")
    service = kube.get("service", "svc-predictor")
    assert service["metadata"]["labels"]["example.com/revision"] == "r1"
    assert [o["kind"] for o in service["metadata"]["ownerReferences"]] == ["InferenceService"]
    before = deployment(kube)["metadata"]["generation"]
    kube.ctl("annotate", "isvc", "svc", "example.com/note=x")
    changed = until(lambda: (d := deployment(kube))["metadata"]["generation"] > before and d, "another pod template")
    template = changed["spec"]["template"]["metadata"]
    assert (template["annotations"]["example.com/note"], template["labels"]["example.com/revision"]) == ("x", "r1")
    until(lambda: len({p["metadata"]["labels"]["pod-template-hash"] for p in kube.get("pods")["items"]}) == 2, "the pod is replaced")


def test_one_that_is_cluster_local_gets_no_route_and_no_autoscaler_and_is_ready(kube: Kube) -> None:
    """So KServe's route and HPA never stand beside ours (core/render/inference.py)."""
    isvc(kube, program(BROKEN))
    isvc(kube, program(BROKEN), name="open", labels={}, scaler="hpa")
    until(lambda: condition(kube, "Ready") == "True", "ready")
    assert condition(kube, "IngressReady") == "True"
    until(lambda: names(kube, "httproutes") == ["open", "open-predictor"], "routes of the other one")
    assert names(kube, "hpa") == ["open-predictor"]


def test_an_autoscaler_named_like_kserves_is_taken_over_and_deleted(kube: Kube) -> None:
    """Whoever made it. So ours is `<isvc>-scale` (core/names.py)."""
    isvc(kube, program(BROKEN))
    until(lambda: condition(kube, "PredictorReady"), "KServe has seen it")
    for name in ("svc-predictor", "svc-scale"):
        kube.apply(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": name, "namespace": kube.namespace},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "svc-predictor"},
                    "minReplicas": 1,
                    "maxReplicas": 7,
                },
            }
        )
    isvc(kube, program(BROKEN) | {"maxReplicas": 3})
    until(lambda: names(kube, "hpa") == ["svc-scale"], "the one of that name is gone")
    assert kube.get("hpa", "svc-scale")["spec"]["maxReplicas"] == 7


def test_a_model_without_a_source_gets_the_agent_of_many_models(kube: Kube) -> None:
    """So every revision has a storageUri (model.uri is required)."""
    isvc(kube, model(None))
    found = until(lambda: kube.get("pods", "-l", f"{OWNER}=svc")["items"], "a pod")
    assert {c["name"] for c in found[0]["spec"]["containers"]} == {CONTAINER, "agent"}


def test_its_service_has_the_ports_of_the_runtime(kube: Kube, tmp_path: Path) -> None:
    """gRPC among them, as HTTP/2. A runtime of a namespace's own may lack it, so gRPC has a Service of ours (core/render/service.py)."""
    kube.publish(tmp_path, "v1")
    isvc(kube, model())
    ports = until(lambda: kube.get("service", "svc-predictor")["spec"]["ports"], "a Service")
    found = [(p["port"], p["targetPort"], p.get("appProtocol")) for p in ports]
    assert found == [(80, HTTP_PORT, None), (GRPC_PORT, GRPC_PORT, "kubernetes.io/h2c")]


def test_services_that_look_like_its_own_are_deleted(kube: Kube) -> None:
    """So ours has KServe's labels in its selector and none of them on itself (core/render/service.py)."""
    isvc(kube, program(BROKEN))
    until(lambda: condition(kube, "PredictorReady"), "KServe has seen it")
    selector = {OWNER: "svc", "component": "predictor"}
    for name, labels in (("alike", selector), ("svc-grpc", {"app.kubernetes.io/managed-by": "aiservice"})):
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": kube.namespace, "labels": labels},
                "spec": {"selector": selector, "ports": [{"port": GRPC_PORT}]},
            }
        )
    isvc(kube, program(BROKEN) | {"maxReplicas": 3})
    until(lambda: names(kube, "services") == ["svc-grpc", "svc-predictor"], "the one that looks alike is gone")


def test_installed_by_helm_it_reads_one_secret_annotation_and_by_kustomize_another(kube: Kube) -> None:
    """So `model.secretName` becomes both (core/render/inference.py). The test cluster's is Helm's."""
    kube.ctl("create", "secret", "generic", "keys", "--from-literal=AWS_ACCESS_KEY_ID=a", "--from-literal=AWS_SECRET_ACCESS_KEY=b")
    for name, annotation in (("helm", HELM_SECRET), ("kustomize", KUSTOMIZE_SECRET)):
        isvc(kube, model("s3://models/v1"), name=name, annotations={annotation: "keys"})

    def given() -> dict[str, bool]:
        pods = kube.get("pods", "-l", "component=predictor")["items"]
        env = {p["metadata"]["labels"][OWNER]: p["spec"]["initContainers"][0].get("env", ()) for p in pods}
        return {name: any(e["name"] == "AWS_SECRET_ACCESS_KEY" for e in found) for name, found in env.items()}

    until(lambda: len(given()) == 2, "two pods")
    assert given() == {"helm": True, "kustomize": False}
