from __future__ import annotations

import os
from pathlib import Path

import pytest

from nvds_core import WeightsError, weights_cache
from nvds_core.weights_cache import (
    cache_dir,
    checkpoint_path,
    digest_state,
    find_installed,
    installed_digest,
    installed_digests,
    licence_accepted,
    read_index,
    remember_licence,
    require_checkpoints,
)
from nvds_core.weights_catalog import official_file
from tests.nvds_core.weights_helpers import FILE, add_mini


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NVDS_WEIGHTS", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes were read for a digest."""
    names: list[str] = []
    original = weights_cache.file_digest

    def counted(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(weights_cache, "file_digest", counted)
    return names


def test_the_cache_is_where_the_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("NVDS_WEIGHTS", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("NVDS_WEIGHTS", "")
    assert cache_dir() == tmp_path / "xdg" / "nvds" / "weights"
    for ignored in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_dir() == tmp_path / ".cache" / "nvds" / "weights"


def test_missing_weights_are_told_in_one_line_with_the_address_the_command_and_the_place(cache: Path) -> None:
    with pytest.raises(WeightsError) as error:
        checkpoint_path("dpt-large")
    line = str(error.value)
    assert "\n" not in line
    address = "https://github.com/isl-org/DPT/releases/download/1_0/dpt_large-midas-2f21e586.pt"
    for part in (
        "weights of dpt-large are missing",
        '"nvds weights pull dpt-large"',
        address,
        "--from FILE",
        str(cache / "dpt_large-midas-2f21e586.pt"),
    ):
        assert part in line


def test_weights_without_an_address_name_the_page_and_how_to_adopt_them(cache: Path) -> None:
    with pytest.raises(WeightsError) as error:
        checkpoint_path("gmflow")
    line = str(error.value)
    assert "gmflow_sintel-0c07dcb3.pth by way of https://github.com/haofeixu/gmflow" in line
    assert '"nvds weights pull gmflow --from FILE"' in line
    assert '"nvds weights pull gmflow"' not in line


def test_a_file_is_found_under_its_official_name_first_and_else_under_another(cache: Path) -> None:
    (cache / "midas_v21-f6b98070.pt").touch()
    assert checkpoint_path("midas-v21") == cache / "midas_v21-f6b98070.pt"
    (cache / "midas_v21_384.pt").touch()
    assert checkpoint_path("midas-v21") == cache / "midas_v21_384.pt"
    (cache / "NVDS_Stabilizer.pth").mkdir()  # a folder is no file
    assert find_installed(official_file("nvds")) is None


def test_all_missing_files_of_a_run_are_told_at_once(cache: Path) -> None:
    (cache / "NVDS_Stabilizer.pth").touch()
    require_checkpoints(["tiny", "nvds", "none", "folder:depth"])
    with pytest.raises(WeightsError) as error:
        require_checkpoints(["dpt-large", "nvds", "gmflow", "dpt-large"])
    line = str(error.value)
    assert "\n" not in line
    assert line.count("pull dpt-large --from") == line.count("pull gmflow --from") == 1
    assert "pull nvds" not in line


def test_a_digest_is_read_once_as_long_as_the_file_stays_the_same(cache: Path, reads: list[str]) -> None:
    path = cache / "NVDS_Stabilizer.pth"
    path.write_bytes(b"one")
    first = installed_digest(path)
    assert installed_digests(["nvds", "tiny"]) == {"nvds": ("NVDS_Stabilizer.pth", first)}
    assert reads == ["NVDS_Stabilizer.pth"]
    os.utime(path, ns=(1, 1))
    assert installed_digest(path) == first
    assert installed_digest(path) == first
    assert len(reads) == 2


def test_a_file_that_changed_is_told_where_no_digest_is_published(cache: Path) -> None:
    file, path = official_file("nvds"), cache / "NVDS_Stabilizer.pth"
    path.write_bytes(b"one")
    assert digest_state(file, path, installed_digest(path)) == "unpublished"
    path.write_bytes(b"two")
    assert digest_state(file, path, installed_digest(path)) == "changed"
    assert digest_state(file, path, installed_digest(path)) == "changed"  # asking does not make it good


@pytest.mark.parametrize(
    ("published", "state"), [("7692c3ad" + "0" * 56, "other"), ("7692c3ad", "prefix"), ("aaaaaaaa", "other")]
)
def test_a_published_digest_decides(cache: Path, monkeypatch: pytest.MonkeyPatch, published: str, state: str) -> None:
    add_mini(monkeypatch, sha256=published)
    (cache / FILE).write_bytes(b"one")  # sha256 7692c3ad3540bb80...
    assert digest_state(official_file("mini"), cache / FILE, installed_digest(cache / FILE)) == state


def test_a_damaged_index_is_an_empty_one(cache: Path) -> None:
    path = cache / "NVDS_Stabilizer.pth"
    path.write_bytes(b"one")
    good = installed_digest(path)
    for content in ("", "[]", '{"files": 3}', '{"files": {"a": {"b": 1}}, "accepted": []}', "\0"):
        (cache / "index.json").write_text(content)
        assert read_index().files == {}
        assert installed_digest(path) == good


def test_a_cache_that_cannot_be_written_can_be_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(index: object) -> None:
        raise PermissionError("read-only")

    (cache / FILE).write_bytes(b"one")
    monkeypatch.setattr(weights_cache, "write_index", refuse)
    assert installed_digest(cache / FILE).startswith("7692c3ad")


def test_an_accepted_licence_holds_for_files_under_the_same_terms_only(cache: Path) -> None:
    remember_licence(official_file("nvds"))
    assert licence_accepted(official_file("nvds-nyu"))
    assert not licence_accepted(official_file("dpt-large"))
    assert [path.name for path in cache.iterdir()] == ["index.json"]
