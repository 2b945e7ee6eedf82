"""A whole benchmark on small sets: rows against plain evaluations, repetition, failures, tables."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from flows.bench_inputs import BenchVideo
from flows.bench_maps import Constant
from flows.bench_rows import RESULTS_FILE, RUNTIME_FILE, read_rows
from flows.bench_score import _Scored, accuracy_figures
from nvds_core.datasets import open_dataset
from nvds_core.metrics import video_errors
from nvds_core.metrics.published import fit_float32
from nvds_core.stabilization import quantize_disparity
from storage import open_volume
from storage.catalog import read_record
from tests.flows.finished import nvds
from tests.nvds_core.datasets import makers

SYNTHETIC = "synthetic:900..901?frames=4&size=96x64"
METHODS = ("initial", "forward", "backward", "mix", "box", "constant")
STABLE_FILES = [f"{layout}.{end}" for layout in ("nvds", "common", "failures") for end in ("md", "tex", "csv", "json")]


@pytest.fixture(scope="module")
def made(prefect_api, tmp_path_factory):
    """A benchmark over four sets, one video of which has damaged truth; then the same once more, and elsewhere."""
    folder = tmp_path_factory.mktemp("bench")
    vdw = makers.make_vdw(folder / "vdw", frames=4, size=(64, 96))
    (vdw / "000424" / "left_gt" / "frame_000002.png").write_bytes(b"nonsense")
    scenes = makers.make_seven_scenes(folder / "chess")
    davis = makers.make_davis(folder / "davis")
    sets = [SYNTHETIC, vdw, f"7scenes:{scenes}", davis]
    found = SimpleNamespace(sets=sets, vdw=vdw, scenes=scenes, out=folder / "out", other=folder / "other")
    found.first = nvds("bench", *sets, "--out", found.out, "--short-side", 64, "--json")
    found.rows = read_rows(found.out, RESULTS_FILE)
    found.files = {path.name: path.read_bytes() for path in (found.out / "tables").iterdir()}
    found.parquet = (found.out / RESULTS_FILE).read_bytes()
    found.again = nvds("bench", *sets, "--out", found.out, "--short-side", 64)
    nvds("bench", *sets, "--out", found.other, "--short-side", 64)
    return found


def rows_of(made, **wanted):
    return [row for row in made.rows if all(row[name] == value for name, value in wanted.items())]


def volume_of(made, row):
    return open_volume(made.out / "stores" / "tiny" / "videos" / row["video_id"])


def test_there_is_one_row_per_set_video_predictor_and_method(made):
    assert made.first.exit_code == 1, "one truth is damaged"
    keys = [(row["set"], row["video"], row["method"]) for row in made.rows]
    videos = [("7scenes", "chess-seq-03"), ("7scenes", "chess-seq-05"), ("davis", "bear"), ("davis", "dog")]
    videos += [("synthetic", "scene-0900"), ("synthetic", "scene-0901"), ("vdw", "000423"), ("vdw", "000424")]
    assert sorted(keys) == sorted((*video, method) for video in videos for method in METHODS)
    assert json.loads(made.first.stdout.splitlines()[-1]) == {"rows": 48, "failed": 6, "out": str(made.out)}


def test_opw_is_that_of_the_run(made):
    for row in rows_of(made, status="done"):
        if row["method"] in ("initial", "forward", "backward", "mix"):
            record = read_record(str(made.out / "stores" / "tiny" / "videos" / row["video_id"]))
            assert row["opw"] == pytest.approx(record["opw"][row["method"]]["mean"], rel=1e-5), row["video"]


def test_accuracy_is_that_of_a_plain_evaluation(made):
    for row in rows_of(made, set="synthetic"):
        if row["method"] == "constant":
            continue
        video = next(v for v in open_dataset(SYNTHETIC).videos if v.name == row["video"])
        maps = volume_of(made, row).read(row["method"] if row["method"] != "box" else "initial").astype(np.float64)
        if row["method"] == "box":
            maps = np.stack([maps[max(0, i - 3) : i + 4].mean(axis=0) for i in range(4)])
        truth = np.stack([video.truth(index) for index in range(4)]).astype(np.float64)
        known = (truth > 1e-3) & (truth < 70)
        design = np.stack([np.maximum(maps[known], 1e-3), np.ones(known.sum())], axis=1)
        (scale, shift), *_ = np.linalg.lstsq(design, 1 / truth[known], rcond=None)
        depth = np.clip(1 / np.maximum(scale * np.maximum(maps, 1e-3) + shift, 1e-3), 1e-3, 70)
        rel = [(np.abs(d - t) / t)[k].mean() for d, t, k in zip(depth, truth, known, strict=True)]
        assert row["abs_rel"] == pytest.approx(np.mean(rel), rel=1e-4), row["method"]
        assert (row["n_frames"], row["n_pixels"], row["cap"]) == (4, known.sum(), 70.0)


def test_vdw_is_scored_as_released(made):
    [row] = rows_of(made, set="vdw", video="000423", method="mix")
    maps, found = volume_of(made, row).read("mix"), []
    for index, disparity in enumerate(maps):
        truth = makers.depth_codes(index, 64, 96, 9000, 60000).astype(np.float32) / 65535
        counts = truth > 0
        counts[-4:] = False  # the mask
        guess = quantize_disparity(disparity).astype(np.float32) / 65535
        scale, shift = fit_float32(guess[counts], truth[counts])
        found.append((np.abs(scale * guess + shift - truth)[counts] / truth[counts]).mean())
    assert row["published_abs_rel"] == pytest.approx(np.mean(found), rel=1e-5)
    assert (row["published"], row["abs_rel"], row["align"]) == ("vdw", None, None)


def test_a_control_that_never_changes_has_no_opw_and_is_never_best(made):
    for row in rows_of(made, method="constant", status="done"):
        assert row["opw"] == row["opw_masked"] == 0
    for layout in ("nvds", "common"):
        for record in csv.DictReader(made.files[f"{layout}.csv"].decode().splitlines()):
            best = [value for name, value in record.items() if name.endswith("_best")]
            assert record["method"] != "constant" or set(best) == {"False"}


def test_tae_is_measured_where_cameras_are_known_and_nothing_moves(made):
    assert all(row["tae"] is not None for row in rows_of(made, set="7scenes"))
    assert all(row["tae"] is None for row in rows_of(made, set="vdw"))
    static = {video.name: video.static for video in open_dataset(SYNTHETIC).videos}
    assert all((row["tae"] is not None) == static[row["video"]] for row in rows_of(made, set="synthetic"))


def test_footage_without_truth_is_scored_by_opw_alone(made):
    for row in rows_of(made, set="davis"):
        assert row["status"] == "done"
        assert row["opw"] is not None
        assert row["abs_rel"] is row["published_abs_rel"] is row["truth_width"] is None


def test_damaged_truth_costs_one_video_and_is_named(made):
    failed = rows_of(made, status="failed")
    assert {(row["video"], row["step"], row["reason"]) for row in failed} == {("000424", "truth", "decode")}
    assert "frame_000002.png" in failed[0]["message"]
    table = made.files["failures.md"].decode()
    assert "| 000424 | tiny | initial, forward, backward, mix, box, constant | truth | decode |" in table
    assert "- results: 12, of which 6 failed" in table.partition("### vdw")[2]


def test_the_same_command_computes_nothing_and_changes_no_byte(made):
    assert "8 videos: 8 done before, 0 to do" in made.again.stderr
    assert (made.out / RESULTS_FILE).read_bytes() == made.parquet
    for name in STABLE_FILES:
        assert (made.out / "tables" / name).read_bytes() == made.files[name], name


def test_another_run_gives_identical_bytes(made):
    for name in STABLE_FILES:
        assert (made.other / "tables" / name).read_bytes() == made.files[name], name


def test_every_table_says_what_it_was_measured_with(made):
    for layout in ("nvds", "common", "failures", "runtime"):
        for section in json.loads(made.files[f"{layout}.json"])["sections"]:
            facts = section["facts"]
            names = "protocol alignment frames cap crop resolution precision flow weights videos"
            assert set(names.split()) <= set(facts), (layout, section["title"])
            assert "dis:v1:" in facts["flow"]
            assert "tiny:" in facts["weights"]
            assert "nvds-tiny:" in facts["weights"]
    facts = json.loads(made.files["common.json"])["sections"][-1]["facts"]
    assert facts["videos"] == "1 averaged, 1 failed"


def test_the_runtime_table_names_device_and_memory(made):
    document = json.loads(made.files["runtime.json"])
    for section in document["sections"]:
        assert {row["method"] for row in section["rows"]} == {"initial", "forward", "backward", "mix"}
        for row in section["rows"]:
            assert row["p95"] >= row["ms_per_frame"] > 0
            assert "cores" in row["device"]
            assert row["peak_rss_mb"] > 50


def test_other_methods_are_added_to_what_is_there(made, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(made.out, out, symlinks=True)
    result = nvds("bench", SYNTHETIC, "--out", out, "--short-side", 64, "--methods", "initial", "--align", "median")
    assert result.exit_code == 0
    rows = read_rows(out, RESULTS_FILE)
    align = {row["method"]: row["align"] for row in rows if row["set"] == "synthetic"}
    assert align == {
        **dict.fromkeys(("initial", "box", "constant"), "median"),
        **dict.fromkeys(("forward", "backward", "mix"), "video"),
    }
    assert len(rows) == len(made.rows)
    for row in rows_of(made, set="synthetic", method="mix"):
        assert volume_of(made, row).results == ("initial", "forward", "backward", "mix"), "not replaced by less"


def test_sets_of_one_kind_stay_side_by_side_when_they_are_benchmarked_one_after_the_other(tmp_path):
    out = tmp_path / "out"

    def bench(seed):
        spec = f"synthetic:{seed}?frames=2&size=96x64"
        nvds("bench", spec, "--out", out, "--short-side", 64, "--methods", "initial")
        return read_rows(out, RESULTS_FILE), read_rows(out, RUNTIME_FILE)

    first = bench(900)
    both = bench(901)
    for rows, kept in zip(both, first, strict=True):
        named = {(row["set"], row["video"]) for row in rows}
        assert named == {("synthetic", "scene-0900"), ("synthetic-901", "scene-0901")}
        assert [row for row in rows if row["set"] == "synthetic"] == kept
    sections = json.loads((out / "tables" / "common.json").read_text())["sections"]
    assert [section["title"] for section in sections] == ["synthetic", "synthetic-901"]
    assert bench(900) == both, "the first set is known again"


def test_a_video_of_one_frame_has_no_opw_that_would_count_as_steady(tmp_path):
    out = tmp_path / "out"
    nvds("bench", "synthetic:900?frames=1&size=96x64", "--out", out, "--short-side", 64, "--methods", "initial,mix")
    rows = read_rows(out, RESULTS_FILE)
    assert {row["method"] for row in rows} == {"initial", "mix", "box", "constant"}
    for row in rows:
        assert (row["status"], row["opw"], row["opw_masked"], row["pairs"]) == ("done", None, None, 0)
        assert row["abs_rel"] > 0


def test_the_alignment_reaches_the_metric(made):
    row = rows_of(made, set="7scenes", video="chess-seq-03", method="initial")[0]
    dataset = open_dataset(f"7scenes:{made.scenes}")
    truth = np.stack([dataset.videos[0].truth(i) for i in range(3)])
    maps = volume_of(made, row).read("initial")
    size = truth.shape[2], truth.shape[1]
    resized = np.stack([cv2.resize(frame, size) for frame in maps])
    errors = video_errors(resized, _Scored(dataset, truth), align="video", cap=10.0)
    assert (row["delta1"], row["rmse"]) == (pytest.approx(errors.delta1), pytest.approx(errors.rmse))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "known: synthetic"),
        ([SYNTHETIC, "--methods", "initial,magic"], "magic"),
        ([SYNTHETIC, "--align", "sometimes"], "sometimes"),
        ([SYNTHETIC, "--predictors", "huge"], "'huge'"),
        ([SYNTHETIC, "--stabilizer", "none"], "leave these methods out"),
        ([SYNTHETIC, SYNTHETIC, SYNTHETIC], "twice"),
        ([SYNTHETIC, "--predictors", "folder:docs", "--methods", "initial,tto"], "no network that could be tuned"),
    ],
)
def test_what_cannot_start_ends_with_2_and_one_clear_line(tmp_path, arguments, words):
    result = nvds("bench", *arguments, "--out", tmp_path / "out", "--short-side", 64)
    assert result.exit_code == 2
    [line] = [line for line in result.stderr.splitlines() if line.startswith("nvds: ")]
    assert words in line
    assert not (tmp_path / "out").exists(), "found out before anything is done"


def test_counts_of_nyu_are_those_of_the_common_protocol(tmp_path):
    dataset = open_dataset(str(makers.make_nyu(tmp_path, clips=1)))
    bench = BenchVideo(dataset, dataset.videos[0], tmp_path)
    figures = accuracy_figures({"constant": Constant((4, 24, 32))}, bench, "video")["constant"]
    truth = dataset.scored(dataset.videos[0].truth(3))
    assert figures["n_pixels"] == np.isfinite(truth).sum()
    assert figures["n_frames"] == 1
    assert figures["published_abs_rel"] > 0


def test_a_video_without_poses_of_its_frames_has_no_tae(tmp_path):
    scene = makers.make_seven_scenes(tmp_path / "chess")
    for index in range(3):
        (scene / "seq-03" / f"frame-{index:06d}.pose.txt").write_text("inf inf inf inf\n" * 4)
    makers.write_matrix(scene / "seq-03" / "frame-000009.pose.txt", makers.pose(0.0))
    dataset = open_dataset(str(scene / "seq-03"))
    bench = BenchVideo(dataset, dataset.videos[0], tmp_path)
    figures = accuracy_figures({"constant": Constant((3, 24, 32))}, bench, "video")["constant"]
    assert figures["abs_rel"] > 0
    assert figures["tae"] is None, "null, as what was not measured, and no NaN"


def test_drift_that_cannot_be_known_is_null(tmp_path):
    dataset = open_dataset(str(makers.make_seven_scenes(tmp_path / "chess") / "seq-03"))
    video = dataset.videos[0]
    known = video.truth(0)
    known[np.arange(known.size).reshape(known.shape) != np.flatnonzero(np.isfinite(known))[0]] = np.nan
    single = SimpleNamespace(name="one", frame_names=video.frame_names[:2], cameras=None, static=False)
    single.truth = lambda index: known
    figures = accuracy_figures({"constant": Constant((2, 24, 32))}, BenchVideo(dataset, single, tmp_path), "video")
    assert figures["constant"]["n_pixels"] == 2
    assert figures["constant"]["scale_spread"] is figures["constant"]["shift_spread"] is None


def test_a_folder_of_another_version_is_refused(tmp_path):
    (tmp_path / "bench.json").write_text('{"format": "nvds-bench", "format_version": 99}')
    result = nvds("bench", SYNTHETIC, "--out", tmp_path)
    assert result.exit_code == 2
    assert "99" in result.stderr


def test_the_table_command_reads_benchmarks(made, tmp_path):
    printed = nvds("table", made.out, "--layout", "nvds")
    assert printed.stdout == made.files["nvds.md"].decode()
    assert nvds("table", made.out).stdout == made.files["common.md"].decode()
    target = tmp_path / "table.html"
    assert nvds("table", made.out, made.other, "--format", "html", "--output", target).exit_code == 0
    assert "tiny (other)" in target.read_text(encoding="utf-8"), "the same results in two folders are told apart"
    thrice = json.loads(nvds("table", made.out, made.out, made.out, "--format", "json").stdout)["sections"][0]["rows"]
    assert [row["predictor"] for row in thrice if row["method"] == "mix"] == ["tiny", "tiny (out 2)", "tiny (out 3)"]
    published = nvds("table", made.out, "--published").stdout
    assert "### sintel (published only)" in published
    assert "| DepthCrafter v1.0.1 (5 steps) |" in published
    assert Path(made.out / "tables" / "common.md").read_bytes() == made.files["common.md"]
