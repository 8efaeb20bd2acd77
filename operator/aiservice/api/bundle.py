"""bundle.json: what a model bundle says of itself. The sha256 of this file names the model everywhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from aiservice.api.base import ApiModel, Digest

MANIFEST = "bundle.json"
MODEL = "model.onnx"
GOLDEN = "golden.json"
REFERENCE = "reference.json"

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES"
]
"""Element types of the Open Inference Protocol V2."""

Count = Annotated[int, Field(ge=0)]


class File(ApiModel):
    """One file of the bundle, beside bundle.json."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Count


class Tensor(ApiModel):
    """One input or output of the model."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    datatype: Datatype
    shape: Annotated[list[int], Field(max_length=16)]
    """-1 stands for an axis of any length; the first axis counts rows."""


class DecisionKind(StrEnum):
    CLASS = "Class"
    """The class itself: an integer or string output of shape [rows], or the arg max over the last axis of a float output [rows, classes]."""
    THRESHOLD = "Threshold"
    """`positive` where column `column` of a float output reaches `threshold`, else `negative`."""
    TOLERANCE = "Tolerance"
    """A number; two decisions agree if they differ by at most `tolerance`."""


class Decision(ApiModel):
    """What of the model's answer is acted upon: rollouts compare it, labels judge it."""

    kind: DecisionKind
    output: str
    """Name of the output tensor that it is read from."""
    column: Count = 0
    """Threshold and Tolerance: which column of a two-dimensional output."""
    threshold: float | None = None
    """Threshold: from this value on the decision is `positive`."""
    tolerance: Annotated[float, Field(ge=0)] | None = None
    """Tolerance: the greatest difference that is still the same decision."""
    labels: Annotated[list[str], Field(max_length=10_000)] | None = None
    """Class by arg max: the names of the classes, in column order. Default: "0", "1", ..."""
    positive: str | None = None
    """The decision that recall and precision are about."""
    negative: str | None = None
    """Threshold: the other decision."""
    edges: Annotated[list[float], Field(min_length=9, max_length=9)] | None = None
    """Tolerance: the nine bounds between the tenths of the reference predictions, rising."""


class Golden(ApiModel):
    """How near an answer must be to a golden one: |got - expected| <= absolute + relative * |expected|."""

    absolute: Annotated[float, Field(ge=0)] = 1e-5
    relative: Annotated[float, Field(ge=0)] = 1e-4


class GoldenRequest(ApiModel):
    """One request with the answer that the source model gave. golden.json is a list of them."""

    inputs: list[dict[str, Any]]
    """V2 request tensors: name, datatype, shape, data (flat list)."""
    outputs: list[dict[str, Any]]
    """V2 response tensors that are expected."""


class ReferenceRow(ApiModel):
    """One labelled row that no model of this line was trained on. reference.json is a list of them."""

    inputs: list[dict[str, Any]]
    """V2 request tensors of one row."""
    label: str
    """The true decision, as text: the class, `positive` or `negative`, or the number."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How many rows of the source this one stands for (the sample is stratified by label)."""


class Distribution(ApiModel):
    """Histogram of one feature or of the predictions over the reference data."""

    name: str
    edges: list[float] | None = None
    """Numbers: rising inner bounds; counts has one more."""
    values: list[str] | None = None
    """Categories, in the order of counts."""
    counts: list[Count]


class Feature(ApiModel):
    """One column that the model reads."""

    name: str
    input: str
    """Input tensor."""
    column: Count = 0
    """Column in it."""
    kind: Literal["Number", "Category"] = "Number"


class Lineage(ApiModel):
    """What the model was made from."""

    data: dict[str, str] = {}
    """Name of each data set -> sha256."""
    code: str | None = None
    """Version of what trained it."""
    parent: Digest | None = None
    """The model that this one continues."""


class Bundle(ApiModel):
    """The content of bundle.json."""

    version: Literal[1] = 1
    name: str
    opset: Annotated[int, Field(ge=1)]
    """Of the default ONNX domain."""
    inputs: Annotated[list[Tensor], Field(min_length=1)]
    outputs: Annotated[list[Tensor], Field(min_length=1)]
    decision: Decision
    golden: Golden = Golden()
    features: list[Feature] = []
    distributions: list[Distribution] = []
    metrics: dict[str, float] = {}
    """Measured on held-out data when it was trained."""
    lineage: Lineage = Lineage()
    files: dict[str, File]
    """model.onnx, golden.json and, where there is one, reference.json."""
