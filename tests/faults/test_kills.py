"""A short seeded selection of `benchmarks.faults`, which has the whole matrix."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from benchmarks.faults import fault, finished, make_inputs, mount
from tests.flows.helpers import digests

CLIPS = 2


@pytest.fixture(scope="module")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether this user can mount a disk; root in a container often cannot."""
    disk = tmp_path_factory.mktemp("disk")
    try:
        mount(disk, "1m")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(disk)], check=True)
    return True


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
    undisturbed: tuple[Path, dict[str, str], float],
    may_mount: bool,
    tmp_path: Path,
    victim: str,
    least: float,
    most: float,
) -> None:
    if victim == "readonly" and not may_mount:
        pytest.skip("no disk can be mounted here")
    inputs, expected, seconds = undisturbed
    after_s = seconds * random.Random(f"{victim} {least}").uniform(least, most)
    what, wrong = fault(inputs, tmp_path / "disturbed", victim, after_s, 0, expected)
    assert not wrong, what
