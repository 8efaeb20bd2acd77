"""The AIService itself, as it stands in a file or in a cluster."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from aiservice.api.base import ApiModel, Rule
from aiservice.api.spec import AIServiceSpec
from aiservice.api.status import AIServiceStatus

GROUP = "aiservice.dev"
VERSION = "v1alpha1"
KIND = "AIService"
PLURAL = "aiservices"
API_VERSION = f"{GROUP}/{VERSION}"
LONGEST_NAME = 40
"""Names of rendered objects add up to 20 characters, and Kubernetes allows 63."""


class Metadata(ApiModel):
    """What we read of an object's metadata; the rest is the API server's."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=LONGEST_NAME)]
    namespace: Annotated[str, Field(max_length=63)] = "default"
    uid: str = ""
    resource_version: str = ""
    generation: int = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class AIService(ApiModel):
    """One machine-learning capability, from data to decision."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"size(self.metadata.name) <= {LONGEST_NAME}",
            f"metadata.name must not be longer than {LONGEST_NAME} characters",
            lambda s: len(s.metadata.name) <= LONGEST_NAME,
        ),
    )

    api_version: Literal["aiservice.dev/v1alpha1"] = "aiservice.dev/v1alpha1"
    kind: Literal["AIService"] = "AIService"
    metadata: Metadata
    spec: AIServiceSpec
    status: AIServiceStatus = AIServiceStatus()
