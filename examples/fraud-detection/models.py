"""The seven versions by name. Imports nothing, so that a prepared demo starts at once."""

from __future__ import annotations

STABLE = {"v2": "v1", "v3": "v2", "v4": "v2", "v5": "v2", "v6": "v2", "v7": "v2"}
"""Which version serves when this one arrives."""
NAMES = ("v1", "v2", "v3", "v4", "v5", "v6", "v7")
WHAT = {
    "v1": "good: trained on a third of the data",
    "v2": "good: trained on all of it",
    "v3": "useless: V11 and V14 swapped in training",
    "v4": "slow: v2 behind eight large matrix products",
    "v5": "fails: v2, with 2 % of the requests in error",
    "v6": "damaged: good, but one bit of the file flipped",
    "v7": "good: other parameters",
}
