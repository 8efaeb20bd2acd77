"""Labels as clients send them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiservice.measure.labelling import MOST, Unfit, read


def test_every_kind_of_label_becomes_text() -> None:
    assert read(b'{"labels": {"a": true, "b": 1, "c": 0.5, "d": "fraud"}}') == {"a": "true", "b": "1", "c": "0.5", "d": "fraud"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "expected"),
        (b'{"labels": {}}', 400, "expected"),
        (b'{"labels": {"a": null}}', 400, "label of 'a' is None"),
        (json.dumps({"labels": {str(i): 1 for i in range(MOST + 1)}}).encode(), 413, "10001 labels given"),
    ],
)
def test_what_cannot_be_taken_is_named(body: bytes, status: int, words: str) -> None:
    with pytest.raises(Unfit, match=words) as found:
        read(body)
    assert found.value.status == status


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_what_is_no_map_of_labels_is_refused(body: object) -> None:
    with pytest.raises(Unfit):
        read(json.dumps(body).encode())
