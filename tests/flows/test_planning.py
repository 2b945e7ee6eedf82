from __future__ import annotations

import json
import shutil

import pytest

import flows.planning as planning
from flows.config import load_config
from flows.planning import plan_run, refs_of
from nvds_core.types import ConfigError, WeightsError
from storage import StorageError, write_record
from tasks.publish import video_url
from tasks.stabilize import StabilizerConfig
from tests.tasks.helpers import clip, video_of, workspace_in

CONFIG = load_config(None, {"frames.size.short_side": 64})


def changed(**settings):
    return load_config(None, {"frames.size.short_side": 64} | {k.replace("__", "."): v for k, v in settings.items()})


def test_a_plan_tells_good_bad_and_equal_sources_apart(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    clip(folder / "v.mp4", 2)
    (folder / "copy").mkdir()
    shutil.copy(folder / "v.mp4", folder / "copy" / "v.mp4")
    shutil.copy(folder / "v.mp4", folder / "renamed.mp4")
    (folder / "empty.mp4").touch()
    plan = plan_run([str(folder)], workspace_in(tmp_path), CONFIG)
    assert sorted(video.name for video in plan.videos) == ["renamed", "v"]
    assert len({video.digest for video in plan.videos}) == 1
    assert [video.name for video in plan.duplicates] == ["v"]
    assert [(bad.video.name, bad.reason) for bad in plan.unreadable] == [("empty", "empty")]
    assert plan.pending == list(plan.videos)


def test_a_video_is_done_only_if_its_record_carries_the_wanted_key(tmp_path):
    workspace, path = workspace_in(tmp_path), clip(tmp_path / "v.mp4", 2)
    video = video_of(path)
    record = {"key": refs_of(video, CONFIG).published.key, "opw": {"mix": {"mean": 1.0, "pairs": [1.0]}}}
    write_record(video_url(workspace.out, video.video_id), record)
    done = plan_run([str(path)], workspace, CONFIG)
    assert done.pending == []
    assert done.done[video.video_id]["opw"] == {"mix": {"mean": 1.0}}, "pairs stay on the disk"
    assert plan_run([str(path)], workspace, changed(publish__encoding="float32")).pending == [video]
    (tmp_path / "out" / "videos" / video.video_id / "record.json").write_text("{broken")
    assert plan_run([str(path)], workspace, CONFIG).pending == [video]


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ({"publish__encoding": "float32"}, {"frames", "initial", "flow", "stabilized", "scores"}),
        ({"stabilizer__direction": "forward"}, {"frames", "initial", "flow"}),
        ({"flow__name": "dis-medium"}, {"frames", "initial", "stabilized"}),
        ({"frames__limit": 5}, set()),
        ({"predictor__precision": "bf16"}, {"frames", "flow"}),
        ({"stabilizer__precision": "bf16"}, {"frames", "initial", "flow"}),
        ({"flow__precision": "bf16"}, {"frames", "initial", "stabilized"}),
        ({"score__name": "none"}, {"frames", "initial", "stabilized"}),
        ({"limits__max_memory": "2G"}, {"frames", "initial", "flow", "stabilized", "scores", "published"}),
        ({"keep": "all"}, {"frames", "initial", "flow", "stabilized", "scores", "published"}),
    ],
)
def test_a_setting_changes_the_names_of_its_step_and_of_what_follows(tmp_path, setting, same):
    from nvds_core.flow.base import flow_names

    if "flow__name" in setting:
        setting = {"flow__name": next(name for name in flow_names() if name != "dis")}
    video = video_of(clip(tmp_path / "v.mp4", 2))
    before, after = refs_of(video, CONFIG), refs_of(video, changed(**setting))
    steps = ("frames", "initial", "flow", "stabilized", "scores", "published")
    assert {step for step in steps if getattr(before, step) == getattr(after, step)} == same


def test_without_a_stabiliser_there_is_no_artifact_of_one(tmp_path):
    refs = refs_of(video_of(clip(tmp_path / "v.mp4", 2)), changed(stabilizer__name="none"))
    assert refs.stabilized is None
    assert len(refs.intermediates) == 4


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"predictor__name": "nope"}, ConfigError),
        ({"stabilizer__name": "nope"}, ConfigError),
        ({"stabilizer__name": "nvds"}, WeightsError),
        ({"flow__name": "nope"}, ConfigError),
        ({"frames__size__width": 100, "frames__size__height": 64}, ConfigError),
    ],
)
def test_settings_that_suit_no_video_are_refused_before_the_first_one_is_read(tmp_path, monkeypatch, setting, error):
    monkeypatch.setattr(planning, "find_sources", lambda inputs: pytest.fail("searched"))
    with pytest.raises(error):
        plan_run(["anything"], workspace_in(tmp_path), changed(**setting))


def test_all_missing_weights_are_told_before_any_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("NVDS_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setattr(planning.workers, "predictor", lambda name: pytest.fail("loaded"))
    settings = changed(predictor__name="dpt-large", stabilizer__name="nvds", flow__name="gmflow")
    with pytest.raises(WeightsError) as error:
        plan_run(["anything"], workspace_in(tmp_path), settings)
    assert all(f"nvds weights pull {name} --from" in str(error.value) for name in ("dpt-large", "nvds", "gmflow"))


def test_any_trouble_with_one_source_stays_with_it(tmp_path, monkeypatch):
    for name in ("a", "b"):
        clip(tmp_path / f"{name}.mp4", 2, seed=ord(name))
    original = planning.identify

    def identify(source, memo):
        if source.name == "a":
            raise RuntimeError("strange")
        return original(source, memo)

    monkeypatch.setattr(planning, "identify", identify)
    plan = plan_run([str(tmp_path / "*.mp4")], workspace_in(tmp_path), CONFIG)
    assert [video.name for video in plan.videos] == ["b"]
    assert [(bad.video.name, bad.reason) for bad in plan.unreadable] == [("a", "internal")]


def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        workspace_in(tmp_path / "file")


def test_an_output_of_another_format_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "nvds-store.json").write_text(json.dumps({"format": "nvds-store", "format_version": 99}))
    with pytest.raises(StorageError, match="99"):
        workspace_in(tmp_path)


def test_without_a_score_neither_flow_nor_scores_have_a_name_and_no_flow_is_loaded(tmp_path):
    config = changed(score__name="none", flow__name="nope")
    refs = refs_of(video_of(clip(tmp_path / "v.mp4", 2)), config)
    assert (refs.flow, refs.scores) == (None, None)
    assert len(refs.intermediates) == 3
    plan = plan_run([str(tmp_path / "v.mp4")], workspace_in(tmp_path), config)
    assert sorted(plan.digests) == ["predictor", "stabilizer"]


def test_a_plan_names_the_networks_by_digest(tmp_path):
    digests = plan_run([str(clip(tmp_path / "v.mp4", 2))], workspace_in(tmp_path), CONFIG).digests
    assert list(digests) == ["predictor", "stabilizer", "flow"]
    assert digests["predictor"].startswith("tiny:")
    assert digests["stabilizer"].startswith("nvds-tiny:")


def test_passes_follow_from_the_settings():
    assert StabilizerConfig().passes == ("forward", "backward")
    assert StabilizerConfig(direction="forward").passes == ("forward",)
    assert StabilizerConfig(name="none").passes == ()
