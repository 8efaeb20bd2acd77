from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.machine import Machine, machine


@pytest.fixture
def box() -> Iterator[Machine]:
    """A machine; whatever the test leaves running on it ends."""
    with machine() as made:
        yield made
