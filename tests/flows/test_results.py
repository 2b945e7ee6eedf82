from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from flows.results import example, mean_row, video_rows
from flows.table_formats import FORMATS, to_markdown
from storage import settled_videos
from storage.catalog import read_record
from storage.locations import read_bytes
from storage.tables import append
from tests.flows.finished import finished_run, nvds

START = datetime(2026, 1, 1, tzinfo=UTC)


def tell(out, run, minute, video, status, uri, scores=None, **more):
    """Write what a run's ledger writes about one video."""
    at = START + timedelta(minutes=minute)
    row = {"video_id": video, "uri": uri, "status": status, "key": run, "finished_at": at, **more}
    append(out, "outcomes", [row], run_id=run, part=0)
    common = {"video_id": video, "metric": "opw", "protocol": "nvds", "flow": "dis", "finished_at": at}
    rows = [{**common, "result": name, "value": value} for name, value in (scores or {}).items()]
    append(out, "scores", rows, run_id=run, part=0)


def test_scores_of_other_settings_are_not_mixed_in(tmp_path):
    tell(tmp_path, "a", 1, "v-1", "done", "v.mp4", {"initial": 1.0, "forward": 0.5, "backward": 0.5, "mix": 0.4})
    tell(tmp_path, "b", 2, "v-1", "done", "v.mp4", {"initial": 2.0})
    [row] = video_rows(str(tmp_path))
    assert (row["initial"], row["forward"], row["mix"], row["ratio"]) == (2.0, None, None, None)


def test_a_failure_is_forgotten_once_the_same_place_gave_a_good_video(tmp_path):
    tell(tmp_path, "a", 1, "v-bad", "failed", "v.mp4", reason="decode", message="cut off")
    tell(tmp_path, "a2", 1, "w-bad", "failed", "w.mp4", reason="decode", message="cut off")
    tell(tmp_path, "b", 2, "v-good", "done", "v.mp4", {"initial": 1.0})
    assert [row["video_id"] for row in settled_videos(str(tmp_path))] == ["v-good", "w-bad"]


def test_the_mean_takes_finished_videos_and_the_ratio_those_with_both(tmp_path):
    tell(tmp_path, "a", 1, "v-1", "done", "1.mp4", {"initial": 1.0, "mix": 0.2})
    tell(tmp_path, "b", 1, "v-2", "done", "2.mp4", {"initial": 3.0, "mix": 0.6})
    tell(tmp_path, "c", 1, "v-3", "done", "3.mp4", {"initial": 8.0})
    tell(tmp_path, "d", 1, "v-4", "failed", "4.mp4", reason="decode", message="cut off")
    mean = mean_row(video_rows(str(tmp_path)))
    assert mean["videos"] == 3
    assert mean["initial"] == pytest.approx(4.0)
    assert mean["mix"] == pytest.approx(0.4)
    assert mean["ratio"] == pytest.approx(0.2)


def test_a_score_that_is_not_finite_is_missing(tmp_path):
    tell(tmp_path, "a", 1, "v-1", "done", "1.mp4", {"initial": float("nan"), "mix": 0.6})
    [row] = video_rows(str(tmp_path))
    assert (row["initial"], row["ratio"]) == (None, None)


def test_the_optimised_result_has_a_column_in_every_format(tmp_path):
    tell(tmp_path, "a", 1, "v-1", "done", "1.mp4", {"initial": 1.0})
    rows = video_rows(str(tmp_path))
    assert all(b"optimized" not in FORMATS[name](rows) for name in ("md", "latex", "html"))
    tell(tmp_path, "b", 2, "v-2", "done", "2.mp4", {"initial": 1.0, "optimized": 0.125})
    rows = video_rows(str(tmp_path))
    assert [row["optimized"] for row in rows] == [None, 0.125]
    assert all(
        b"optimized" in FORMATS[name](rows) and b"0.125" in FORMATS[name](rows) for name in FORMATS if name != "parquet"
    )
    assert pq.read_table(io.BytesIO(FORMATS["parquet"](rows)))["optimized"].to_pylist() == [None, 0.125]
    assert json.loads(FORMATS["json"](rows))["mean"]["optimized"] == 0.125


def test_the_tables_for_people_say_why_a_video_failed(tmp_path):
    tell(tmp_path, "a", 1, "v-1", "failed", "1.mp4", reason="too_large", message="huge")
    rows = video_rows(str(tmp_path))
    found = {name: FORMATS[name](rows).decode().replace("\\_", "_") for name in ("md", "latex", "html")}
    assert all("failed: too_large" in text for text in found.values()), found


def test_an_example_is_one_line_whatever_the_file_is_called():
    assert example("/in/a\nb.mp4", "/in/a\nb.mp4: cut off") == "/in/a\\nb.mp4: cut off"
    assert example("/in/a.mp4", None) == "/in/a.mp4: no message"


def test_a_table_is_written_to_a_path_or_a_url(tmp_path, memory_store):
    tell(tmp_path / "out", "a", 1, "v-1", "done", "1.mp4", {"initial": 1.0})
    printed = nvds("table", tmp_path / "out", "--format", "csv").stdout
    for target in (str(tmp_path / "deep" / "opw.csv"), "memory://bucket/tables/opw.csv"):
        result = nvds("table", tmp_path / "out", "--format", "csv", "--output", target)
        assert (result.exit_code, result.stderr) == (0, f"{target}\n")
        assert read_bytes(target).decode() == printed
    assert nvds("table", tmp_path / "out", "--output", "nowhere://bucket/opw.md").exit_code == 2


def test_rows_of_different_flows_show_theirs(tmp_path):
    tell(tmp_path, "a", 1, "v-1", "done", "1.mp4", {"initial": 1.0})
    text = to_markdown(video_rows(str(tmp_path)))
    assert "| flow |" not in text
    row = video_rows(str(tmp_path))[0]
    both = to_markdown([row, {**row, "video_id": "v-2", "flow": "gmflow"}])
    assert "| flow |" in both
    assert "| gmflow |" in both


def test_a_run_has_the_layouts_of_benchmarks():
    run = finished_run()
    [section] = json.loads(nvds("table", run.out, "--layout", "nvds", "--format", "json").stdout)["sections"]
    record = read_record(str(run.out / "videos" / run.video_id))
    found = {row["method"]: row["opw"]["mean"] for row in section["rows"] if row["opw"]["mean"] is not None}
    assert found == {name: pytest.approx(scores["mean"]) for name, scores in record["opw"].items()}
    assert section["facts"]["resolution"] == "64x64"
    assert "nvds-tiny:" in section["facts"]["weights"]
    [section] = json.loads(nvds("table", run.out, "--layout", "failures", "--format", "json").stdout)["sections"]
    assert [row["video"] for row in section["rows"]] == [
        row["video_id"] for row in video_rows(str(run.out)) if row["reason"]
    ]
    [section] = json.loads(nvds("table", run.out, "--layout", "runtime", "--format", "json").stdout)["sections"]
    times = {row["method"]: row["ms_per_frame"] for row in section["rows"]}
    assert times["mix"] > times["initial"] > 0


def test_the_layouts_take_an_output_folder_of_any_name(tmp_path):
    out = tmp_path / os.fsdecode(b"d\xffpth")
    tell(out, "a", 1, "v-1", "failed", "v.mp4", reason="decode", message="cut off")
    assert "### d\\udcffpth\n" in nvds("table", out, "--layout", "failures").stdout
    assert "| not recorded (d\\udcffpth 2) |" in nvds("table", out, out, "--layout", "failures").stdout


def test_a_run_is_printed_as_latex_and_html_too():
    run = finished_run()
    assert run.video_id.replace("_", "\\_") in nvds("table", run.out, "--format", "latex").stdout
    assert f"<td>{run.video_id}</td>" in nvds("table", run.out, "--format", "html").stdout
    both = nvds("table", run.out, run.out, "--format", "csv").stdout.splitlines()
    assert len(both) == 1 + 2 * len(video_rows(str(run.out)))
    result = nvds("table", run.out, "--published")
    assert result.exit_code == 2
    assert "nvds bench" in result.stderr
