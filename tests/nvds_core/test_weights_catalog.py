from __future__ import annotations

import re

import pytest

from nvds_core import ConfigError
from nvds_core.models import BUNDLED, MODELS
from nvds_core.weights_catalog import OFFICIAL, official_file

# From the published release pages; the models are those a run can name.
EXPECTED = {
    "nvds": "NVDS_Stabilizer.pth",
    "nvds-nyu": "NVDS_Stabilizer_NYUDV2_Finetuned.pth",
    "gmflow": "gmflow_sintel-0c07dcb3.pth",
    "gmflow-refine": "gmflow_with_refine_sintel-3ed1cf48.pth",
    "midas-v21": "midas_v21_384.pt",
    "midas-v21-small": "midas_v21_small_256.pt",
    "dpt-large": "dpt_large-midas-2f21e586.pt",
    "dpt-hybrid": "dpt_hybrid-midas-501f0c75.pt",
}
FILES = list(OFFICIAL.values())


def test_every_model_that_is_not_bundled_has_an_official_file_of_its_own_name() -> None:
    assert {name: OFFICIAL[name].file for name in EXPECTED} == EXPECTED
    assert MODELS.keys() - set(BUNDLED) == {file.name for file in FILES if file.name == file.model}
    assert {file.model for file in FILES} <= MODELS.keys()


def test_no_two_entries_share_a_file_name() -> None:
    names = [name for file in FILES for name in (file.file, *file.also_known)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_entry_is_complete_and_its_digest_begins_as_its_file_names_say(file) -> None:
    assert file.licence.id
    assert file.licence.note
    assert file.page.startswith("https://github.com/")
    assert file.url is None or (file.url.startswith(file.page.partition("/tag/")[0]) and file.url.endswith(file.file))
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}|", file.sha256)
    hints = [match[1] for name in (file.file, *file.also_known) if (match := re.search(r"-([0-9a-f]{8})\.", name))]
    assert all(file.sha256.startswith(hint) for hint in hints)
    assert bool(file.sha256) == (file.model != "nvds")


def test_a_digest_is_compared_as_far_as_it_is_published() -> None:
    whole, start, nothing = OFFICIAL["gmflow"], OFFICIAL["gmflow-kitti"], OFFICIAL["nvds"]
    assert (whole.has_whole_digest, start.has_whole_digest) == (True, False)
    assert whole.matches(whole.sha256)
    assert not whole.matches(whole.sha256[:-1] + "0")
    assert start.matches("285701a8" + "0" * 56)
    assert not start.matches("0" * 64)
    assert nothing.matches("0" * 64)


def test_only_flow_has_no_direct_address_and_the_encoders_licence_is_named() -> None:
    assert {file.name for file in FILES if file.url is None} == {n for n in OFFICIAL if n.startswith("gmflow")}
    assert "NVIDIA" in OFFICIAL["nvds"].licence.id
    assert "non-commercial" in OFFICIAL["nvds-nyu"].licence.note


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'midas'; known: dpt-hybrid, .*nvds-nyu"):
        official_file("midas")
