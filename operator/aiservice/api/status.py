"""What an AIService is: its status, complete enough that any controller can go on from it.

Lists are made by factories: pydantic copies a default list deeply for each new object, which a reconcile makes many of.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from aiservice.api.base import ApiModel, Digest
from aiservice.api.spec import Batching, Model, QualityMetric, Resources

Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(max_length=2048)]
RevisionName = Annotated[str, Field(pattern=r"^r[0-9a-f]{8}$", max_length=9)]


class Template(ApiModel):
    """All of the spec that changes what a request gets back. A revision is the hash of it."""

    model: Model
    resources: Resources = Resources()
    workers: Annotated[int, Field(ge=2, le=64)] | None = None
    """None: one."""
    batching: Batching = Batching()
    timeout: Annotated[str, Field(max_length=20)] = "10s"
    memory: Annotated[str, Field(max_length=20)] = "64Mi"


class Role(StrEnum):
    STABLE = "Stable"
    CANDIDATE = "Candidate"
    STANDBY = "Standby"
    DRAINING = "Draining"


class RevisionStatus(ApiModel):
    """One revision that runs."""

    name: RevisionName
    role: Role
    template: Template
    digest: Digest | None = None
    """Of the model that it loaded."""
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Percent of the requests that it is given."""
    replicas: Count = 0
    """Predictors that run."""
    ready: Count = 0
    """Predictors that are loaded and answered the golden requests."""
    until: datetime | None = None
    """Standby and Draining: when it ends."""
    message: Text = ""


class Phase(StrEnum):
    PENDING = "Pending"
    """The first revision is not ready yet."""
    STABLE = "Stable"
    PREPARING = "Preparing"
    """A candidate is being loaded; no client meets it."""
    REPLAYING = "Replaying"
    """The candidate answers recorded requests; no client meets it."""
    PROGRESSING = "Progressing"
    """The candidate has a share of the requests."""
    HOLDING = "Holding"
    """The evidence is insufficient; the rollout waits."""
    PAUSED = "Paused"
    """All gates passed; a person promotes."""
    REJECTED = "Rejected"
    """The wanted revision failed before any client met it; the stable serves."""
    ROLLED_BACK = "RolledBack"
    """The wanted revision failed live; the stable serves."""
    REFUSED = "Refused"
    """The wanted revision's model was never loaded."""


class Verdict(StrEnum):
    PASS = "Pass"
    FAIL = "Fail"
    UNDECIDED = "Undecided"


class Stage(StrEnum):
    REPLAY = "Replay"
    LIVE = "Live"


class Arms(ApiModel):
    """What a gate has seen during one period of constant weight: four counts, and what tells how much failures clump."""

    bad_candidate: Annotated[float, Field(ge=0)] = 0
    candidate: Annotated[float, Field(ge=0)] = 0
    bad_stable: Annotated[float, Field(ge=0)] = 0
    stable: Annotated[float, Field(ge=0)] = 0
    hits: Count = 0
    """Looks with at least one failure of the candidate."""
    surprise: float = 0
    """Sum over looks of (candidate's failures - expected)^2, expected from its share so far."""
    expected: float = 0
    """Sum of the variances that it would have if requests were independent."""
    jumps: float = 0
    """The same for each arm's failures, each look against the one before."""
    calm: float = 0
    last: tuple[float, float, float, float] = (0, 0, 0, 0)
    """The last look: candidate's failures, candidate's requests, stable's failures, stable's requests."""


class Pairs(ApiModel):
    """Requests that both revisions answered."""

    total: Count = 0
    candidate_only: Count = 0
    """Bad at the candidate, good at the stable."""
    stable_only: Count = 0
    """Bad at the stable, good at the candidate."""
    both: Count = 0
    """Bad at both."""


class Stratum(ApiModel):
    """Replayed rows that the stable decided alike (numbers: the same tenth)."""

    decision: Annotated[str, Field(max_length=256)]
    mass: Annotated[float, Field(ge=0)]
    """How many rows of natural traffic were decided so."""
    replayed: Count
    """How many of them were replayed."""
    answers: Annotated[dict[str, Count], Field(max_length=64)]
    """The candidate's decision -> rows. Numbers: "same" (within the tolerance) or "other"."""


class ReplayStatus(ApiModel):
    """Recorded requests that the candidate answered."""

    planned: Count = 0
    done: Count = 0
    complete: bool = False
    numeric: bool = False
    """Decisions are numbers: agreement is a share, not a Dice coefficient."""
    strata: Annotated[list[Stratum], Field(max_length=64)] = Field(default_factory=list)
    errors: Pairs = Pairs()
    latency: Pairs = Pairs()
    reference: Pairs = Pairs()
    """Rows of the stable bundle's reference sample on which the quality metric is defined; bad means wrong."""
    reference_arms: Arms = Arms()
    """The same for Precision, whose rows differ from arm to arm."""
    message: Text = ""


class GateStatus(ApiModel):
    """What one gate says now."""

    name: Annotated[str, Field(max_length=63)]
    stage: Stage
    verdict: Verdict
    message: Text
    """The numbers, as a sentence."""
    estimate: float | None = None
    """Candidate minus stable, as a share (agreement: the worst class's coefficient)."""
    low: float | None = None
    high: float | None = None
    """The difference lies between low and high, with the rollout's confidence, whenever it is looked at."""
    allowed: float | None = None
    """What passes at this step: the margin divided by the next weight."""
    needed: Count | None = None
    """Candidate requests (quality: labels) still needed to pass if both revisions are equal."""


class DecisionKind(StrEnum):
    STARTED = "Started"
    ADVANCED = "Advanced"
    PROMOTED = "Promoted"
    RESTORED = "Restored"
    """A revision on standby took all requests again."""
    REJECTED = "Rejected"
    ROLLED_BACK = "RolledBack"
    REFUSED = "Refused"
    INSUFFICIENT_EVIDENCE = "InsufficientEvidence"
    SUPERSEDED = "Superseded"
    RETRIED = "Retried"


class Decision(ApiModel):
    """One line of the journal."""

    at: datetime
    kind: DecisionKind
    revision: RevisionName
    gate: Annotated[str, Field(max_length=63)] = ""
    """Which gate decided."""
    reason: Annotated[str, Field(max_length=63)]
    """CamelCase, part of the API."""
    message: Text
    requests: Count = 0
    """Client requests that the revision had answered in this rollout."""
    seconds: Annotated[float, Field(ge=0)] = 0
    """Since the rollout began."""


class Rejection(ApiModel):
    """A revision that is not tried again until its content changes or a person says retry."""

    revision: RevisionName
    phase: Literal[Phase.REJECTED, Phase.ROLLED_BACK, Phase.REFUSED]
    reason: Annotated[str, Field(max_length=63)]
    message: Text


class Retired(ApiModel):
    """A revision without requests that still runs."""

    revision: RevisionName
    until: datetime
    warm: bool = False
    """It was promoted once: going back to it is immediate."""


class Cursor(ApiModel):
    """How much of one source's counters has been counted already."""

    errors: tuple[int, int] = (0, 0)
    """Bad, total."""
    latency: tuple[int, int] = (0, 0)


class RolloutStatus(ApiModel):
    """The rollout: everything that the next look needs."""

    phase: Phase = Phase.PENDING
    stable: RevisionName | None = None
    candidate: RevisionName | None = None
    began: datetime | None = None
    """When the candidate was first wanted."""
    step: Count = 0
    steps: Count = 0
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Percent of the requests that the candidate is given."""
    since: datetime | None = None
    """The current phase or step began here; it moves on while the clock stands still."""
    stalled: datetime | None = None
    """The candidate has not been ready since."""
    requests: Count = 0
    """Client requests that reached the candidate."""
    gates: Annotated[list[GateStatus], Field(max_length=16)] = Field(default_factory=list)
    replay: ReplayStatus | None = None
    metric: QualityMetric | None = None
    """What the quality evidence below was counted for."""
    errors: Annotated[list[Arms], Field(max_length=10)] = Field(default_factory=list)
    """Evidence of each step."""
    latency: Annotated[list[Arms], Field(max_length=10)] = Field(default_factory=list)
    quality: Pairs = Pairs()
    quality_arms: Arms = Arms()
    split: tuple[int, int] = (0, 0)
    """Requests in this step: candidate, stable."""
    cursors: Annotated[dict[str, Cursor], Field(max_length=4096)] = Field(default_factory=dict)
    labels: Annotated[dict[str, int], Field(max_length=4096)] = Field(default_factory=dict)
    """Run of a predictor -> last label that was counted."""
    retired: Annotated[list[Retired], Field(max_length=16)] = Field(default_factory=list)
    rejected: Annotated[list[Rejection], Field(max_length=20)] = Field(default_factory=list)
    decisions: Annotated[list[Decision], Field(max_length=20)] = Field(default_factory=list)
    """The journal, newest last."""
    handled: Annotated[str, Field(max_length=64)] = ""
    """Id of the last command that was carried out."""


class Condition(ApiModel):
    """As in every Kubernetes API."""

    type: Annotated[str, Field(max_length=63)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=63)]
    message: Text
    last_transition_time: datetime
    observed_generation: Count = 0


class AIServiceStatus(ApiModel):
    """What runs, who gets which requests, and why."""

    observed_generation: Count = 0
    url: Annotated[str, Field(max_length=1024)] | None = None
    """Where clients send requests."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(default_factory=list)
    revisions: Annotated[list[RevisionStatus], Field(max_length=16)] = Field(default_factory=list)
    rollout: RolloutStatus = Field(default_factory=RolloutStatus)
