"""What docs/plugins.md shows is installed as a package and run."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from flows.commands_options import FLOW_HELP, PREDICTOR_HELP
from nvds_core.flow.base import FLOWS
from nvds_core.predictors.base import PREDICTORS, SCHEMES
from storage import open_volume, read_record
from tasks import workers
from tests.flows.finished import nvds
from tests.plugin_site import Site, plugin_site
from tests.tasks.helpers import clip

FRAMES = 3


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    with plugin_site(tmp_path / "site") as found:
        yield found
    workers._predictor.cache_clear()
    workers._flow.cache_clear()


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of a Markdown page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def install_example(site: Site, repo: Path) -> None:
    """The package of the page, with the entry points that its pyproject.toml names."""
    page = repo / "docs" / "plugins.md"
    [project] = [tomllib.loads(text)["project"] for text in blocks(page, "toml")]
    site.install(project["name"].replace("-", "_"), "\n\n".join(blocks(page, "python")), project["entry-points"])


def test_the_predictor_of_the_page_has_15_lines(repo):
    code = blocks(repo / "docs" / "plugins.md", "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_the_package_of_the_page_runs_as_the_page_says(prefect_api, repo, site, tmp_path):
    page = (repo / "docs" / "plugins.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^nvds run clips/ --out out (--predictor .*ramp.*)$", page, re.MULTILINE)
    install_example(site, repo)
    film, out = clip(tmp_path / "film.mp4", FRAMES), tmp_path / "out"
    options = [word.strip('"') for word in command.split()]
    result = nvds("run", film, "--out", out, *options, "--size", "64x64", "--encoding", "float32", "--json")
    assert result.exit_code == 0, result.stderr
    [folder] = (out / "videos").iterdir()
    record = read_record(folder)
    assert record is not None
    assert record["weights"]["predictor"] == "ramp:1:0.5"
    assert record["weights"]["flow"].startswith("farneback:1:opencv-")
    volume = open_volume(str(folder))
    assert volume.results == ("initial", "forward", "backward", "mix")
    initial = volume.read("initial")
    assert initial.shape == (FRAMES, 64, 64)
    # the ramp from top to bottom, but for what brightness adds: at most the contrast
    ramp = np.linspace(0, 1, 64)[None, :, None]
    assert (initial - ramp >= -0.05).all()
    assert (initial - ramp <= 0.55).all()
    assert np.ptp(initial - ramp) > 0.05
    again = nvds("run", film, "--out", out, *options, "--size", "64x64", "--encoding", "float32", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["cached"] == 1


def test_the_flow_of_the_page_finds_a_known_shift(repo, site):
    import cv2

    install_example(site, repo)
    flow = importlib.import_module("my_depth").Farneback("cpu")
    noise = np.random.default_rng(0).random((110, 130, 3)) * 255
    scene = cv2.GaussianBlur(noise, (0, 0), 2)
    scene = 255 * (scene - scene.min()) / np.ptp(scene)
    to_previous, to_next = flow.estimate(scene[5:105, 5:125], scene[7:107, 2:122])
    np.testing.assert_allclose(np.median(to_previous[:, 20:-20, 20:-20], axis=(1, 2)), [-3, 2], atol=0.2)
    np.testing.assert_allclose(np.median(to_next[:, 20:-20, 20:-20], axis=(1, 2)), [3, -2], atol=0.2)


NETWORKS_IN_A_ROW = """
import threading

import numpy as np

at_work = threading.Lock()
threads = set()


class Net:
    name, digest, short_side, multiple = "net", "1", 64, 1

    def __init__(self, device):
        self.device = device

    def predict(self, unit_rgb):
        return self._work(unit_rgb.shape[:3])

    def estimate(self, previous_rgb, current_rgb):
        to_previous = self.estimate_to_previous(previous_rgb, current_rgb)
        return to_previous, self.estimate_to_previous(current_rgb, previous_rgb)

    def estimate_to_previous(self, previous_rgb, current_rgb):
        return self._work((2, *current_rgb.shape[:2]))

    def _work(self, shape):
        threads.add(threading.get_ident())
        assert at_work.acquire(blocking=False)
        threading.Event().wait(0.05)
        at_work.release()
        return np.random.default_rng(0).random(shape, dtype=np.float32)
"""


def test_a_flow_network_and_the_predictor_take_turns_in_one_thread(site, tmp_path):
    site.install(
        "networks",
        NETWORKS_IN_A_ROW,
        {"nvds.predictors": {"net": "networks:Net"}, "nvds.flows": {"net": "networks:Net"}},
    )
    film, settings = clip(tmp_path / "film.mp4", FRAMES), tmp_path / "run.yaml"
    settings.write_text("limits: {videos: 1}")
    options = ["--predictor", "net", "--flow", "net", "--stabilizer", "none", "--size", "64x64", "--config", settings]
    result = nvds("run", film, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    assert len(importlib.import_module("networks").threads) == 1


def test_a_broken_plug_in_ends_the_command_with_one_line_only_if_it_is_asked_for(site, tmp_path):
    site.install("darkness", "import no_such_module", {"nvds.predictors": {"dark": "darkness:Dark"}})
    film = clip(tmp_path / "film.mp4", FRAMES)
    assert nvds("run", film, "--out", tmp_path / "out", "--size", "64x64", "--dry-run").exit_code == 0
    result = nvds("run", film, "--out", tmp_path / "out", "--predictor", "dark")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert "predictor 'dark' of package darkness 1.2 does not work: ModuleNotFoundError" in line


def test_one_video_without_maps_is_a_row_and_the_others_are_planned(tmp_path):
    for folder in ("in", "maps"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(("with", "without")):
        clip(tmp_path / "in" / f"{name}.mp4", FRAMES, seed=seed)
    np.save(tmp_path / "maps" / "with.npy", np.random.default_rng(0).random((FRAMES, 8, 8)))
    result = nvds(
        "run", tmp_path / "in", "--out", tmp_path / "out", "--predictor", f"folder:{tmp_path / 'maps'}", "--dry-run"
    )
    assert result.exit_code == 0, result.stderr
    assert "2 videos: 0 done, 1 pending, 1 unreadable (no_maps 1)" in result.stdout
    assert 'no maps for the video "without"; expected one of without/' in result.stdout


def test_the_help_lists_what_is_built_in_and_what_is_installed(site):
    site.install("darkness", "", {"nvds.predictors": {"dark": "darkness:Dark"}, "nvds.flows": {"still": "darkness:S"}})
    words = set(re.split(r"[ ,;:.()?=]+", PREDICTOR_HELP))
    assert {*PREDICTORS, *SCHEMES} <= words
    assert set(FLOWS) <= set(re.split(r"[ ,;:.()?=]+", FLOW_HELP))
    shown = nvds("run", "--help").stdout
    section = shown.partition("Installed plug-ins:")[2]
    assert re.search(r"--predictor +dark", section)
    assert re.search(r"--flow +still", section)


def test_without_plug_ins_the_help_has_no_section_for_them():
    assert "Installed plug-ins" not in nvds("run", "--help").stdout
