"""What the control plane renders and the predictor reads: environment, ports, paths, and the private endpoints between them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from aiservice.api.base import ApiModel

HTTP_PORT = 8080
GRPC_PORT = 8081
MODEL_DIR = "/mnt/models"
CONTAINER = "kserve-container"
RUNTIME = "aiservice-onnx"
COMMAND = ("python", "-m", "aiservice_predictor")

REPLAY_HEADER = "x-aiservice-replay"
"""A request that carries the service's token here is neither counted nor recorded; its JSON answer has `parameters.decisions`: one text a row."""

REVISION_HEADER = "x-aiservice-revision"
"""Set by the gateway on every answer: which revision it was given to."""

RESERVOIR_PATH = "/aiservice/v1/reservoir"
GOLDEN_PATH = "/aiservice/v1/golden"
REFERENCE_PATH = "/aiservice/v1/reference"
LABELS_PATH = "/aiservice/v1/labels"

LATENCY_BOUNDS = (
    *(float(f"{step}e{power}") for power in range(-4, 2) for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 8)),
    100.0,
)
"""Upper bounds, in seconds, of the buckets of `aiservice_request_seconds`: 100 microseconds to 100 seconds; any latency SLO is near one of them."""

REFUSED = 78
"""Exit status of a predictor that will not load its model; the termination log holds a Refusal as JSON. Starting it again does not help."""


class PredictorConfig(ApiModel):
    """The predictor's environment: each field is the variable AISERVICE_ and its name in capitals, for example AISERVICE_MODEL_NAME."""

    model_name: Annotated[str, Field(min_length=1, max_length=63)]
    """The model's name in every URL and gRPC request: the AIService's name."""
    revision: str = ""
    """Told in metrics and metadata."""
    model_dir: str = MODEL_DIR
    """A bundle, a folder that holds one .onnx file, or an .onnx file."""
    digest: str | None = None
    """`sha256:...` of bundle.json or of the .onnx file; anything else is refused."""
    host: str = "0.0.0.0"
    http_port: Annotated[int, Field(ge=0, le=65535)] = HTTP_PORT
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = GRPC_PORT
    token: str = ""
    """Bearer token of the private endpoints; empty closes them."""
    reservoir_bytes: Annotated[int, Field(ge=0)] = 64 * 2**20
    """Most memory for recorded requests; 0 records nothing."""
    batch_max_size: Annotated[int, Field(ge=1)] | None = None
    """Most rows in one call of the model; None: 32, or as many as it does in half a millisecond if that is more."""
    batch_max_delay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Seconds."""
    timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds until a request is answered with 504 (gRPC: DEADLINE_EXCEEDED)."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """onnxruntime's threads within one call; 0: as many as the container's CPU limit has whole cores, one without a limit."""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Processes that serve, with one thread each where there are several; 0: one for each whole core of the container's CPU limit, or of the machine."""
    queue: Annotated[int, Field(ge=1)] = 256
    """Most requests that wait; further ones get 503 with Retry-After (gRPC: UNAVAILABLE)."""
    max_body: Annotated[int, Field(ge=1024)] = 32 * 2**20
    """Most bytes of a request body, after gzip is undone; more get 413."""
    max_rows: Annotated[int, Field(ge=1)] = 65536
    """Most rows in a request; more get 413."""
    tls_certificate: str = ""
    """PEM file, chain included; with `tls_key` both ports speak TLS. Empty: plain text."""
    tls_key: str = ""
    """PEM file."""
    drain: Annotated[float, Field(ge=0)] = 20.0
    """Seconds that open requests have after SIGTERM."""
    termination_log: str = "/dev/termination-log"


class Refusal(ApiModel):
    """Why a model is not loaded."""

    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]+$", max_length=64)]
    """One of DigestMismatch, DamagedBundle, MissingFile, UnsupportedModel, GoldenMismatch, SourceUnavailable, NoSpace."""
    message: Annotated[str, Field(max_length=2048)]


class Recorded(ApiModel):
    """A request in a predictor's reservoir."""

    id: str
    """The request's V2 id: the client's, or the one that the answer carried."""
    at: float
    """Unix seconds when it came."""
    sequence: int
    """Order within this predictor's run; labelled ones can be asked for after a sequence number."""
    decisions: list[str]
    """One a row."""
    inputs: list[dict[str, Any]]
    """V2 JSON tensors."""
    label: str | None = None
    labelled: float | None = None
    """Unix seconds when the label came."""
    label_sequence: int | None = None
    fair: bool = True
    """False for a request that is only kept because its decision is rare; labels of those would flatter (they were chosen by the answer)."""


class Reservoir(ApiModel):
    """What a predictor answers under RESERVOIR_PATH (?limit=N recent ones, spread over the decisions; ?labelledAfter=S only labelled ones)."""

    run: str
    """Changes whenever the predictor starts anew; sequence numbers begin again."""
    seen: dict[str, int]
    """Decision (number: tenth) -> rows that were answered so since the start."""
    requests: list[Recorded]


class Labels(ApiModel):
    """Body of POST LABELS_PATH: request id -> true decision as text."""

    labels: Annotated[dict[str, str], Field(max_length=10_000)]


class LabelsMatched(ApiModel):
    """Its answer."""

    matched: list[str]
    """Ids of requests that are still in the reservoir and now carry their label."""
