"""Test-time optimisation as a method of a benchmark: with the set's poses, and where it cannot help."""

from __future__ import annotations

import numpy as np
import pytest

from flows.bench_rows import RESULTS_FILE, RUNTIME_FILE, read_rows
from flows.bench_runs import Ran
from nvds_core.synthetic import render_frame
from nvds_core.synthetic.still import still_scene
from storage.catalog import read_record
from tasks.workspace import make_workspace
from tests.flows.finished import nvds
from tests.nvds_core.datasets import makers

pytestmark = pytest.mark.slow
SIZE, FRAMES = (96, 64), 6
# on a CPU tf32 is another name for fp32
CONFIG = "tto: {tune: {epochs: 2, seed: 0}}\nframes: {size: {width: 96, height: 64}}\npredictor: {precision: tf32}\n"


def write_sequence(folder, motion):
    """A still scene in the format of 7-Scenes: depth in whole millimetres, poses as camera to world."""
    scene = still_scene(900, motion, frames=FRAMES, size=SIZE, speed=0.7)
    for index in range(FRAMES):
        frame, stem = render_frame(scene, index), f"frame-{index:06d}"
        makers.write_rgb(folder / f"{stem}.color.png", frame.rgb)
        makers.write_codes(folder / f"{stem}.depth.png", np.rint(frame.depth * 1000).clip(0, 65534).astype(np.uint16))
        world_from_cam = np.linalg.inv(np.vstack([scene.cam_from_world[index], [0, 0, 0, 1]]))
        makers.write_matrix(folder / f"{stem}.pose.txt", world_from_cam)
    fx, fy, cx, cy = scene.intrinsics[0]
    makers.write_matrix(folder / "camera-intrinsics.txt", np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))


def arguments(folder):
    return [folder / "room", "--methods", "initial,tto,cvd", "--config", folder / "tto.yaml", "--out", folder / "out"]


@pytest.fixture(scope="module")
def rows(prefect_api, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    write_sequence(folder / "room" / "seq-01", "sideways")
    write_sequence(folder / "room" / "seq-02", "turning")
    (folder / "tto.yaml").write_text(CONFIG)
    result = nvds("bench", *arguments(folder))
    assert result.exit_code == 1, "the turning camera has no parallax"
    found = {(row["video"], row["method"]): row for row in read_rows(folder / "out", RESULTS_FILE)}
    return found, folder / "out"


def test_tuned_results_are_scored_with_the_poses_of_the_set(rows):
    found, out = rows
    for method in ("tto", "cvd"):
        row = found["room-seq-01", method]
        assert row["status"] == "done"
        record = read_record(str(out / "stores" / f"tiny-{method}" / "videos" / row["video_id"]))
        assert record["config"]["tto"]["tune"]["method"] == {"tto": "pseudo", "cvd": "cvd"}[method]
        assert record["tto"]["registered"] == FRAMES
        assert row["opw"] == pytest.approx(record["opw"]["optimized"]["mean"], rel=1e-5)
        assert row["abs_rel"] != found["room-seq-01", "initial"]["abs_rel"]
        assert row["tae"] > 0


def test_the_time_of_every_method_is_known_although_they_share_artifacts(rows):
    timed = {row["method"]: row["ms_per_frame"] for row in read_rows(rows[1], RUNTIME_FILE)}
    assert set(timed) == {"initial", "tto", "cvd"}
    assert min(timed["tto"], timed["cvd"]) > timed["initial"] > 0


def test_the_precision_is_that_of_the_fine_tuning_where_there_was_one(rows):
    expected = {"initial": "tf32", "tto": "fp32", "cvd": "fp32"}
    for file in (RESULTS_FILE, RUNTIME_FILE):
        found = {row["method"]: row["precision"] for row in read_rows(rows[1], file)}
        assert {method: found[method] for method in expected} == expected


def test_a_video_that_cannot_be_optimised_counts_as_failed_there(rows):
    found, _ = rows
    row = found["room-seq-02", "tto"]
    assert (row["status"], row["step"], row["reason"]) == ("failed", "optimized", "no_parallax")
    assert row["opw"] is None
    assert {found["room-seq-02", method]["status"] for method in ("initial", "box", "constant")} == {"done"}


def test_tuned_results_are_scored_although_the_main_run_failed(rows, monkeypatch):
    _, out = rows

    def failed(out, config, videos):
        workspace = make_workspace(str(out / "stores" / "tiny"))
        return {video.folder: Ran(workspace, "none", None, "memory", "stabilized", "too large") for video in videos}

    monkeypatch.setattr("flows.bench.run_main", failed)
    nvds("bench", *arguments(out.parent), "--align", "median")  # another protocol, so that nothing is scored before
    found = {(row["video"], row["method"]): row for row in read_rows(out, RESULTS_FILE)}
    assert found["room-seq-01", "initial"]["reason"] == "memory"
    for method in ("tto", "cvd"):
        row = found["room-seq-01", method]
        assert (row["status"], row["align"], row["message"]) == ("done", "median", None)
        assert row["abs_rel"] > 0
