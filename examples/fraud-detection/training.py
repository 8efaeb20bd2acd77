"""Seven versions of the fraud model. v1, v2 and v7 are good; each of the others is bad in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from data import COLUMNS, TABLE_SHA256, Rows, Splits
from faults import failing, flip_byte, slow
from models import NAMES, STABLE
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from aiservice.api.bundle import Lineage
from aiservice_pipeline.bundle import draft_sklearn
from aiservice_pipeline.parity import run
from aiservice_pipeline.write import Draft, write

INPUT = "transactions"
THRESHOLD = 0.3
SWAPPED = (COLUMNS.index("V11"), COLUMNS.index("V14"))
_PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_iter": 100,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 50,
    "l2_regularization": 10,
    "early_stopping": False,
    "random_state": 1,
}


@dataclass(frozen=True)
class Figures:
    """How a version does on the traffic that it will meet."""

    average_precision: float
    recall: float
    precision: float
    alerts: float
    """In 10,000 transactions."""
    dice: float | None
    """Of its alerts and its stable's, on the same transactions."""


def make(splits: Splits, folder: Path) -> Iterator[tuple[str, str, Figures]]:
    """Write `folder`/v1 ... v7, -> version, digest and figures of each as it is done. The folders must not hold other bundles."""
    scores: dict[str, npt.NDArray[Any]] = {}
    drafts: dict[str, Draft] = {}
    for name in NAMES:
        draft, scores[name] = _MAKERS[name](splits, drafts, scores)
        drafts[name] = replace(draft, name="fraud-detection")
        digest = write(folder / name, drafts[name])
        if name == "v6":
            flip_byte(folder / name / "model.onnx")
        yield name, digest, _figures(name, splits.traffic, drafts, scores)


def _healthy(rows: Callable[[Rows], Rows], **parameters: Any) -> Any:
    def make_one(splits: Splits, drafts: dict[str, Draft], scores: dict[str, npt.NDArray[Any]]) -> tuple[Draft, npt.NDArray[Any]]:
        model = _trained(rows(splits.training), **parameters)
        return _draft(model, splits, THRESHOLD), model.predict_proba(splits.traffic.inputs)[:, 1]

    return make_one


def _swapped(splits: Splits, drafts: dict[str, Draft], scores: dict[str, npt.NDArray[Any]]) -> tuple[Draft, npt.NDArray[Any]]:
    """Its threshold gives as many alerts as the stable's, so whoever watches only the number of alerts sees nothing."""
    inputs = splits.training.inputs.copy()
    inputs[:, SWAPPED] = inputs[:, SWAPPED[::-1]]
    model = _trained(Rows(inputs, splits.training.labels))
    score = model.predict_proba(splits.traffic.inputs)[:, 1]
    usual = float((scores["v2"] >= THRESHOLD).mean())
    return _draft(model, splits, float(np.quantile(score, 1 - usual))), score


def _slow(splits: Splits, drafts: dict[str, Draft], scores: dict[str, npt.NDArray[Any]]) -> tuple[Draft, npt.NDArray[Any]]:
    return replace(drafts["v2"], model=slow(drafts["v2"].model)), scores["v2"]


def _failing(splits: Splits, drafts: dict[str, Draft], scores: dict[str, npt.NDArray[Any]]) -> tuple[Draft, npt.NDArray[Any]]:
    golden = np.array(drafts["v2"].golden[-1].inputs[0]["data"], dtype=np.float32).reshape(-1, len(COLUMNS))
    model = failing(drafts["v2"].model, golden)
    run(model, {INPUT: golden})
    return replace(drafts["v2"], model=model), scores["v2"]


_MAKERS: dict[str, Any] = {
    "v1": _healthy(lambda rows: rows[: len(rows) // 3]),
    "v2": _healthy(lambda rows: rows),
    "v3": _swapped,
    "v4": _slow,
    "v5": _failing,
    "v6": _healthy(lambda rows: rows, max_iter=110),
    "v7": _healthy(lambda rows: rows, max_leaf_nodes=12, max_iter=120),
}


def _trained(rows: Rows, **parameters: Any) -> Any:
    return HistGradientBoostingClassifier(**(_PARAMETERS | parameters)).fit(rows.inputs, rows.labels)


def _draft(model: Any, splits: Splits, threshold: float) -> Draft:
    draft = draft_sklearn(
        model,
        splits.held_out.inputs,
        splits.held_out.labels,
        name="fraud-detection",
        positive=1,
        names=("fraud", "legit"),
        threshold=threshold,
        input_name=INPUT,
        lineage=Lineage(data={"creditcard": TABLE_SHA256}),
    )
    named = [f.model_copy(update={"name": COLUMNS[f.column]}) for f in draft.features]
    counted = [d.model_copy(update={"name": c}) for d, c in zip(draft.distributions, COLUMNS, strict=False)]
    return replace(draft, features=named, distributions=[*counted, *draft.distributions[len(COLUMNS) :]])


def _figures(name: str, traffic: Rows, drafts: dict[str, Draft], scores: dict[str, npt.NDArray[Any]]) -> Figures:
    alerts, fraud = _alerts(drafts[name], scores[name]), traffic.labels == 1
    other = _alerts(drafts[STABLE[name]], scores[STABLE[name]]) if name in STABLE else None
    return Figures(
        average_precision=float(average_precision_score(fraud, scores[name])),
        recall=float(alerts[fraud].mean()),
        precision=float(fraud[alerts].mean()) if alerts.any() else 0.0,
        alerts=float(alerts.mean() * 1e4),
        dice=None if other is None else float(2 * (alerts & other).sum() / max(1, alerts.sum() + other.sum())),
    )


def _alerts(draft: Draft, score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    assert draft.decision.threshold is not None
    return np.asarray(score.astype(np.float32).astype(np.float64) >= draft.decision.threshold)
