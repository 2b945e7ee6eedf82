"""Test-time optimisation through whole runs: results, failures as data, caching, and a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flows.bench_of_runs import rows_of_run, timed_of_run
from flows.reporting import describe
from nvds_core.geometry.colmap import write_pictures
from nvds_core.types import ConfigError
from storage import open_arrays
from storage.tables import latest
from tests.flows.helpers import leftovers, run
from tests.flows.optimized import FRAMES, SIZE, optimized, posed_video, settings, volume_of
from tests.nvds_core.geometry.made_videos import moving_scene, write_video

REPO = Path(__file__).resolve().parents[2]
BEFORE_TUNING = ("frames", "initial", "poses", "pair_flow", "pair_masks", "pair_reference", "reference")


@pytest.fixture(scope="module")
def runs(prefect_api, tmp_path_factory):
    """A first run with given poses, the same again, and one with another learning rate."""
    folder = tmp_path_factory.mktemp("tto")
    found = SimpleNamespace(api=prefect_api, out=folder / "out")
    found.clip, found.poses = posed_video(folder)
    found.first, found.watched = optimized(found.clip, found.out, found.poses, epochs=4)
    volume = volume_of(found.out)
    found.attributes, found.results = volume.attributes, volume.results
    found.maps = {name: volume.read(name) for name in volume.results}
    found.reference, found.confidence = (volume.read_further(name) for name in ("reference", "confidence"))
    found.digest = volume.digest("optimized")
    found.again, found.again_watched = optimized(found.clip, found.out, found.poses, epochs=4)
    found.other, found.other_watched = optimized(found.clip, found.out, found.poses, epochs=1, learning_rate=3e-4)
    return found


def test_a_video_with_poses_is_optimised_and_its_volume_says_how(runs):
    assert (runs.first["done"], runs.first["failed"], runs.first["tto"]) == (1, 0, {"ok": 1})
    assert runs.results == ("initial", "optimized")
    account = runs.attributes["tto"]
    assert (account["status"], account["reason"], account["method"], account["epochs"]) == ("ok", "", "pseudo", 4)
    assert account["learning_rate"] == 1e-3, "that of tiny"
    assert 1 <= account["best_epoch"] <= 4
    assert float(account["loss_after"]) < float(account["loss_before"])
    assert (account["registered"], account["pairs"]) == (FRAMES, 10)
    assert not np.array_equal(runs.maps["optimized"], runs.maps["initial"])
    known = np.isfinite(runs.reference)
    assert known[runs.confidence > 0].all()
    assert known.mean() == pytest.approx(account["valid_share"], rel=1e-5)
    assert (runs.reference[known] > 0).all()


def test_cameras_are_those_given_at_the_size_of_the_volume(runs):
    given = json.loads(runs.poses.read_text())["cameras"]
    cameras = runs.attributes["cameras"]
    assert [camera["frame"] for camera in cameras] == [camera["name"] for camera in given]
    assert [camera["index"] for camera in cameras] == list(range(FRAMES))
    assert cameras[2]["intrinsics"] == pytest.approx(given[2]["intrinsics"])
    np.testing.assert_allclose(cameras[2]["cam_from_world"], given[2]["cam_from_world"], atol=1e-12)


def test_points_of_neighbours_are_compared_even_where_their_rays_are_too_parallel_for_a_reference(runs, tmp_path):
    config = settings(runs.poses, epochs=0)
    config["tto"]["reference"] = {"sin2_min": 0.02}
    run(runs.clip, tmp_path / "out", **config)
    (folder,) = (tmp_path / "out" / ".work" / "pair_reference").glob("*/arrays")
    arrays = open_arrays(folder)
    valid, followed = (arrays.read(name).astype(bool) for name in ("valid", "followed"))
    assert not (valid & ~followed).any()
    assert valid.any()
    for row, (i, j) in enumerate(arrays.attributes["pairs"]):
        if abs(i - j) == 1:
            assert followed[row].mean() > 0.5
            assert valid[row].mean() < 0.5 * followed[row].mean()


def test_a_second_run_computes_nothing(runs):
    assert (runs.again["done"], runs.again["cached"]) == (1, 1)
    assert all(outcome.steps == () for outcome in runs.again_watched.outcomes)


def test_another_learning_rate_recomputes_the_fine_tuning_and_nothing_before_it(runs):
    (outcome,) = runs.other_watched.outcomes
    assert {step: result.cached for step, result in outcome.steps} == {
        **dict.fromkeys(BEFORE_TUNING, True),
        **dict.fromkeys(("finetuned", "optimized", "published"), False),
    }


def test_a_fine_tuning_that_was_killed_goes_on_at_its_epoch_and_gives_the_same_bits(runs, tmp_path):
    command = [sys.executable, "-m", "tests.flows.optimized", runs.clip, tmp_path / "out", runs.poses]
    environment = {**os.environ, "PREFECT_API_URL": runs.api}  # no server of its own, which would outlive it
    killed = subprocess.run(command, cwd=REPO, env=environment, stderr=subprocess.DEVNULL, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    (state,) = (tmp_path / "out" / ".work" / "progress").iterdir()
    assert state.suffix == ".pt"
    content = torch.load(state, weights_only=True)
    assert content["state"]["seconds"] > 0
    content["state"]["seconds"] = 5000.0
    torch.save(content, state)
    summary, watched = optimized(runs.clip, tmp_path / "out", runs.poses, epochs=4)
    assert summary["tto"] == {"ok": 1}
    (outcome,) = watched.outcomes
    steps = dict(outcome.steps)
    assert steps["reference"].cached
    assert steps["finetuned"].seconds > 5000, "with those of the killed attempt"
    assert volume_of(tmp_path / "out").digest("optimized") == runs.digest
    assert not state.exists()
    assert leftovers(tmp_path / "out") == []


def check_untouched(out, summary, watched, status, words):
    """The video is done with its initial disparity as the result, and everybody is told why."""
    assert (summary["done"], summary["failed"], summary["tto"]) == (1, 0, {status: 1})
    volume = volume_of(out)
    assert volume.attributes["tto"]["status"] == status
    np.testing.assert_array_equal(volume.read("optimized"), volume.read("initial"))
    (row,) = latest(str(out), "outcomes")
    assert (row["status"], row["reason"], row["step"]) == ("done", status, "optimized")
    assert words in row["message"]
    rows = {row["method"]: (row["status"], row["reason"]) for row in rows_of_run(str(out))}
    assert rows == {"initial": ("done", None), "tto": ("failed", status)}
    (outcome,) = watched.outcomes
    assert f"not optimised ({status})" in describe(outcome)
    return row["message"]


@pytest.mark.parametrize("motion", ["still", "turning"])
def test_given_poses_without_parallax_leave_the_initial_disparity(runs, tmp_path, motion):
    clip, poses = posed_video(tmp_path, motion)
    summary, watched = optimized(clip, tmp_path / "out", poses)
    check_untouched(tmp_path / "out", summary, watched, "no_parallax", "hardly changes its place")


def test_a_single_frame_keeps_its_initial_disparity(runs, tmp_path):
    clip, poses = posed_video(tmp_path, frames=1)
    summary, watched = optimized(clip, tmp_path / "out", poses)
    check_untouched(tmp_path / "out", summary, watched, "no_poses", "has poses of 1 of 1 frames, but never 2 in a row")


def test_pairs_that_overlap_too_little_leave_the_initial_disparity(runs, tmp_path):
    config = settings(runs.poses)
    config["tto"]["pairs"] = {"overlap_ratio": 1.0}
    summary, watched = run(runs.clip, tmp_path / "out", **config)
    check_untouched(tmp_path / "out", summary, watched, "no_pairs", "none of 10 pairs")


def test_a_fine_tuning_that_diverges_leaves_the_initial_disparity(runs, tmp_path):
    summary, watched = optimized(runs.clip, tmp_path / "out", runs.poses, epochs=1, learning_rate=1.0)
    check_untouched(tmp_path / "out", summary, watched, "diverged", "validation loss went from")


@pytest.mark.parametrize("situation", ["static", "pure rotation", "two frames", "textureless"])
def test_a_video_that_colmap_cannot_solve_keeps_its_initial_disparity(runs, tmp_path, situation):
    pytest.importorskip("pycolmap")
    if situation == "textureless":
        grey = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
        write_pictures(tmp_path / "clip", ((f"f{k}", grey) for k in range(4)))
        clip = tmp_path / "clip"
    else:
        motion = {"static": "still", "pure rotation": "turning", "two frames": "sideways"}[situation]
        clip, _ = posed_video(tmp_path, motion, frames=2 if situation == "two frames" else 4)
    summary, watched = optimized(clip, tmp_path / "out", None)
    message = check_untouched(tmp_path / "out", summary, watched, "no_poses", "COLMAP")
    assert ("; COLMAP: " in message) == (situation != "two frames"), "COLMAP's own last words, where it was asked"
    assert np.isnan(volume_of(tmp_path / "out").read_further("reference")).all()


def test_unregistered_frames_in_the_middle_shift_no_camera(runs, tmp_path):
    pytest.importorskip("pycolmap")
    write_video(tmp_path / "clip", moving_scene(16, step=0.04, turn=0.05), blank=range(11, 14))
    summary, _ = optimized(tmp_path / "clip", tmp_path / "out", None, epochs=1)
    assert summary["failed"] == 0
    volume = volume_of(tmp_path / "out")
    cameras = volume.attributes["cameras"]
    assert [(camera["index"], camera["frame"]) for camera in cameras] == [(k, f"frame_{k}.png") for k in range(11)]
    assert "5 of 16 frames are left out" in volume.attributes["tto"]["left_out"]
    assert not np.isfinite(volume.read_further("reference", 11)).any()
    assert np.isfinite(volume.read("optimized")).all(), "the network sees every frame, with or without a pose"


def test_the_stabiliser_works_on_the_optimised_disparity(runs, tmp_path):
    config = settings(runs.poses) | {"score": {"name": "nvds"}, "predictor": {"precision": "bf16"}}
    config["stabilizer"] = {"name": "nvds-tiny", "precision": "tf32"}
    summary, _ = run(runs.clip, tmp_path / "out", **config)
    volume = volume_of(tmp_path / "out")
    assert volume.results == ("initial", "optimized", "forward", "backward", "mix")
    assert set(summary["opw"]) == set(volume.results)
    assert all(value > 0 for value in summary["opw"].values())
    rows = {row["method"]: row for row in rows_of_run(str(tmp_path / "out"))}
    assert list(rows) == ["initial", "tto", "tto+forward", "tto+backward", "tto+mix"]
    assert rows["tto+mix"]["opw"] == summary["opw"]["mix"]
    assert [row["stabilizer"] for row in rows.values()] == [None, None, *["nvds-tiny"] * 3]
    assert [row["precision"] for row in rows.values()] == ["bf16", "fp32", *["fp32 + tf32"] * 3]
    seconds = {row["method"]: row["ms_per_frame"] for row in timed_of_run(str(tmp_path / "out"))}
    assert seconds["initial"] < seconds["tto"] < seconds["tto+mix"], "what a method needs was all counted"


def test_poses_of_one_video_are_not_given_to_several(runs, tmp_path):
    other, _ = posed_video(tmp_path, "diagonal", frames=3)
    listed = tmp_path / "both.txt"
    listed.write_text(f"{runs.clip}\n{other}\n")
    with pytest.raises(ConfigError, match="holds the poses of one video"):
        optimized(listed, tmp_path / "out", runs.poses)
