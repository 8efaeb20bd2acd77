"""Every derived name, label and annotation."""

from __future__ import annotations

from hashlib import sha256

from aiservice.api.service import GROUP
from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import Template

SERVICE_LABEL = f"{GROUP}/service"
REVISION_LABEL = f"{GROUP}/revision"
MANAGED_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "aiservice"


def template(spec: AIServiceSpec) -> Template:
    """The part of the spec that makes a revision."""
    return Template(
        model=spec.model,
        resources=spec.real_time.resources,
        workers=spec.real_time.workers if spec.real_time.workers > 1 else None,
        batching=spec.real_time.batching,
        timeout=spec.real_time.timeout,
        memory=spec.rollout.replay.memory,
    )


def revision(made_from: Template) -> str:
    """`r` and eight hexadecimal digits of the template's hash."""
    return "r" + sha256(made_from.model_dump_json(by_alias=True, exclude_none=True).encode()).hexdigest()[:8]


def inference_service(service: str, rev: str) -> str:
    return f"{service}-{rev}"


def predictor(service: str, rev: str) -> str:
    """KServe's Deployment and Service of a revision."""
    return f"{service}-{rev}-predictor"


def grpc(service: str, rev: str) -> str:
    return f"{service}-{rev}-grpc"


def autoscaler(service: str, rev: str) -> str:
    return f"{service}-{rev}-scale"


def keda_autoscaler(service: str, rev: str) -> str:
    """The HorizontalPodAutoscaler that KEDA makes of a ScaledObject; its own choice of name may be too long."""
    return f"{service}-{rev}-keda"


def load(namespace: str, service: str, rev: str) -> str:
    """Path under which the operator tells how much a revision has to do."""
    return f"/v1/namespaces/{namespace}/services/{service}/revisions/{rev}/load"


def token(service: str) -> str:
    """The Secret that opens the predictors' private endpoints to the controller."""
    return f"{service}-token"


def labels(service: str, rev: str | None = None) -> dict[str, str]:
    out = {MANAGED_LABEL: MANAGER, SERVICE_LABEL: service}
    return out | {REVISION_LABEL: rev} if rev else out
