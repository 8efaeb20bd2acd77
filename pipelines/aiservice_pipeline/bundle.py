"""A fitted scikit-learn model and held-out data -> a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from aiservice.api.bundle import DecisionKind, Golden, GoldenRequest, Lineage
from aiservice_pipeline import parity, reference
from aiservice_pipeline.export import Head, export
from aiservice_pipeline.layout import Layout, Table, finite
from aiservice_pipeline.tensors import Array, to_v2
from aiservice_pipeline.write import Draft, write

GOLDEN_ROWS = 10
_SEED = 20260801


def bundle_sklearn(model: Any, table: Table, labels: Any, folder: Path, **options: Any) -> str:
    """`draft_sklearn(...)`, written to `folder`. -> digest, `sha256:...`."""
    return write(folder, draft_sklearn(model, table, labels, **options))


def draft_sklearn(
    model: Any,
    table: Table,
    labels: Any,
    *,
    name: str,
    positive: Any = None,
    names: tuple[str, str] | None = None,
    threshold: float | None = None,
    tolerance: float | None = None,
    input_name: str = "features",
    reference_rows: int = 1000,
    metrics: bool = True,
    golden: Golden | None = None,
    lineage: Lineage | None = None,
) -> Draft:
    """Export a fitted classifier, regressor or Pipeline, and prove on held-out rows that the export answers as it does.

    table: [rows, columns] held-out data, labels: [rows] ([rows, targets]: the first target is the decision); no model of this line may have seen them. A table of numbers becomes one input
    tensor `input_name`, FP32 [rows, columns]; a DataFrame with texts, or a model that picks columns by name, gets one input a column.
    positive: the class that recall is about; with two classes the decision is then whether its probability reaches `threshold` (0.5),
    and `names` are the texts of the two decisions. tolerance: regressions only; default: a tenth of the labels' standard deviation.
    Rows with missing numbers count in metrics, distributions and parity, but JSON cannot carry them: they are neither golden nor reference.
    Raises parity.Disparity where the export is wrong, ValueError for what cannot be bundled.
    """
    truth = np.asarray(labels)
    truth = truth[:, 0] if truth.ndim == 2 else truth
    if len(truth) != len(table) or len(truth) == 0:
        raise ValueError(f"{len(table):,} rows and {len(truth):,} labels: there must be as many of both, and at least one")
    if tolerance is None and is_regressor(model):
        tolerance = float(truth.std() / 10)
    head = Head.of(model, positive=positive, names=names, threshold=threshold, tolerance=tolerance)
    layout = Layout.of(model, table, input_name)
    feeds, expected = layout.feeds(table), head.source_outputs(model, layout.as_served(table))
    allowed = golden or Golden()
    proto = export(model, layout, head, expected)
    unsure = head.unsure(expected, allowed.absolute)
    parity.check(proto, feeds, expected, allowed, unsure)
    decision = head.decision
    if decision.kind is DecisionKind.TOLERANCE and decision.edges is None:
        decision = decision.model_copy(update={"edges": reference.tenths(head.decisions(expected))})
    usable = finite(feeds)
    sure = usable if unsure is None else usable & ~unsure
    return Draft(
        name=name,
        model=proto,
        decision=decision,
        golden=_golden(head, feeds, expected, sure),
        tolerance=allowed,
        reference=reference.sample(head, feeds, truth, usable, reference_rows, _SEED),
        features=layout.features(),
        distributions=reference.distributions(head, layout.features(), feeds, expected),
        metrics=reference.measure(head, truth, expected) if metrics else {},
        lineage=lineage or Lineage(),
    )


def _golden(head: Head, feeds: dict[str, Array], outputs: dict[str, Array], usable: Array) -> list[GoldenRequest]:
    """One request of one row for each of up to ten rows, spread over the decisions; then one request of all of them."""
    decisions = head.decisions(outputs)
    groups = reference.strata(head, decisions) if head.decision.kind is DecisionKind.TOLERANCE else decisions
    picked, _ = reference.pick(groups, usable, GOLDEN_ROWS, _SEED)
    if not len(picked):
        raise ValueError("no row without missing numbers is left for a golden request")
    return [_request(feeds, outputs, rows) for rows in (*picked[:, None], picked)]


def _request(feeds: dict[str, Array], outputs: dict[str, Array], rows: Array) -> GoldenRequest:
    return GoldenRequest(inputs=[to_v2(n, a[rows]) for n, a in feeds.items()], outputs=[to_v2(n, a[rows]) for n, a in outputs.items()])
