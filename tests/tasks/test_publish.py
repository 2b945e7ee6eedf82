from __future__ import annotations

import os

import numpy as np
import pytest

import tasks.publish as publish_module
from storage import StorageError, VideoRef, open_volume, read_record
from tasks.frames import FrameArtifact
from tasks.publish import PublishConfig, find_published, publish_video, published_ref, video_url
from tasks.score import ScoreInputs
from tasks.stabilize import StabilizerConfig
from tasks.workspace import Workspace
from tests.tasks.helpers import clip, read, scenes, scored_inputs, video_of, workspace_in


class Ready:
    """One video, scored and ready to be published."""

    def __init__(self, folder, stabilizer: StabilizerConfig) -> None:
        self.workspace: Workspace = workspace_in(folder)
        path = clip(folder / "v.mp4", scenes(2, 2))
        self.video: VideoRef = video_of(path)
        self.inputs: ScoreInputs
        self.inputs, self.scores = scored_inputs(self.workspace, path, stabilizer)

    def publish(self, config: PublishConfig | None = None, **changed):
        arguments = {"workspace": self.workspace, "video": self.video} | changed
        inputs = (self.inputs, self.scores, config or PublishConfig(), {"config": {"keep": "all"}})
        return publish_video.fn(arguments["workspace"], arguments["video"], *inputs)


@pytest.fixture
def ready(tmp_path) -> Ready:
    return Ready(tmp_path, StabilizerConfig(name="none"))  # the cheapest volume


def files(workspace: Workspace) -> list[str]:
    found = [
        os.path.relpath(os.path.join(root, name), workspace.out)
        for root, _, names in os.walk(workspace.out)
        for name in names
    ]
    return [name for name in found if not name.startswith(".work")]


def test_the_volume_holds_the_results_and_says_what_it_was_made_of(tmp_path):
    ready = Ready(tmp_path, StabilizerConfig())
    result = ready.publish(PublishConfig(encoding="float32"))
    assert (result.cached, result.frames) == (False, 4)
    url = video_url(ready.workspace.out, ready.video.video_id)
    volume = open_volume(url)
    assert volume.results == ("initial", "forward", "backward", "mix")
    store = ready.workspace.store
    passes = {name: read(store, ready.inputs.stabilized, name) for name in ("forward", "backward")}
    choices = volume.attributes["mix_choices"]
    for (start, stop), choice in zip([(0, 2), (2, 4)], choices, strict=True):
        both = (passes["forward"] + passes["backward"]) / 2
        expected = {"mean": both, **passes}[choice][start:stop]
        assert np.array_equal(volume.read("mix", start, stop), expected)
    assert np.array_equal(volume.read("initial"), read(store, ready.inputs.initial, "initial"))
    assert volume.time == pytest.approx(FrameArtifact(store, ready.inputs.frames).times)
    assert volume.attributes["cuts"] == [2]
    assert volume.attributes["source"]["digest"] == ready.video.digest
    record = read_record(url)
    assert record is not None
    assert record["key"] == published_ref(ready.inputs, ready.scores, PublishConfig(encoding="float32")).key
    assert record["weights"]["predictor"].startswith("tiny:")
    assert set(record["opw"]) == set(volume.results)
    assert record["source"]["bytes"] == (tmp_path / "v.mp4").stat().st_size


def test_publishing_twice_does_the_work_once(ready):
    ready.publish()
    before = {name: os.stat(os.path.join(ready.workspace.out, name)).st_mtime_ns for name in files(ready.workspace)}
    assert ready.publish().name == "Cached"
    after = {name: os.stat(os.path.join(ready.workspace.out, name)).st_mtime_ns for name in files(ready.workspace)}
    assert before == after


def test_other_settings_replace_the_volume_whole(ready):
    ready.publish()
    first = set(files(ready.workspace))
    ready.publish(PublishConfig(encoding="float16"))
    url = video_url(ready.workspace.out, ready.video.video_id)
    assert open_volume(url).encoding == "float16"
    assert not any("_offset" in name for name in files(ready.workspace)), "nothing of the old layout is left"
    assert any("_offset" in name for name in first)
    old = published_ref(ready.inputs, ready.scores, PublishConfig())
    assert find_published(ready.workspace.out, ready.video, old) is None
    assert os.listdir(os.path.join(ready.workspace.out, "videos")) == [ready.video.video_id]


def test_a_failure_in_the_middle_of_writing_leaves_the_old_volume_and_no_rest(ready, monkeypatch):
    ready.publish()
    before = sorted(files(ready.workspace))

    def fails(*arguments: object) -> None:
        raise StorageError("cannot write: no space left", reason="disk_full")

    monkeypatch.setattr(publish_module, "write_record", fails)
    with pytest.raises(StorageError, match="no space"):
        ready.publish(PublishConfig(encoding="float32"))
    assert sorted(files(ready.workspace)) == before
    assert open_volume(video_url(ready.workspace.out, ready.video.video_id)).encoding == "uint16"
    assert list((ready.workspace.store.root / ".tmp").iterdir()) == []


def test_a_volume_that_could_not_be_moved_is_moved_later_without_being_written_again(ready, monkeypatch):
    def fails(*arguments: object) -> None:
        raise StorageError("cannot publish: connection lost", reason="transient")

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "publish_tree", fails)
        with pytest.raises(StorageError, match="connection"):
            ready.publish()
    assert not os.path.exists(video_url(ready.workspace.out, ready.video.video_id))
    monkeypatch.setattr(publish_module, "_write", lambda *a: pytest.fail("written again"))
    ready.publish()
    assert open_volume(video_url(ready.workspace.out, ready.video.video_id)).results == ("initial",)
    assert list((ready.workspace.store.root / "volume").iterdir()) == []


def test_one_content_under_two_names_gives_two_videos_with_their_own_records(ready):
    other = VideoRef("other-0123456789", ready.video.uri, ready.video.digest, "file", "other")
    ready.publish()
    ready.publish(video=other)
    for video in (ready.video, other):
        record = read_record(video_url(ready.workspace.out, video.video_id))
        assert record is not None
        assert (record["video_id"], record["source"]["name"]) == (video.video_id, video.name)


def test_a_remote_output_gets_the_record_last_and_never_credentials(ready, memory_store, monkeypatch):
    put: list[str] = []
    original = type(memory_store).put_file

    def noted(self, here, there, **options):
        put.append(there)
        return original(self, here, there, **options)

    monkeypatch.setattr(type(memory_store), "put_file", noted)
    remote = Workspace("memory://bucket/out", ready.workspace.work, "test")
    secret = VideoRef(
        ready.video.video_id, "https://user:hunter2@host/v.mp4?signature=hunter2", ready.video.digest, "file", "v"
    )
    ready.publish(workspace=remote, video=secret)
    assert put[-1].endswith("record.json")
    assert open_volume(video_url(remote.out, secret.video_id)).frames == 4
    assert all(b"hunter2" not in memory_store.cat_file(name) for name in memory_store.find("/bucket"))
