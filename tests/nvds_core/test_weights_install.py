from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from nvds_core import ConfigError, WeightsError, create_model
from nvds_core.checkpoints import file_digest
from nvds_core.weights_cache import checkpoint_path, read_index
from nvds_core.weights_install import adopt, check_whole, pull
from tests.nvds_core.weights_helpers import FILE, Site, add_mini, evil_files, mini_content, mini_state, serving

NO_WAIT = (0.0,)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NVDS_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with the official file of ``mini``, whose whole digest is published."""
    with serving(Site(mini_content(tmp_path))) as running:
        add_mini(monkeypatch, url=running.url, sha256=running.sha256)
        yield running


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"index.json"}


def test_a_pulled_file_is_whole_noted_and_loads(site: Site, cache: Path) -> None:
    path = pull("mini")
    assert path == cache / FILE == checkpoint_path("mini")
    assert path.read_bytes() == site.content
    assert read_index().files[FILE].sha256 == site.sha256
    assert names_in(cache) == {FILE}
    weight = create_model("mini", pretrained=True).get_parameter("conv.weight")
    assert torch.equal(weight, mini_state()["module.conv.weight"])


def test_a_download_that_broke_off_leaves_no_file_and_goes_on_with_the_next_call(site: Site, cache: Path) -> None:
    half = len(site.content) // 2
    site.cuts = [half, 0, 0]
    with pytest.raises(WeightsError, match=rf"broken off at {half} bytes.*nvds weights pull mini --from FILE"):
        pull("mini", pauses=NO_WAIT)
    assert names_in(cache) == {f"{FILE}.partial", "mini_net.pth.tag"}
    pull("mini")
    assert site.asked[-1] == f"bytes={half}-"
    assert (cache / FILE).read_bytes() == site.content
    assert names_in(cache) == {FILE}


def test_an_interruption_keeps_what_came(site: Site, cache: Path) -> None:
    def interrupt(held: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("mini", progress=interrupt)
    assert names_in(cache) == {f"{FILE}.partial", "mini_net.pth.tag"}
    pull("mini")
    assert (cache / FILE).read_bytes() == site.content


@pytest.mark.parametrize("published", ["0" * 64, "00000000"])
def test_a_download_with_a_wrong_digest_is_thrown_away(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, published: str
) -> None:
    add_mini(monkeypatch, url=site.url, sha256=published)
    with pytest.raises(WeightsError, match=f"has sha256 {site.sha256}, published is {published}"):
        pull("mini")
    assert names_in(cache) == set()


def test_a_download_of_something_else_is_thrown_away_though_no_digest_is_published(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_mini(monkeypatch, url=site.url)
    site.content = b"<html>sign in</html>" * 1000
    with pytest.raises(WeightsError, match="not a whole checkpoint"):
        pull("mini")
    assert names_in(cache) == set()


def test_a_file_without_an_address_says_how_to_get_it(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be downloaded directly: .*haofeixu/gmflow.*--from FILE"):
        pull("gmflow")
    with pytest.raises(ConfigError, match="'nope'"):
        pull("nope")


def test_two_processes_do_not_write_one_file(site: Site, cache: Path) -> None:
    seen = []

    def meanwhile(held: int, total: int | None) -> None:
        with pytest.raises(WeightsError, match="another process is fetching"):
            pull("mini")
        seen.append(held)

    pull("mini", progress=meanwhile)
    assert seen
    assert (cache / FILE).read_bytes() == site.content


def test_a_file_under_any_name_is_adopted_under_the_official_one(site: Site, cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "weights from a friend.bin"
    source.write_bytes(site.content)
    assert adopt("mini", source) == cache / FILE
    assert (cache / FILE).read_bytes() == site.content
    assert read_index().files[FILE].sha256 == site.sha256
    assert adopt("mini", cache / FILE) == cache / FILE  # adopting what is there already changes nothing
    assert names_in(cache) == {FILE}


def test_other_weights_are_adopted_only_if_that_is_wanted(site: Site, cache: Path, tmp_path: Path) -> None:
    source, told = tmp_path / "finetuned.pth", []
    torch.save({"model": {k: v * 2 for k, v in mini_state().items() if "table" not in k}}, source)

    def answer(yes: bool):
        return lambda text: told.append(text) or yes

    for accept in (None, answer(False)):
        with pytest.raises(WeightsError, match="not the published"):
            adopt("mini", source, accept_other=accept)
        assert not (cache / FILE).exists()
    adopt("mini", source, accept_other=answer(True))
    assert file_digest(cache / FILE) == file_digest(source)
    assert len(told) == 2
    assert site.sha256 in told[0]


def test_files_that_cannot_be_the_weights_are_not_adopted(
    site: Site, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_mini(monkeypatch)
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "other.pth")
    (tmp_path / "short.pth").write_bytes(site.content[: len(site.content) // 2])
    flipped = bytearray(site.content)
    flipped[site.content.index(mini_state()["module.conv.weight"].numpy().tobytes())] ^= 1
    (tmp_path / "flipped.pth").write_bytes(flipped)
    expected = {"other": "do not fit MiniNet", "short": "truncated", "flipped": "checksum", "absent": "no such file"}
    for name, words in expected.items():
        with pytest.raises(WeightsError, match=rf"{name}\.pth: .*{words}"):
            adopt("mini", tmp_path / f"{name}.pth")
    marker = tmp_path / "marker"
    for path in evil_files(tmp_path / "evil", marker):
        with pytest.raises(WeightsError, match=path.name):
            adopt("mini", path)
    assert not marker.exists()
    assert not cache.exists() or names_in(cache) == set()


def test_a_broken_download_and_a_broken_copy_are_not_mixed(
    site: Site, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(original: BinaryIO, copy: BinaryIO, length: int) -> None:
        copy.write(b"x" * 1500)
        raise KeyboardInterrupt

    source = tmp_path / "mine.pth"
    source.write_bytes(site.content)
    site.cuts = [1000, 0, 0]
    with pytest.raises(WeightsError):
        pull("mini", pauses=NO_WAIT)
    monkeypatch.setattr(shutil, "copyfileobj", stopped)
    with pytest.raises(KeyboardInterrupt):
        adopt("mini", source)
    pull("mini")
    assert (cache / FILE).read_bytes() == site.content
    assert names_in(cache) == {FILE}


def test_what_is_no_zip_has_no_checksums_to_look_at(tmp_path: Path) -> None:
    torch.save(mini_state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_whole(tmp_path / "old.pth")


def test_the_installed_file_can_be_read_by_others(site: Site, cache: Path) -> None:
    mask = os.umask(0o022)
    try:
        path = pull("mini")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644
    assert hashlib.sha256(path.read_bytes()).hexdigest() == site.sha256
