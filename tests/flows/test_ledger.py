from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

import flows.ledger as ledger_module
from flows.ledger import Ledger, Outcome, summarize
from flows.runs import end_run
from storage import ArtifactRef, StorageError, VideoRef
from storage.tables import latest, read
from tasks.workspace import StepResult, Workspace
from tests.tasks.helpers import workspace_in

RECORD = {
    "key": "k1",
    "frames": 5,
    "width": 96,
    "height": 64,
    "cuts": [3],
    "mix_choices": ["mean", "forward"],
    "opw_protocol": "nvds",
    "weights": {"predictor": "tiny:1", "flow": "dis:1", "stabilizer": "2"},
    "source": {"bytes": 7, "width": 192, "height": 128, "fps": 24.0, "duration_s": 0.2},
    "opw": {
        "initial": {"mean": 0.6, "total": 3.0, "pairs": [1.0, 1.0, 1.0]},
        "mix": {"mean": 0.3, "total": 1.5, "pairs": [0.5, 0.5, 0.5]},
    },
}


def video(name: str = "v", uri: str = "/in/v.mp4") -> VideoRef:
    return VideoRef(f"{name}-0123456789", uri, "0" * 64, "file", name)


def done(name: str = "v", *, key: str = "k1", cached: bool = False) -> Outcome:
    step = StepResult(ArtifactRef("frames", "0" * 40), False, 0.5, 5)
    return Outcome(
        video(name),
        "done",
        cached,
        key=key,
        seconds=1.5,
        record=RECORD,
        steps=() if cached else (("frames", step),),
        peak_rss_mb=7.0,
    )


def failed(name: str = "bad") -> Outcome:
    return Outcome(video(name), "failed", reason="truncated", step="frames", message="cut off")


def interrupted(workspace: Workspace) -> None:
    with Ledger(workspace) as ledger:
        ledger.add(done())
        raise KeyboardInterrupt


def test_an_outcome_becomes_rows_of_all_tables(tmp_path):
    workspace = workspace_in(tmp_path)
    with Ledger(workspace) as ledger:
        ledger.add(done())
        ledger.add(failed())
    bad, good = latest(workspace.out, "outcomes")
    assert (bad["status"], bad["reason"], bad["step"], bad["message"]) == ("failed", "truncated", "frames", "cut off")
    assert (good["status"], good["key"], good["frames"], good["seconds"]) == ("done", "k1", 5, 1.5)
    assert good["peak_rss_mb"] == 7.0
    (catalog,) = latest(workspace.out, "catalog")
    assert (catalog["scenes"], catalog["bytes"], catalog["width"]) == (2, 7, 192)
    initial, mix = latest(workspace.out, "scores")
    assert (initial["value"], initial["pairs"], initial["mean_pairs"]) == (0.6, 3, 1.0)
    assert (mix["choice"], initial["choice"]) == ("mean,forward", None)
    (timing,) = latest(workspace.out, "timings")
    assert (timing["step"], timing["seconds"], timing["cached"]) == ("frames", 0.5, False)


def test_a_video_without_a_pair_of_frames_has_no_opw_that_would_count_as_steady(tmp_path):
    workspace = workspace_in(tmp_path)
    nothing = {"mean": 0.0, "total": 0.0, "pairs": []}
    still = RECORD | {"frames": 1, "cuts": [], "opw": {"initial": nothing, "mix": nothing}}
    single = replace(done("single"), record=still)
    with Ledger(workspace) as ledger:
        ledger.add(single)
        ledger.add(done())
    assert {row["video_id"] for row in latest(workspace.out, "scores")} == {done().video.video_id}
    for outcomes in ([single, done()], [single.slim, done().slim]):
        assert summarize(outcomes, workspace.out)["opw"]["initial"] == 0.6


def test_the_summary_of_an_output_folder_of_any_name_can_be_written(tmp_path):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/d\xffpth")
    end_run(Workspace(out, f"{out}/.work", "run"), summarize([done()], out))
    assert json.loads((tmp_path / os.fsdecode(b"d\xffpth") / "runs" / "run" / "summary.json").read_text())["done"] == 1


def test_rows_of_videos_done_before_are_written_only_if_the_tables_lack_them(tmp_path):
    workspace = workspace_in(tmp_path)
    for _ in range(3):
        with Ledger(workspace) as ledger:
            ledger.add(done(cached=True))
    assert read(workspace.out, "outcomes").num_rows == 1
    assert read(workspace.out, "scores").num_rows == 2
    with Ledger(workspace) as ledger:
        ledger.add(Outcome(video(), "failed", reason="memory", step="flow", key="k2"))
    with Ledger(workspace) as ledger:
        ledger.add(done(cached=True))
    (now,) = latest(workspace.out, "outcomes")
    assert now["status"] == "done", "back to the settings of the finished volume"


def test_two_runs_of_one_name_do_not_overwrite_each_other(tmp_path, monkeypatch):
    workspace = workspace_in(tmp_path)
    monkeypatch.setattr(ledger_module, "compact", lambda *arguments: None)
    for name in ("a", "b"):
        with Ledger(workspace) as ledger:
            ledger.add(done(name))
    assert [row["video_id"] for row in latest(workspace.out, "outcomes")] == ["a-0123456789", "b-0123456789"]


def test_a_disk_that_is_full_for_a_while_loses_no_row(tmp_path, monkeypatch, caplog):
    workspace, original, full = workspace_in(tmp_path), ledger_module.append, []

    def append(root, table, rows, **options):
        if full and table == "timings":
            raise StorageError("cannot write timings: no space", reason="disk_full")
        original(root, table, rows, **options)

    monkeypatch.setattr(ledger_module, "append", append)
    monkeypatch.setattr(ledger_module, "FLUSH_S", 0.0)
    with Ledger(workspace) as ledger:
        full.append(1)
        ledger.add(done("a"))
        full.clear()
        ledger.add(done("b"))
    for table in ("outcomes", "timings", "catalog"):
        assert read(workspace.out, table).num_rows == 2, table
    assert "no space" in caplog.text


def test_a_disk_that_stays_full_is_said_at_the_end_unless_something_worse_happens(tmp_path, monkeypatch):
    def append(*arguments, **options):
        raise StorageError("cannot write: no space", reason="disk_full")

    monkeypatch.setattr(ledger_module, "append", append)
    with pytest.raises(StorageError, match="no space"), Ledger(workspace_in(tmp_path)) as ledger:
        ledger.add(done())
    with pytest.raises(KeyboardInterrupt):
        interrupted(workspace_in(tmp_path))


def test_rows_are_written_though_the_run_is_interrupted(tmp_path):
    workspace = workspace_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted(workspace)
    assert read(workspace.out, "outcomes").num_rows == 1


def test_a_damaged_part_does_not_stop_a_run(tmp_path, caplog):
    workspace = workspace_in(tmp_path)
    with Ledger(workspace) as ledger:
        ledger.add(done())
    (part,) = (tmp_path / "out" / "tables" / "outcomes").iterdir()
    part.write_bytes(b"damaged")
    with Ledger(workspace) as ledger:
        ledger.add(done(cached=True))
    assert "damaged" in caplog.text
    part.unlink()
    assert read(workspace.out, "outcomes").num_rows == 1


def test_rows_hold_no_credentials_and_any_name(tmp_path):
    workspace = workspace_in(tmp_path)
    uri = "https://user:hunter2@host/" + os.fsdecode(b"v\xff.mp4")
    with Ledger(workspace) as ledger:
        ledger.add(Outcome(video(uri=uri), "failed", reason="decode", step="frames"))
    (row,) = latest(workspace.out, "outcomes")
    assert row["uri"] == "https://***@host/v\\udcff.mp4"


def test_a_summary_counts_and_averages_over_finished_videos():
    outcomes = [done("a"), done("b", cached=True), failed(), failed("worse")]
    summary = summarize([outcome.slim for outcome in outcomes], "s3://key:secret@bucket/out")
    assert summary == {
        "videos": 4,
        "done": 2,
        "failed": 2,
        "cached": 1,
        "opw": {"initial": 0.6, "forward": None, "backward": None, "mix": 0.3},
        "reasons": {"truncated": 2},
        "out": "s3://***@bucket/out",
    }


def test_an_outcome_that_is_kept_does_not_grow_with_the_video():
    slim = done().slim
    assert slim.opw == done().opw
    assert slim.steps == ()
    assert slim.record == {"opw": {"initial": {"mean": 0.6}, "mix": {"mean": 0.3}}}


def test_a_workspace_for_an_object_store_is_claimed_there(memory_store, tmp_path, monkeypatch):
    from tasks.workspace import make_workspace

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    workspace = make_workspace("memory://bucket/out")
    assert isinstance(workspace, Workspace)
    assert memory_store.exists("/bucket/out/nvds-store.json")
    assert workspace.work.startswith(str(tmp_path))
    with Ledger(workspace) as ledger:
        ledger.add(done())
    assert read(workspace.out, "outcomes").num_rows == 1
