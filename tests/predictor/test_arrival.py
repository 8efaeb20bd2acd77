"""A model that is linked in later, as KServe's modelcar does, is waited for; another is not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from aiservice_predictor.arrival import MODE, arrived


def test_a_link_that_is_made_later_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    link = tmp_path / "models"

    def make() -> None:
        link.symlink_to(tmp_path / "not-there-yet")
        time.sleep(0.2)
        link.unlink()
        link.symlink_to(tmp_path / "image")

    maker = threading.Timer(0.1, make)
    maker.start()
    assert arrived(link, {MODE: "async"})
    maker.join()


def test_what_never_comes_is_given_up(tmp_path: Path) -> None:
    assert not arrived(tmp_path / "none", {MODE: "async"}, patience=0.1)


def test_what_is_not_announced_is_not_waited_for(tmp_path: Path) -> None:
    assert not arrived(tmp_path / "none", {}, patience=float("inf"))
