from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import ArtifactRef, artifact_key, canonical_json
from tests.storage.helpers import ROOT


class Mode(Enum):
    FAST = 1
    EXACT = 2


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (2, 3)


@dataclass(frozen=True)
class Config:
    threshold: float = 0.5
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class OtherConfig:
    threshold: float = 0.5
    inner: Inner = field(default_factory=Inner)


@dataclass
class Mutable:
    threshold: float = 0.5


def test_key_is_forty_hex_digits_of_the_sha256_of_the_canonical_json():
    expected = hashlib.sha256(b'["flow",3,"abc",{"a":1,"b":[null,true,0.25]}]').hexdigest()[:40]
    assert artifact_key("flow", 3, "abc", {"b": (None, True, 0.25), "a": 1}) == expected


def test_every_part_of_a_key_counts():
    base = artifact_key("flow", 1, ArtifactRef("frames", "aa"), Config())
    others = [
        artifact_key("flow2", 1, ArtifactRef("frames", "aa"), Config()),
        artifact_key("flow", 2, ArtifactRef("frames", "aa"), Config()),
        artifact_key("flow", 1, ArtifactRef("frames", "ab"), Config()),
        artifact_key("flow", 1, ArtifactRef("frames", "aa"), Config(threshold=0.50001)),
        artifact_key("flow", 1, ArtifactRef("frames", "aa"), Config(inner=Inner((3, 2)))),
        artifact_key("flow", 1, ArtifactRef("frames", "aa"), OtherConfig()),
        artifact_key("flow", 1, "aa", Config()),
        artifact_key("flow", 1, ArtifactRef("frames", "aa"), Config(), None),
    ]
    assert len({base, *others}) == len(others) + 1


def test_dict_order_tuples_and_integral_floats_make_no_difference():
    assert canonical_json({"b": 1, "a": (1.0, 2)}) == canonical_json({"a": [1, 2.0], "b": 1})


def test_true_differs_from_one_and_none_from_the_empty_string():
    assert len({canonical_json(value) for value in (True, 1, "1", None, "", False, 0)}) == 7


def test_numpy_scalars_equal_their_python_values():
    assert canonical_json([np.int64(3), np.float64(0.1), np.bool_(True)]) == canonical_json([3, 0.1, True])


def test_enum_members_enter_by_name():
    assert canonical_json(Mode.FAST) != canonical_json(Mode.EXACT)
    assert "FAST" in canonical_json(Mode.FAST)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_floats_have_one_text_exactly_when_they_are_equal(a: float, b: float):
    assert (canonical_json(a) == canonical_json(b)) == (a == b)


@given(st.text())
def test_any_text_is_accepted_and_gives_ascii(text: str):
    assert canonical_json({"t": text}).isascii()


@pytest.mark.parametrize(
    "part",
    [
        Path("a"),
        {1, 2},
        np.zeros(2),
        datetime(2026, 1, 1, tzinfo=UTC),
        np.datetime64("2026-01-01"),
        b"bytes",
        Mutable(),
        {"nested": [Path("x")]},
        {1: "number as a name"},
        object(),
        Config,
        1j,
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_could_carry_a_path_or_a_date_is_refused(part: object):
    with pytest.raises(TypeError, match="value"):
        artifact_key("flow", 1, part)


def test_refusal_names_the_place_in_the_settings():
    with pytest.raises(TypeError, match=r"value\[2\]\.model\[0\] is a pathlib"):
        artifact_key("flow", 1, {"model": [Path("x")]})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("nan")])
def test_floats_that_are_not_finite_are_refused(number: float):
    with pytest.raises(ValueError, match="finite"):
        artifact_key("flow", 1, number)


def test_key_is_the_same_in_another_process_with_another_hash_seed():
    code = "from storage import artifact_key; print(artifact_key('s', 1, {'b': 0.1, 'a': ['x', None]}))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
    )
    assert run.stdout.strip() == artifact_key("s", 1, {"a": ("x", None), "b": 0.1})
