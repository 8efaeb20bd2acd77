"""What a user asks for: the spec of an AIService."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from aiservice.api.base import ApiModel, Digest, Duration, Percent, Quantity, Rule, seconds


class Model(ApiModel):
    """Where the model comes from."""

    uri: Annotated[str, Field(pattern=r"^(file|s3|https|pvc|oci|oci\+native)://.+$", min_length=8, max_length=1024)]
    """A model bundle (a folder with bundle.json) or one .onnx file: s3:// or https://; on one machine also file:// (a relative path starts at the manifest), in a cluster also pvc://claim/path, and oci://image:tag, an image with the model under /models (a sidecar of KServe's; oci+native:// mounts it as an image volume)."""

    digest: Digest | None = None
    """Pin, `sha256:` of bundle.json or of the .onnx file. Anything else is refused before it is loaded. Default: not pinned."""

    secret_name: Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)] | None = None
    """In a cluster: the Secret of the same namespace that opens the source, with the keys and annotations that KServe knows (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; serving.kserve.io/s3-endpoint). On one machine the AWS_* variables are used. Default: none."""


class Replicas(ApiModel):
    """How many predictors each revision that serves has."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.min <= self.max", "replicas.min must not exceed replicas.max", lambda r: r.min <= r.max),
    )

    min: Annotated[int, Field(ge=1, le=1000)] = 1
    """Fewest predictors of a revision that serves. Default: 1."""

    max: Annotated[int, Field(ge=1, le=1000)] = 1
    """Most predictors of a revision that serves; above min they follow `scaling`. Default: 1."""


class ScalingMetric(StrEnum):
    CPU = "Cpu"
    MEMORY = "Memory"
    CONCURRENCY = "Concurrency"
    REQUESTS_PER_SECOND = "RequestsPerSecond"
    QUERY = "Query"


RESOURCES = (ScalingMetric.CPU, ScalingMetric.MEMORY)


class Scaling(ApiModel):
    """What the number of predictors follows between replicas.min and replicas.max."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.metric in ['Cpu', 'Memory'] || has(self.target)",
            "scaling.target is needed with metric Concurrency, RequestsPerSecond and Query: how much of it one predictor is to have",
            lambda s: s.metric in RESOURCES or s.target is not None,
        ),
        Rule(
            "!(self.metric in ['Cpu', 'Memory']) || !has(self.target) || self.target <= 1000",
            "scaling.target is a percentage of the request with metric Cpu and Memory: at most 1000",
            lambda s: s.metric not in RESOURCES or s.target is None or s.target <= 1000,
        ),
        Rule(
            "(self.metric == 'Query') == has(self.query)",
            "scaling.query is the PromQL of metric Query: give both or neither",
            lambda s: (s.metric is ScalingMetric.QUERY) == (s.query is not None),
        ),
    )

    metric: ScalingMetric = ScalingMetric.CPU
    """Cpu or Memory: mean use of a revision's predictors, as a share of what they request. Concurrency: requests that a revision has in its predictors at a time; RequestsPerSecond: requests that it is asked a second; Query: the value of `query`. The last three need KEDA in a cluster. Default: Cpu."""

    target: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """What one predictor is to have of it: percent of the request, requests at a time, requests a second, or what the query counts. Default: 80 with Cpu and Memory; the others have none."""

    query: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """PromQL with one number as its result, which is shared out to the predictors of each revision that serves; asked of the Prometheus that the operator (chart value prometheus.url) or AISERVICE_PROMETHEUS names. Default: none."""

    @property
    def aim(self) -> int:
        """The target, given or not."""
        return self.target if self.target is not None else 80


class Amounts(ApiModel):
    """Processor and memory of one predictor."""

    cpu: Quantity | None = None
    """Cores, for example 500m or 2."""

    memory: Quantity | None = None
    """Bytes, for example 512Mi or 1Gi."""


class Resources(ApiModel):
    """What one predictor is promised and what it may use."""

    requests: Amounts = Amounts(cpu="500m", memory="256Mi")
    """What is set aside for it; scaling is measured against it. Default: 500m of a core, 256Mi."""

    limits: Amounts = Amounts()
    """What it may not exceed. With one worker, onnxruntime gets as many threads as whole cores stand here. Default: no limit, one thread."""


class Batching(ApiModel):
    """Several waiting requests become one call of the model, where its first axis is dynamic."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "duration(self.maxDelay) <= duration('1s')",
            "batching.maxDelay must not exceed 1s",
            lambda b: seconds(b.max_delay) <= 1,
        ),
    )

    max_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Most rows in one call; 1 switches batching off. Default: 32, or as many as the model does in half a millisecond if that is more."""

    max_delay: Duration = "0ms"
    """How long a request may wait for others. 0ms takes what is waiting and never waits. Default: 0ms."""


class RealTime(ApiModel):
    """Answer requests over REST and gRPC (Open Inference Protocol V2, KServe V1)."""

    replicas: Replicas = Replicas()
    """How many predictors. Default: exactly one."""

    scaling: Scaling = Scaling()
    """What their number follows. Default: 80 % of the requested CPU."""

    resources: Resources = Resources()
    """Processor and memory of each. Default: requests of 500m and 256Mi, no limits."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes of each predictor that serve, with one thread each where there are several: as many as cores, where a call of the model is too small for several threads. Default: 1."""

    batching: Batching = Batching()
    """How requests share a call of the model. Default: up to 32 rows, more of a quick model, no waiting."""

    timeout: Duration = "10s"
    """A request that has no answer by then gets 504. Default: 10s."""


class Replay(ApiModel):
    """Before any client meets a candidate it answers requests that the stable has answered, and the answers are compared."""

    requests: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """How many recorded requests; 0 switches replay off. Default: 1000."""

    memory: Quantity = "64Mi"
    """Most that each predictor keeps of recent requests, in its memory only; 0 records nothing. Default: 64Mi."""


class Step(ApiModel):
    """One step of the canary."""

    weight: Annotated[int, Field(ge=1, le=99)]
    """Share of the requests that reach the candidate, in percent."""

    hold: Duration = "2m"
    """How long the step lasts at least. Default: 2m."""


class Agreement(ApiModel):
    """Gate: the candidate decides as the stable does on the same requests."""

    min: Percent = "50%"
    """Dice coefficient of the worst class (regression: share of answers within the bundle's tolerance). Default: 50%."""


class Errors(ApiModel):
    """Gate: share of failed requests, against the stable."""

    margin: Percent = "0.5%"
    """How much the service's share of failed requests may rise. Default: 0.5%."""


class Latency(ApiModel):
    """Gate: share of requests slower than the SLO, against the stable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("duration(self.slo) > duration('0s')", "latency.slo must be longer than 0s", lambda g: seconds(g.slo) > 0),
    )

    slo: Duration
    """Slower than this is too slow. Counted up to the next bound of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 8 and 10 times a power of ten."""

    margin: Percent = "1%"
    """How much the service's share of slow requests may rise. Default: 1%."""


class QualityMetric(StrEnum):
    ACCURACY = "Accuracy"
    RECALL = "Recall"
    PRECISION = "Precision"


class Quality(ApiModel):
    """Gate: share of right decisions once the true label is known, against the stable on the same requests."""

    metric: QualityMetric = QualityMetric.ACCURACY
    """Accuracy, or Recall or Precision of the bundle's positive class. Default: Accuracy."""

    margin: Percent = "3%"
    """How much the service's metric may fall. Default: 3%."""

    labels_within: Duration = "24h"
    """A label that comes later than this after its request is not counted. Default: 24h."""


class Gates(ApiModel):
    """What a candidate must pass. All of them must."""

    agreement: Agreement | None = None
    """Judged in replay. Default: 50% while replay is on."""

    errors: Errors = Errors()
    """Judged in replay and live. Default: margin 0.5%."""

    latency: Latency | None = None
    """Judged in replay and live. Default: not judged."""

    quality: Quality | None = None
    """Judged as labels come in, and on the stable bundle's labelled reference sample in replay. Default: not judged."""


class InsufficientEvidence(StrEnum):
    HOLD = "Hold"
    PROMOTE = "Promote"


class Promotion(StrEnum):
    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Rollout(ApiModel):
    """How a new revision replaces the stable one."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[0, 1, 2, 3, 4, 5, 6, 7, 8].all(i, i + 1 >= size(self.steps) || self.steps[i].weight < self.steps[i + 1].weight)",
            "rollout.steps: weights must rise from step to step",
            lambda r: all(a.weight < b.weight for a, b in zip(r.steps, r.steps[1:], strict=False)),
        ),
        Rule(
            "!has(self.gates.agreement) || self.replay.requests > 0",
            "rollout.gates.agreement is judged in replay: set rollout.replay.requests above 0 or leave agreement out",
            lambda r: r.gates.agreement is None or r.replay.requests > 0,
        ),
        Rule(
            "self.replay.requests == 0 || self.replay.memory != '0'",
            "rollout.replay.memory is 0, so there is nothing to replay: set rollout.replay.requests to 0 as well",
            lambda r: r.replay.requests == 0 or r.replay.memory != "0",
        ),
    )

    replay: Replay = Replay()
    """Recorded requests first. Default: 1000 requests from 64Mi of memory."""

    steps: Annotated[list[Step], Field(min_length=1, max_length=10)] = [
        Step(weight=5, hold="2m"),
        Step(weight=25, hold="5m"),
        Step(weight=50, hold="5m"),
    ]
    """Weights that the candidate is given, one after the other, before it is promoted. Default: 5 (2m), 25 (5m), 50 (5m)."""

    gates: Gates = Gates()
    """What it must pass. Default: agreement 50% in replay, errors margin 0.5%."""

    confidence: Annotated[str, Field(pattern=r"^[5-9][0-9](\.[0-9]{1,3})?%$", max_length=8)] = "95%"
    """Of the whole rollout: a candidate as good as the stable is rolled back, and one worse than a margin promoted, at most this rarely (100% - confidence). Default: 95%."""

    insufficient_evidence: InsufficientEvidence = InsufficientEvidence.HOLD
    """Hold or Promote, when a step's hold is over and a gate is still undecided. Default: Hold."""

    promotion: Promotion = Promotion.AUTOMATIC
    """Automatic, or Manual: after the last step it waits for `aiservice promote`. Default: Automatic."""

    standby: Duration = "1h"
    """How long the replaced revision stays warm; going back to it in that time is immediate. Default: 1h."""

    deadline: Duration = "10m"
    """A candidate that is not ready for this long is rejected. Default: 10m."""


class AIServiceSpec(ApiModel):
    """One machine-learning capability."""

    model: Model
    """Where the model comes from."""

    real_time: RealTime = RealTime()
    """Answer requests over REST and gRPC. Default: one predictor."""

    rollout: Rollout = Rollout()
    """How a new revision replaces the stable one. Default: replay, then 5, 25 and 50 percent."""
