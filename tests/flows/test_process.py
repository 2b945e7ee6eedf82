"""Whole runs on tiny videos, over one Prefect server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.flows import load_flow_from_entrypoint

import flows.chain as chain
from flows.ledger import Outcome
from flows.process import process_dataset
from flows.reporting import Lines, describe
from flows.results import video_rows
from storage import open_volume
from storage.tables import latest, read
from tests.flows.helpers import digests, leftovers, make_inputs, run

REPO = Path(__file__).resolve().parents[2]
STEPS = ("frames", "initial", "flow", "stabilized", "scores", "published")


@pytest.fixture(scope="module")
def runs(prefect_api, tmp_path_factory):
    """Three runs over the same inputs: a first one, the same again, and one with another direction."""
    folder = tmp_path_factory.mktemp("runs")
    inputs, out = make_inputs(folder / "in"), folder / "out"
    first, watched = run(inputs, out, keep="all")
    found = SimpleNamespace(inputs=inputs, out=out, first=first, first_watched=watched)
    found.digests = digests(out)
    found.tables = {table: read(str(out), table).num_rows for table in ("outcomes", "timings", "scores", "catalog")}
    found.rows = latest(str(out), "outcomes")
    found.again, found.again_watched = run(inputs, out, keep="all")
    found.tables_again = {table: read(str(out), table).num_rows for table in found.tables}
    found.forward, found.forward_watched = run(inputs, out, keep="all", stabilizer={"direction": "forward"})
    return found


def test_good_videos_are_done_and_bad_ones_are_rows_with_reasons(runs):
    summary = runs.first
    assert {name: summary[name] for name in ("videos", "done", "failed", "cached")} == {
        "videos": 4,
        "done": 2,
        "failed": 2,
        "cached": 0,
    }
    assert summary["reasons"] == {"not_a_video": 1, "no_video_stream": 1}
    assert all(value > 0 for value in summary["opw"].values())
    assert json.loads(json.dumps(summary)) == summary
    by_name = {row["video_id"].rpartition("-")[0]: row for row in runs.rows}
    assert set(by_name) == {"one-scene", "two", "corrupt", "sound"}
    assert (by_name["corrupt"]["step"], by_name["corrupt"]["reason"]) == ("frames", "not_a_video")
    assert "corrupt.mp4" in by_name["corrupt"]["message"]
    assert (by_name["two"]["status"], by_name["two"]["frames"]) == ("done", 3)
    volume = open_volume(runs.out / "videos" / by_name["two"]["video_id"])
    assert volume.attributes["cuts"] == [2]
    assert [step for step, _ in runs.first_watched.named("two").steps] == list(STEPS)


def test_what_was_decided_lies_beside_the_results(runs):
    folders = sorted((runs.out / "runs").iterdir())
    assert len(folders) == 3
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert runs.first in summaries
    assert "short_side: 64" in (folders[0] / "config.yaml").read_text()
    assert leftovers(runs.out) == []


def test_a_second_run_computes_nothing_and_adds_no_rows_for_finished_videos(runs):
    assert (runs.again["done"], runs.again["cached"], runs.again["failed"]) == (2, 2, 2)
    assert runs.again["opw"] == runs.first["opw"]
    assert all(outcome.steps == () for outcome in runs.again_watched.outcomes), "no task ran to its end"
    grown = {table: runs.tables_again[table] - runs.tables[table] for table in runs.tables}
    assert grown == {"outcomes": 2, "timings": 0, "scores": 0, "catalog": 0}, "only the two failed attempts"
    assert runs.again_watched.finished == 1


def test_another_direction_computes_only_the_later_steps_and_replaces_the_volumes(runs):
    assert (runs.forward["done"], runs.forward["cached"]) == (2, 0)
    for name in ("one scene", "two"):
        outcome = runs.forward_watched.named(name)
        assert {step: result.cached for step, result in outcome.steps} == {
            **dict.fromkeys(("frames", "initial", "flow"), True),
            **dict.fromkeys(("stabilized", "scores", "published"), False),
        }
    now = digests(runs.out)
    assert {name.rpartition("/")[2] for name in now} == {"initial", "forward"}
    assert all(runs.digests[name] == digest for name, digest in now.items())
    assert len(os.listdir(runs.out / "videos")) == 2


def test_one_video_at_a_time_gives_the_same_volumes_as_several(runs, tmp_path):
    summary, watched = run(runs.inputs, tmp_path / "out", limits={"videos": 1, "max_memory": "1G"})
    assert digests(tmp_path / "out") == runs.digests
    assert summary["opw"] == runs.first["opw"]
    order = [outcome.video.name for outcome in watched.outcomes]
    assert order == [outcome.video.name for outcome in runs.first_watched.outcomes], "told of in the order of the plan"


def test_without_a_score_there_is_no_flow_and_the_mix_is_the_mean(runs, tmp_path):
    out = tmp_path / "out"
    settings = {"score": {"name": "none"}, "publish": {"encoding": "float32"}}
    summary, watched = run(runs.inputs, out, **settings)
    assert (summary["done"], summary["failed"]) == (2, 2)
    assert summary["opw"] == dict.fromkeys(("initial", "forward", "backward", "mix"))
    outcome = watched.named("two")
    assert [step for step, _ in outcome.steps] == ["frames", "initial", "stabilized", "published"]
    assert describe(outcome).endswith("not scored")
    record = outcome.record
    assert record["opw"] is None
    assert (record["opw_protocol"], record["mix_choices"], record["weights"]["flow"]) == (None, ["mean", "mean"], None)
    volume = open_volume(out / "videos" / outcome.video.video_id)
    maps = {name: volume.read(name) for name in volume.results}
    assert (maps["mix"] == (maps["forward"] + maps["backward"]) / 2).all()
    again, _ = run(runs.inputs, out, **settings)
    assert (again["done"], again["cached"]) == (2, 2)
    row = next(row for row in video_rows(str(out)) if row["video_id"] == outcome.video.video_id)
    assert (row["status"], row["mix"], row["flow"]) == ("done", None, None)


def test_results_alone_are_kept_unless_asked_otherwise_and_lost_rows_come_back(runs, tmp_path):
    out = tmp_path / "out"
    summary, _ = run(runs.inputs, out)
    assert digests(out) == runs.digests
    kept = [path for path in (out / ".work").glob("*/*") if path.is_dir()]
    assert kept == []
    shutil.rmtree(out / "tables")
    again, watched = run(runs.inputs, out)
    assert again["opw"] == summary["opw"]
    assert all(outcome.steps == () for outcome in watched.outcomes)
    rows = {row["video_id"].rpartition("-")[0]: row for row in latest(str(out), "outcomes")}
    assert rows["two"]["status"] == "done"
    assert len(latest(str(out), "scores")) == 2 * 4


def test_a_damaged_intermediate_fails_once_and_is_made_anew_by_the_next_run(runs, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "in").mkdir()
    shutil.copy(runs.inputs / "two.mp4", tmp_path / "in")
    run(tmp_path / "in", out, keep="all", stabilizer={"name": "none"})
    for path in (out / ".work" / "initial").rglob("c/**/*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    broken, watched = run(tmp_path / "in", out, keep="all")
    assert (broken["failed"], watched.named("two").reason) == (1, "format")
    mended, _ = run(tmp_path / "in", out, keep="all")
    assert mended["done"] == 1
    assert digests(out) == {name: value for name, value in runs.digests.items() if name.startswith("two")}


def test_an_interruption_keeps_what_is_done_and_leaves_no_half_volume(runs, tmp_path, monkeypatch):
    out, calls, original = tmp_path / "out", [], chain.score_video

    def interrupted_the_second_time(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(chain, "score_video", interrupted_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            run(runs.inputs, out)
    assert len(os.listdir(out / "videos")) == 1
    assert leftovers(out) == []
    # those that cannot be read may have come to their end by then as well
    assert [row["status"] for row in latest(str(out), "outcomes") if row["status"] != "failed"] == ["done"]
    summary, _ = run(runs.inputs, out)
    assert (summary["done"], summary["cached"], summary["failed"]) == (2, 1, 2)
    assert digests(out) == runs.digests


CHILD = """
import sys
from flows.ledger import Outcome
from flows.process import process_dataset
process_dataset([sys.argv[1]], sys.argv[2], {"frames": {"size": {"short_side": 64}}})
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["stabilized", "volume"])
def test_a_run_that_is_killed_is_finished_by_the_next_one_with_the_same_bits(runs, prefect_api, tmp_path, step):
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(REPO), "PREFECT_API_URL": prefect_api}
    command = [sys.executable, "-c", CHILD, str(runs.inputs), str(out)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as child:
        while child.poll() is None and not list((out / ".work" / ".tmp").glob(f"{step}-*/")):
            time.sleep(0.002)
        assert child.poll() is None, "the child ended before it could be killed"
        child.send_signal(signal.SIGKILL)
    summary, _ = run(runs.inputs, out)
    assert (summary["done"], summary["failed"]) == (2, 2)
    assert digests(out) == runs.digests
    assert leftovers(out) == []
    assert len(latest(str(out), "outcomes")) == 4


def test_the_flow_can_be_deployed_from_its_file_and_takes_plain_json(runs, monkeypatch):
    monkeypatch.chdir(REPO)
    flow = load_flow_from_entrypoint("flows/process.py:process_dataset")
    assert flow.name == "process-dataset"
    schema = flow.parameters.model_dump()
    assert schema["required"] == ["inputs", "out"]
    parameters = json.loads(json.dumps({"inputs": str(runs.inputs), "out": str(runs.out), "config": None}))
    assert set(process_dataset.serialize_parameters(parameters)) == set(parameters)


def test_a_line_break_in_a_name_does_not_break_the_line_that_tells_of_it(capsys, runs):
    outcome = runs.first_watched.named("corrupt")
    lines = Lines(bar=False)
    lines.start(runs.first_watched.plans[0])
    lines.video(Outcome(outcome.video, "failed", reason="decode", step="frames", message="a\nb [red] :smile:"))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "4 videos: 0 done before, 4 to do"
    assert said[1].endswith(r"a\nb [red] :smile:")
