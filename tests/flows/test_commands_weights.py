from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import flows.planning as planning
from flows import commands_weights
from nvds_core.weights_catalog import OFFICIAL
from tests.flows.finished import nvds
from tests.nvds_core.weights_helpers import FILE, Site, add_mini, mini_content, mini_state, serving


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NVDS_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving(Site(mini_content(tmp_path))) as running:
        add_mini(monkeypatch, url=running.url, sha256=running.sha256)
        yield running


def file_in(text: str, name: str) -> dict[str, object]:
    [about] = [about for about in json.loads(text)["files"] if about["name"] == name]
    return about


@pytest.mark.parametrize("command", ["list", "pull", "verify", "path"])
def test_every_command_explains_itself_with_examples(command: str) -> None:
    result = nvds("weights", command, "--help")
    assert result.exit_code == 0
    assert f"nvds weights {command}" in result.stdout.partition("Examples:")[2]


def test_the_list_shows_every_file_with_its_licence_and_what_is_installed(site: Site, cache: Path) -> None:
    cache.mkdir()
    (cache / FILE).write_bytes(site.content)
    (cache / "gmflow_sintel-0c07dcb3.pth").write_bytes(b"mine")
    result = nvds("weights", "list")
    assert result.exit_code == 0
    first, *lines = result.stdout.splitlines()
    assert first.startswith(str(cache))
    assert [line.split()[0] for line in lines] == list(OFFICIAL)
    states = {line.split()[0]: line.split()[1] for line in lines}
    assert (states["mini"], states["gmflow"], states["nvds"]) == ("published", "other", "missing")
    assert all(OFFICIAL[line.split()[0]].licence.id in line for line in lines)
    about = file_in(nvds("weights", "list", "--json").stdout, "mini")
    assert about["installed_sha256"] == about["sha256"] == site.sha256
    assert (about["installed"], about["path"], about["licence"]["note"]) == (True, str(cache / FILE), "for tests only")


def test_without_a_terminal_a_licence_must_be_accepted_by_an_option(site: Site, cache: Path) -> None:
    result = nvds("weights", "pull", "mini")
    assert result.exit_code == 2
    terms, refusal = result.stderr.splitlines()
    assert "LicenseRef-Test: for tests only" in terms
    assert refusal == f"nvds: {FILE} was not downloaded: its licence was not accepted; answer yes, or give --yes"
    assert site.asked == []
    assert not cache.exists()


def test_a_licence_is_asked_for_before_the_first_download_only(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_mini(monkeypatch, "mini", "mini-fine", url=site.url, sha256=site.sha256)
    result = nvds("weights", "pull", "mini", "--yes")
    assert result.exit_code == 0
    assert "LicenseRef-Test" in result.stderr
    assert result.stdout == f"mini: {cache / FILE}, sha256 {site.sha256}\n"
    again = nvds("weights", "pull", "mini")
    assert (again.exit_code, again.stdout) == (0, f"mini: already there, {cache / FILE}\n")
    assert len(site.asked) == 1
    other = nvds("weights", "pull", "mini-fine")  # under the same terms: shown, not asked
    assert other.exit_code == 0
    assert "LicenseRef-Test" in other.stderr


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("", 2)])
def test_in_a_terminal_the_licence_is_a_question(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(commands_weights, "_in_terminal", lambda: True)
    result = nvds("weights", "pull", "mini", typed=answer)
    assert "download it under these terms? [y/N]" in result.stderr
    assert result.exit_code == code
    assert (cache / FILE).exists() == (code == 0)


def test_files_that_fail_are_counted_and_the_others_come(site: Site, cache: Path) -> None:
    result = nvds("weights", "pull", "gmflow", "mini", "--yes")
    assert result.exit_code == 1
    assert (cache / FILE).exists()
    [line] = [line for line in result.stderr.splitlines() if line.startswith("nvds: ")]
    assert "gmflow_sintel-0c07dcb3.pth of gmflow cannot be downloaded directly" in line
    assert "https://github.com/haofeixu/gmflow" in line
    assert nvds("weights", "pull", "gmflow", "--yes").exit_code == 2
    assert nvds("weights", "pull", "nope").stderr.startswith("nvds: no official weights called 'nope'")


def test_no_connection_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Site(b"")) as gone:
        add_mini(monkeypatch, url=gone.url)
    result = nvds("weights", "pull", "mini", "--yes")
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert "cannot be reached" in line
    assert f'"nvds weights pull mini --from FILE", or as {cache / FILE}' in line


def test_a_local_file_is_adopted_and_other_weights_only_with_consent(site: Site, cache: Path, tmp_path: Path) -> None:
    good, own = tmp_path / "download (1)", tmp_path / "own.pth"
    good.write_bytes(site.content)
    torch.save({k: v * 2 if v.is_floating_point() else v for k, v in mini_state().items()}, own)
    result = nvds("weights", "pull", "mini", "--from", good)
    assert (result.exit_code, result.stdout) == (0, f"mini: {cache / FILE}, sha256 {site.sha256}\n")
    refused = nvds("weights", "pull", "mini", "--from", own)
    assert refused.exit_code == 2
    assert "not the published mini_net.pth" in refused.stderr.splitlines()[-1]
    assert (cache / FILE).read_bytes() == site.content
    assert nvds("weights", "pull", "mini", "--from", own, "--yes").exit_code == 0
    assert (cache / FILE).read_bytes() == own.read_bytes()
    assert nvds("weights", "pull", "mini", "nvds", "--from", own).exit_code == 2
    assert site.asked == []


def test_verification_reads_everything_anew(site: Site, cache: Path) -> None:
    nothing = nvds("weights", "verify")
    assert (nothing.exit_code, nothing.stdout) == (0, f"{cache}: no official weights are installed\n")
    assert nvds("weights", "verify", "mini").exit_code == 1
    nvds("weights", "pull", "mini", "--yes")
    result = nvds("weights", "verify")
    assert (result.exit_code, result.stdout.split()) == (0, ["mini", site.sha256, "as", "published"])
    stamp, damaged = (cache / FILE).stat(), bytearray(site.content)
    damaged[len(damaged) // 2] ^= 1
    (cache / FILE).write_bytes(damaged)
    assert stamp.st_size == len(damaged)
    result = nvds("weights", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False
    about = file_in(result.stdout, "mini")
    assert about["state"] in ("other", "unreadable")
    assert about["installed_sha256"] != site.sha256


def test_verification_tells_the_weights_of_another_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_mini(monkeypatch)
    cache.mkdir()
    torch.save({"a": torch.ones(1)}, cache / FILE)
    result = nvds("weights", "verify", "mini")
    assert result.exit_code == 1
    assert "damaged or of another network" in result.stdout
    assert "do not fit MiniNet" in result.stdout


def test_the_path_is_that_of_the_folder_or_of_a_file(site: Site, cache: Path) -> None:
    assert nvds("weights", "path").stdout == f"{cache}\n"
    missing = nvds("weights", "path", "mini")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr.startswith("nvds: the weights of mini are missing")
    nvds("weights", "pull", "mini", "--yes")
    assert nvds("weights", "path", "mini").stdout == f"{cache / FILE}\n"


@pytest.mark.parametrize("option", [("--stabilizer", "nvds"), ("--predictor", "dpt-large"), ("--flow", "gmflow")])
def test_a_run_without_its_weights_ends_before_any_video_is_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.setattr(planning, "identify", lambda source, memo: pytest.fail("read"))
    (tmp_path / "clip.mp4").write_bytes(b"never read")
    result = nvds("run", tmp_path / "clip.mp4", *option, "--out", tmp_path / "out")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("nvds: weights are missing - ")
    assert f'"nvds weights pull {option[1]} --from FILE"' in line
    assert str(cache / OFFICIAL[option[1]].file) in line
    assert result.stdout == ""
