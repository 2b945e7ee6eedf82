"""A short seeded selection of `benchmarks.faults`, which has the whole matrix."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from benchmarks.faults import ON_A_DISK, fault, finished, make_inputs
from tests.flows.helpers import digests

CLIPS = 2
MAY_MOUNT = sys.platform == "linux" and os.geteuid() == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], float]:
    """Inputs, the digests of their results, and the seconds of the run that made these."""
    scratch = tmp_path_factory.mktemp("undisturbed")
    inputs = make_inputs(scratch / "in", CLIPS)
    summary, seconds = finished(inputs, scratch / "out", workers=0)
    assert (summary["done"], summary["failed"]) == (CLIPS, 1)
    return inputs, digests(scratch / "out"), seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "least", "most"), [("main", 0.3, 0.9), ("readonly", 0.3, 0.9), ("readonly", 0.0, 0.0)]
)
def test_a_fault_costs_nothing_but_time(
    undisturbed: tuple[Path, dict[str, str], float], tmp_path: Path, victim: str, least: float, most: float
) -> None:
    if victim in ON_A_DISK and not MAY_MOUNT:
        pytest.skip("only root on Linux can mount a disk")
    inputs, expected, seconds = undisturbed
    after_s = seconds * random.Random(f"{victim} {least}").uniform(least, most)
    what, wrong = fault(inputs, tmp_path / "disturbed", victim, after_s, 0, expected)
    assert not wrong, what
