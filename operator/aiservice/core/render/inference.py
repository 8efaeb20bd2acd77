"""InferenceService: one for each revision. KServe makes its Deployment and Service; route and autoscaler are ours."""

from __future__ import annotations

from aiservice.api.base import amount, seconds
from aiservice.api.runtime import MODEL_DIR, RUNTIME, PredictorConfig
from aiservice.api.service import AIService
from aiservice.api.spec import Amounts
from aiservice.api.status import RevisionStatus, Template
from aiservice.core import names
from aiservice.core.render.meta import meta
from aiservice.core.world import Manifest

TOKEN_KEY = "token"
SECRET_ANNOTATIONS = ("serving.kserve.io/secretName", "serving.kserve.io/storageSecretName")
"""Where KServe reads which Secret opens a model's source: installed by Helm it looks at the first, by Kustomize at the second."""
USER = 65532
"""Of the predictor's image; nobody in particular."""


def inference_service(owner: AIService, revision: RevisionStatus) -> Manifest:
    """cluster-local from creation, so KServe makes no route; autoscaler external, so it makes no HPA."""
    t = revision.template
    model: Manifest = {
        "modelFormat": {"name": "onnx"},
        "runtime": RUNTIME,
        "protocolVersion": "v2",
        "storageUri": t.model.uri,
        "env": environment(owner.metadata.name, revision.name, t),
        "resources": {"requests": amounts(t.resources.requests), "limits": amounts(t.resources.limits)},
        "readinessProbe": {"httpGet": {"path": f"/v2/models/{owner.metadata.name}/ready", "port": 8080}, "periodSeconds": 2},
    }
    predictor: Manifest = {
        "minReplicas": owner.spec.real_time.replicas.min,
        "maxReplicas": owner.spec.real_time.replicas.max,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "topologySpreadConstraints": [spread(owner.metadata.name, revision.name)],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "model": model,
    }
    secret = dict.fromkeys(SECRET_ANNOTATIONS, t.model.secret_name) if t.model.secret_name else {}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": meta(
            owner,
            names.inference_service(owner.metadata.name, revision.name),
            revision.name,
            labels={"networking.kserve.io/visibility": "cluster-local"},
            annotations={"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "external", **secret},
        ),
        "spec": {"predictor": predictor},
    }


def spread(service: str, revision: str) -> Manifest:
    """A lost node takes few predictors with it; one that finds no better node starts all the same. Also for a single replica: scaling must not change pods."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {names.SERVICE_LABEL: service, names.REVISION_LABEL: revision}},
    }


def amounts(of: Amounts) -> dict[str, str]:
    return {name: value for name, value in (("cpu", of.cpu), ("memory", of.memory)) if value is not None}


def config(service: str, revision: str, t: Template) -> PredictorConfig:
    """The predictor's settings, less its token, ports and paths, which are the world's."""
    return PredictorConfig(
        model_name=service,
        revision=revision,
        model_dir=MODEL_DIR,
        digest=t.model.digest,
        reservoir_bytes=int(amount(t.memory)),
        batch_max_size=t.batching.max_size,
        batch_max_delay=seconds(t.batching.max_delay),
        timeout=seconds(t.timeout),
        threads=max(1, int(amount(t.resources.limits.cpu))) if t.resources.limits.cpu and t.workers is None else 1,
        workers=t.workers or 1,
    )


def environment(service: str, revision: str, t: Template) -> list[Manifest]:
    """Only what differs from the predictor's own defaults; the token by reference."""
    given = config(service, revision, t)
    default = PredictorConfig(model_name=service)
    out: list[Manifest] = [{"name": "AISERVICE_MODEL_NAME", "value": service}]
    for field in PredictorConfig.model_fields:
        value = getattr(given, field)
        if value is not None and value != getattr(default, field):
            out.append({"name": f"AISERVICE_{field.upper()}", "value": f"{value}"})
    secret = {"secretKeyRef": {"name": names.token(service), "key": TOKEN_KEY}}
    return [*out, {"name": "AISERVICE_TOKEN", "valueFrom": secret}]
