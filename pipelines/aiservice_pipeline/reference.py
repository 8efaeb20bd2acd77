"""What a bundle remembers of held-out data: a labelled sample, how features and predictions are distributed, and how good the model was."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from sklearn import metrics as score

from aiservice.api.bundle import DecisionKind, Distribution, Feature, ReferenceRow
from aiservice_pipeline.export import PROBABILITIES, PROBABILITY, Head
from aiservice_pipeline.tensors import Array, to_v2

CATEGORIES = 100
_TENTHS = np.arange(1, 10) / 10


def strata(head: Head, labels: Array) -> Array:
    """[rows]: what a sample is spread over: the label, or the tenth that a number falls in."""
    if head.decision.kind is DecisionKind.TOLERANCE:
        return np.searchsorted(np.quantile(labels, _TENTHS), labels, side="right").astype(str)
    return np.array([head.text(v) for v in labels.tolist()])


def pick(strata_of: Array, usable: Array, rows: int, seed: int) -> tuple[Array, dict[str, float]]:
    """Row numbers, rising: up to `rows` of them, evenly over the strata, rare ones whole.

    `usable` ([rows] bool) marks the rows that may be taken. -> also the weight of each stratum: how many rows one taken row stands for.
    """
    rng = np.random.default_rng(seed)
    pools = {str(s): np.flatnonzero((strata_of == s) & usable) for s in np.unique(strata_of)}
    left, taken, weights = rows, [], {}
    for n, (name, pool) in enumerate(sorted(pools.items(), key=lambda item: (len(item[1]), item[0]))):
        count = min(len(pool), math.ceil(left / (len(pools) - n)))
        if count == 0:
            continue
        taken.append(rng.choice(pool, count, replace=False))
        weights[name] = float((strata_of == name).sum() / count)
        left -= count
    return np.sort(np.concatenate(taken)) if taken else np.array([], dtype=np.int64), weights


def sample(head: Head, feeds: dict[str, Array], labels: Array, usable: Array, rows: int, seed: int) -> list[ReferenceRow]:
    """Labelled rows with weights that sum to the number of rows they were drawn from."""
    groups = strata(head, labels)
    picked, weights = pick(groups, usable, rows, seed)
    return [
        ReferenceRow(
            inputs=[to_v2(name, array[i : i + 1]) for name, array in feeds.items()],
            label=head.text(labels[i].item()),
            weight=weights[str(groups[i])],
        )
        for i in picked.tolist()
    ]


def distributions(head: Head, features: list[Feature], feeds: dict[str, Array], outputs: dict[str, Array]) -> list[Distribution]:
    """One for each feature; then `prediction`: decisions by count, a number or a probability by bins."""
    found = [_distribution(f.name, feeds[f.input][:, f.column]) for f in features]
    if head.decision.kind is DecisionKind.THRESHOLD:
        return [*found, _counted("prediction", outputs[PROBABILITY], [i / 20 for i in range(1, 20)])]
    return [*found, _distribution("prediction", head.decisions(outputs))]


def tenths(predictions: Array) -> list[float]:
    """The nine bounds between the tenths."""
    return [float(v) for v in np.quantile(predictions.astype(np.float64), _TENTHS)]


def measure(head: Head, labels: Array, outputs: dict[str, Array]) -> dict[str, float]:
    """How good the model is on held-out rows. Names: rows, r2, mae, rmse; accuracy, macroF1; recall, precision, positives, averagePrecision, rocAuc."""
    found: dict[str, Any] = {"rows": len(labels)}
    if head.decision.kind is DecisionKind.TOLERANCE:
        got = head.decisions(outputs)
        found |= {
            "r2": score.r2_score(labels, got),
            "mae": score.mean_absolute_error(labels, got),
            "rmse": score.root_mean_squared_error(labels, got),
        }
        return {k: float(v) for k, v in found.items()}
    truth, got = np.array([head.text(v) for v in labels.tolist()]), head.decisions(outputs)
    found |= {"accuracy": score.accuracy_score(truth, got), "macroF1": score.f1_score(truth, got, average="macro", zero_division=0)}
    positive = head.decision.positive
    if positive is not None:
        found |= {
            "recall": score.recall_score(truth == positive, got == positive, zero_division=0),
            "precision": score.precision_score(truth == positive, got == positive, zero_division=0),
            "positives": float((got == positive).mean()),
        }
        ranked = outputs.get(PROBABILITY)
        if ranked is None and PROBABILITIES in outputs:
            ranked = outputs[PROBABILITIES][:, [str(c) for c in head.classes].index(positive)]
        if ranked is not None and 0 < (truth == positive).sum() < len(truth):
            found |= {
                "averagePrecision": score.average_precision_score(truth == positive, ranked),
                "rocAuc": score.roc_auc_score(truth == positive, ranked),
            }
    return {k: float(v) for k, v in found.items()}


def _distribution(name: str, values: Array) -> Distribution:
    if values.dtype.kind in "OUS":
        common = sorted(Counter(values.astype(str).tolist()).items(), key=lambda item: (-item[1], item[0]))[:CATEGORIES]
        return Distribution(name=name, values=[v for v, _ in common], counts=[n for _, n in common])
    known = values[np.isfinite(values)]
    return _counted(name, known, sorted(set(tenths(known))) if len(known) else [])


def _counted(name: str, values: Array, edges: list[float]) -> Distribution:
    counts = np.bincount(np.searchsorted(edges, values.astype(np.float64), side="right"), minlength=len(edges) + 1)
    return Distribution(name=name, edges=edges, counts=counts.tolist())
