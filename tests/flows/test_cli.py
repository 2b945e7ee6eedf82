from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
import typer
from prefect.exceptions import TerminationSignal

from flows.cli import app
from flows.cli_common import clear_errors, shown_log
from flows.ledger import RESULTS
from tests.flows.finished import FRAMES, FinishedRun, finished_run, nvds, options

COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.fixture(scope="module")
def finished() -> FinishedRun:
    return finished_run()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command):
    result = nvds(command, "--help")
    assert result.exit_code == 0
    assert f"nvds {command}" in result.stdout.partition("Examples:")[2]


def test_help_loads_no_heavy_library():
    heavy = ("torch", "prefect", "zarr", "pyarrow", "cv2", "av", "numpy")
    code = f"import sys, flows.cli; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300
    )
    assert run.stdout.strip() == "[]", run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.mp4"], "gone.mp4"),
        (["--predictor", "huge"], "'huge'"),
        (["--stabilizer", "huge"], "'huge'"),
        (["--flow", "huge"], "'huge'"),
        (["--direction", "sideways"], "'sideways'"),
        (["--size", "65x64"], "multiples of 32"),
        (["--size", "big"], "448x256"),
        (["--size", "64x64", "--short-side", "64"], "cannot be combined"),
        (["--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_what_cannot_start_ends_with_2_and_one_clear_line(tmp_path, arguments, words):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"never read")
    result = nvds("run", clip, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("nvds: ")
    assert words in line
    assert result.stdout == ""


def test_an_output_that_cannot_be_written_ends_with_2(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"never read")
    (tmp_path / "file").touch()
    result = nvds("run", tmp_path / "clip.mp4", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "file") in result.stderr


def test_an_interruption_ends_with_130_and_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.launch.prepare", interrupted)
    result = nvds("run", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr


@pytest.mark.parametrize(("signal", "code"), [(KeyboardInterrupt, 130), (TerminationSignal, 143)])
def test_an_interruption_that_also_ends_prefects_server_is_still_one(capsys, signal, code):
    failed_report = httpx.ConnectError("refused")
    failed_report.__context__ = signal(15)
    with pytest.raises(typer.Exit) as stopped, clear_errors(interrupted="stopped by you"):
        raise failed_report
    assert stopped.value.exit_code == code
    assert capsys.readouterr().err == "nvds: stopped by you\n"


def test_a_server_that_goes_away_is_said_in_one_line(capsys):
    with pytest.raises(typer.Exit) as ended, clear_errors(code=1):
        raise httpx.ConnectError("refused")
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "nvds: Prefect's server does not answer: refused\n"


def test_the_log_is_shown_once_and_without_credentials_while_the_block_runs(capsys, caplog):
    log = logging.getLogger("nvds")
    with caplog.at_level(logging.INFO), shown_log():  # caplog's handler is at the root, as Prefect's is
        log.info("weights from %s", "s3://user:secret@bucket/x")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("weights from s3://")
    assert "secret" not in line
    assert caplog.records == []
    log.info("after")
    assert capsys.readouterr().err == ""


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), clear_errors():
        _ = 1 / 0


def test_a_run_with_one_bad_file_does_the_rest_and_ends_with_1(finished):
    assert finished.exit_code == 1
    assert len(finished.stdout.splitlines()) == 1, "standard output is for the machine alone"
    summary = finished.summary
    assert (summary["videos"], summary["done"], summary["failed"], summary["cached"]) == (2, 1, 1, 0)
    assert sorted(summary["opw"]) == sorted(RESULTS)
    assert summary["out"] == str(finished.out)
    assert "broken.mp4" in finished.stderr
    assert (finished.out / "runs" / summary["run_id"] / "summary.json").is_file()


def test_a_second_run_computes_nothing_says_so_and_starts_no_server(finished, monkeypatch):
    def started() -> None:
        raise AssertionError("Prefect was started without work")

    monkeypatch.setattr("flows.launch.prefect_server", started)
    result = nvds("run", finished.clip, *options(finished.out), "--json")
    assert result.exit_code == 0
    assert "nothing to do: all 1 videos are done" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["videos"], summary["done"], summary["cached"]) == (1, 1, 1)
    assert summary["opw"] == finished.summary["opw"]


def test_the_summary_names_the_failure_once_with_its_reason(finished):
    [reason] = finished.summary["reasons"]
    [line] = [line for line in finished.stderr.splitlines() if line.startswith(f"  failed, {reason}: 1")]
    assert line.count(str(finished.broken)) == 1


def test_a_dry_run_tells_what_there_is_to_do_and_leaves_no_trace(finished, tmp_path):
    result = nvds("run", finished.clip.parent, "--out", tmp_path / "new", "--dry-run", "--json")
    counts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (counts["videos"], counts["done"], counts["pending"]) == (2, 0, 2)
    assert str(finished.clip) in result.stderr
    assert not (tmp_path / "new").exists()
    again = nvds("run", finished.clip.parent, *options(finished.out), "--dry-run")
    assert "1 done, 1 pending" in again.stdout


def test_the_limit_counts_videos(finished, tmp_path):
    result = nvds("run", finished.clip.parent, "--out", tmp_path, "--limit", 1, "--dry-run", "--json")
    assert json.loads(result.stdout)["videos"] == 1


def test_the_status_names_failures_by_reason_and_the_last_run(finished):
    state = json.loads(nvds("status", finished.out, "--json").stdout)
    assert (state["videos"], state["done"], state["failed"]) == (2, 1, 1)
    [(_, failure)] = state["reasons"].items()
    assert failure["videos"] == 1
    assert "broken.mp4" in failure["example"]
    assert state["last_run"]["ended"] is True
    text = nvds("status", finished.out).stdout
    assert "2 videos, 1 done, 1 failed" in text


def test_a_rerun_takes_inputs_and_settings_from_the_last_run(finished, monkeypatch, tmp_path):
    monkeypatch.chdir(finished.clip.parent)
    assert nvds("run", finished.clip.name, *options(finished.out)).exit_code == 0
    monkeypatch.chdir(tmp_path)
    expected = json.loads(nvds("rerun", finished.out, "--dry-run", "--json").stdout)
    assert (expected["videos"], expected["done"], expected["pending"], expected["stale"]) == (1, 1, 0, 0)
    assert expected["frames_per_second"] > 0
    result = nvds("rerun", finished.out, "--only", "clip", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["cached"] == 1
    refused = nvds("rerun", finished.out, "--only", "clap")
    assert refused.exit_code == 2
    assert "--only clap" in refused.stderr


@pytest.mark.parametrize("command", ["status", "rerun", "clean", "table"])
def test_a_folder_without_results_ends_with_2(tmp_path, command):
    result = nvds(command, tmp_path)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr


def test_all_formats_of_the_table_say_the_same(finished, tmp_path):
    document = json.loads(nvds("table", finished.out, "--format", "json").stdout)
    rows = document["videos"]
    text = list(csv.DictReader(io.StringIO(nvds("table", finished.out, "--format", "csv").stdout)))
    target = tmp_path / "table.parquet"
    assert nvds("table", finished.out, "--format", "parquet", "--output", target).exit_code == 0
    stored = pq.read_table(target).to_pylist()
    assert stored == rows
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == text


def test_the_table_holds_the_scores_of_the_run_and_what_they_were_measured_with(finished):
    document = json.loads(nvds("table", finished.out, "--format", "json").stdout)
    done = next(row for row in document["videos"] if row["status"] == "done")
    failed = next(row for row in document["videos"] if row["status"] == "failed")
    assert {name: done[name] for name in RESULTS} == pytest.approx(finished.summary["opw"])
    assert done["ratio"] == pytest.approx(done["mix"] / done["initial"])
    assert (done["frames"], done["scenes"], done["width"], done["height"]) == (FRAMES, 2, 64, 64)
    assert (done["protocol"], done["divisor"]) == ("nvds", "frames")
    assert done["flow"].startswith("dis")
    assert failed["reason"]
    assert failed["mix"] is None
    assert document["mean"]["videos"] == 1


def test_the_markdown_table_ends_with_the_mean_and_says_what_was_measured(finished):
    lines = nvds("table", finished.out).stdout.splitlines()
    assert "protocol nvds" in lines[0]
    assert "size 64x64" in lines[0]
    assert "number of frames" in lines[0]
    assert lines[-1].startswith("| mean of 1 |")
    assert f"{finished.summary['opw']['mix']:.4f}" in lines[-1]


def test_probe_describes_a_video_and_refuses_what_is_none(finished):
    about = json.loads(nvds("probe", finished.clip, "--full", "--json").stdout)
    assert (about["width"], about["height"], about["fps"], about["decoded"]) == (96, 64, 12.0, 8)
    assert about["cuts"] == [4]
    assert "codec" in nvds("probe", finished.clip).stdout
    refused = nvds("probe", finished.broken)
    assert refused.exit_code == 2
    assert str(finished.broken) in refused.stderr
