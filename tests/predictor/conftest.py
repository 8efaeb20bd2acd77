from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

if "AISERVICE_TEST_PREDICTORS" in os.environ:
    sys.path.insert(0, os.path.abspath(os.environ["AISERVICE_TEST_PREDICTORS"]))
    found = importlib.util.find_spec("aiservice_predictor.batcher")
    if found is None or not str(found.origin).endswith(tuple(EXTENSION_SUFFIXES)):
        raise RuntimeError(f"not compiled: {found}")

from predictor import models
from predictor.served import Served, serving


@pytest.fixture
def onnx(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes a model and gives its path."""

    def write(content: bytes) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The bundle of models.bundle, served."""
    folder = tmp_path_factory.mktemp("classes") / "bundle"
    models.bundle(folder)
    with serving(folder, revision="r1", max_body=2**20, max_rows=1000) as served:
        yield served


@pytest.fixture(scope="session")
def every_type(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """models.identities, served."""
    path = tmp_path_factory.mktemp("types") / "model.onnx"
    path.write_bytes(models.identities())
    with serving(path) as served:
        yield served
