"""The endpoints of the control plane, with the client that it uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiservice.api.bundle import Decision, Golden, GoldenRequest, ReferenceRow
from aiservice.api.runtime import GOLDEN_PATH, LABELS_PATH, REFERENCE_PATH, REPLAY_HEADER, RESERVOIR_PATH, Reservoir
from predictor import models
from predictor.models import tensor
from predictor.served import TOKEN, Served, serving

BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOW, HIGH = tensor("x", "FP32", [3, 2, 1], 1, 3), tensor("x", "FP32", [1, 2, 3], 1, 3)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle") as found:
        yield found


def reservoir(served: Served, query: str = "") -> Reservoir:
    return Reservoir.model_validate_json(served.client.get(RESERVOIR_PATH + query, headers=BEARER).content)


def test_what_was_asked_is_kept(served: Served) -> None:
    served.infer(LOW, id="first")
    for number in range(20):
        served.infer(HIGH, id=f"r{number}")
    served.infer(LOW, id="replayed", headers={REPLAY_HEADER: TOKEN})
    served.client.post("/v1/models/m:predict", json={"instances": [[1, 5, 1], [9, 1, 1]]})
    served.infer(tensor("x", "FP32", [1], 1), id="wrong")
    found = reservoir(served)
    assert found.seen == {"low": 2, "high": 20, "middle": 1}
    assert [r.id for r in found.requests][:21] == ["first", *(f"r{n}" for n in range(20))]
    assert len(found.requests) == 22
    assert found.requests[0].decisions == ["low"]
    assert found.requests[0].inputs == [LOW | {"data": [3.0, 2.0, 1.0]}]
    assert found.requests[-1].decisions == ["middle", "low"]
    assert all(r.fair for r in found.requests)
    spread = reservoir(served, "?limit=6")
    assert [r.id for r in spread.requests][:1] == ["first"]
    assert len(spread.requests) == 6
    assert served.metric("aiservice_reservoir_requests") == 22
    assert 0 < served.metric("aiservice_reservoir_bytes") < 22 * 2000


def test_what_is_kept_can_be_sent_again(served: Served) -> None:
    served.infer(HIGH)
    again = served.infer(*reservoir(served).requests[0].inputs, headers={REPLAY_HEADER: TOKEN})
    assert again.json()["parameters"]["decisions"] == ["high"]


def test_labels(served: Served) -> None:
    for id in ("a", "b", "c"):
        served.infer(HIGH, id=id)
    answer = served.client.post(LABELS_PATH, json={"labels": {"c": "low", "zz": "low"}}, headers=BEARER)
    assert answer.json() == {"matched": ["c"]}
    served.client.post(LABELS_PATH, json={"labels": {"a": "high"}}, headers=BEARER)
    labelled = reservoir(served, "?labelledAfter=0&limit=10").requests
    assert [(r.id, r.label, r.label_sequence) for r in labelled] == [("c", "low", 1), ("a", "high", 2)]
    assert all(r.labelled for r in labelled)
    assert [r.id for r in reservoir(served, "?labelledAfter=1").requests] == ["a"]
    for body, said in ((b"{", "labels"), (b'{"labels": {"a": 1}}', "labels.a"), (b'{"other": {}}', "labels")):
        wrong = served.client.post(LABELS_PATH, content=body, headers=BEARER)
        assert wrong.status_code == 400
        assert said in wrong.json()["error"]


def test_golden_and_reference(served: Served) -> None:
    golden = served.client.get(GOLDEN_PATH, headers=BEARER).json()
    request = GoldenRequest.model_validate(golden["requests"][0])
    Golden.model_validate(golden["golden"])
    answer = served.infer(*request.inputs, headers={REPLAY_HEADER: TOKEN}).json()
    assert answer["outputs"] == request.outputs
    reference = served.client.get(REFERENCE_PATH, headers=BEARER).json()
    assert ReferenceRow.model_validate(reference["rows"][0]).label == "2"
    assert Decision.model_validate(reference["decision"], strict=False).output == "scores"


@pytest.mark.parametrize("path", [RESERVOIR_PATH, GOLDEN_PATH, REFERENCE_PATH, LABELS_PATH])
def test_nobody_else_gets_in(classes: Served, path: str) -> None:
    method = "POST" if path == LABELS_PATH else "GET"
    for headers, status in (({}, 401), ({"Authorization": "Bearer guess"}, 403), ({"Authorization": f"Basic {TOKEN}"}, 401)):
        answer = classes.client.request(method, path, headers=headers)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]
        assert TOKEN not in answer.text
    wrong_method = classes.client.request("PUT", path, headers=BEARER)
    assert wrong_method.status_code == 405


@pytest.mark.parametrize("query", ["limit=-1", "limit=many", "labelledAfter=x"])
def test_wrong_numbers(classes: Served, query: str) -> None:
    assert classes.client.get(f"{RESERVOIR_PATH}?{query}", headers=BEARER).status_code == 400


def test_without_a_token_all_is_closed_and_without_bytes_nothing_is_kept(tmp_path: Path) -> None:
    models.bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", token="", reservoir_bytes=0) as served:
        for said in ("Bearer", "Bearer x"):
            answer = served.client.get(RESERVOIR_PATH, headers={"Authorization": said})
            assert answer.status_code == 403
        assert served.infer(HIGH, headers={REPLAY_HEADER: ""}).status_code == 403
        served.infer(HIGH)
        assert served.metric("aiservice_reservoir_bytes") == 0
        assert served.metric('aiservice_decisions_total{decision="high"}') == 1
