from __future__ import annotations

import os

import pytest

import tasks.digests as digests_module
from nvds_core.types import ConfigError, DecodeError
from nvds_core.video import content_digest
from nvds_core.video.writer import write_png16
from tasks.digests import DigestMemo
from tasks.sources import Source, find_sources, identify, measure, unreadable
from tests.nvds_core.video.makers import panning
from tests.tasks.helpers import clip, video_of


def touch(path, content: bytes = b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def frames_in(folder, count: int = 3):
    folder.mkdir(parents=True)
    for index, picture in enumerate(panning(count)):
        write_png16(folder / f"frame_{index:06d}.png", picture.astype("uint16") * 257)
    return folder


def names(*inputs: object) -> list[str]:
    return [source.name for source in find_sources([str(item) for item in inputs])]


def test_a_folder_gives_its_videos_and_frame_folders_in_order_and_nothing_else(tmp_path):
    for name in ("b.mp4", "a.MOV", "notes.md", ".hidden.mp4", "deep/c.mkv", ".cache/d.mp4"):
        touch(tmp_path / name)
    frames_in(tmp_path / "frames")
    frames_in(tmp_path / "stereo" / "left")
    assert names(tmp_path) == ["a", "b", "c", "frames", "stereo"]


def test_a_frame_folder_is_one_video(tmp_path):
    (source,) = find_sources([str(frames_in(tmp_path / "shot"))])
    video = identify(source, DigestMemo(tmp_path / "memo.json"))
    assert (video.kind, video.name, video.digest) == ("frames", "shot", content_digest(tmp_path / "shot"))


def test_globs_lists_and_repeated_inputs_name_each_place_once(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        touch(tmp_path / name)
    (tmp_path / "list.txt").write_text("\ufeffb.mp4\n\n  sub  \nlist.txt\n", encoding="utf-8")
    assert names(tmp_path / "*.mp4", tmp_path / "a.mp4") == ["a", "b"]
    assert names(tmp_path / "list.txt") == ["b", "c"]
    monkeypatch.chdir(tmp_path)
    assert [source.uri for source in find_sources(["a.mp4"])] == [str(tmp_path / "a.mp4")], "places are absolute"


def test_a_line_of_a_list_that_leads_nowhere_fails_alone(tmp_path):
    touch(tmp_path / "a.mp4")
    (tmp_path / "list.txt").write_text("a.mp4\nmissing.mp4\n")
    found = find_sources([str(tmp_path / "list.txt")])
    assert [source.name for source in found] == ["a", "missing"]
    with pytest.raises(DecodeError, match="no such file"):
        identify(found[1], DigestMemo(tmp_path / "memo.json"))


@pytest.mark.parametrize(
    "name",
    ["with space.mp4", "emoji 🎬.mp4", "line\nbreak.mp4", "-leading.mp4", "a::b.mp4", "100%.mp4", "[x].mp4", "a..mp4"],
)
def test_unusual_names_are_found_directly_and_in_their_folder(tmp_path, monkeypatch, name):
    path = touch(tmp_path / name)
    assert [source.uri for source in find_sources([str(tmp_path)])] == [str(path)]
    monkeypatch.chdir(tmp_path)
    (source,) = find_sources([name])
    assert source.uri == str(path)
    video = identify(source, DigestMemo(tmp_path / "memo.json"))
    assert video.video_id.isascii()
    assert not video.video_id.startswith(("-", "."))
    assert "/" not in video.video_id


def test_a_name_that_is_no_text_can_be_remembered(tmp_path):
    path = touch(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    memo = DigestMemo(tmp_path / "memo.json")
    (source,) = find_sources([str(tmp_path)])
    assert identify(source, memo).uri == str(path)
    memo.save()
    assert unreadable(source).video_id.isascii()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "not_a_video"),
        (lambda path: path.symlink_to("nowhere.mp4"), "not_found"),
        (lambda path: os.mkfifo(path), "unreadable"),
        (lambda path: path.touch(), "empty"),
    ],
    ids=["directory", "dangling link", "fifo", "empty"],
)
@pytest.mark.timeout(60)
def test_what_only_looks_like_a_video_is_found_and_fails_with_its_reason(tmp_path, make, reason):
    path = tmp_path / "in" / "x.mp4"
    path.parent.mkdir()
    make(path)
    for item in (path.parent, path):
        (source,) = find_sources([str(item)])
        assert source == Source(str(path), "x")
        with pytest.raises(DecodeError) as caught:
            identify(source, DigestMemo(tmp_path / "memo.json"))
        assert caught.value.reason == reason


def test_links_that_form_a_circle_end(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    (tmp_path / "other").mkdir()
    touch(tmp_path / "other" / "b.mp4")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "other")
    assert names(tmp_path / "in") == ["a", "b"]


@pytest.mark.parametrize("item", ["missing.mp4", "empty", "*.avi", "memory://bucket/missing.mp4"])
def test_an_input_without_a_video_is_refused_by_name(tmp_path, memory_store, item):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        find_sources([item if "://" in item else str(tmp_path / item)])
    assert item.rpartition("/")[2] in str(caught.value)
    assert caught.value.reason == "no_input"


@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_with_a_single_picture_is_told_what_is_needed(tmp_path, memory_store, remote):
    touch(tmp_path / "pictures" / "cat.jpg")
    memory_store.pipe_file("/bucket/pictures/cat.jpg", b"x")
    item = "memory://bucket/pictures" if remote else str(tmp_path / "pictures")
    with pytest.raises(ConfigError, match=f"^{item}: one picture, cat.jpg, is no video; .* frame_000001.jpg") as caught:
        find_sources([item])
    assert caught.value.reason == "no_input"


def test_a_list_that_is_not_text_is_refused(tmp_path):
    touch(tmp_path / "list.txt", b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        find_sources([str(tmp_path / "list.txt")])


def test_equal_names_get_different_ids_and_equal_content_the_same(tmp_path):
    memo = DigestMemo(tmp_path / "memo.json")
    first, second, copy = (touch(tmp_path / f"{d}/v.mp4", c) for d, c in (("a", b"1"), ("b", b"2"), ("c", b"1")))
    ids = [identify(Source(str(path), "v"), memo).video_id for path in (first, second, copy)]
    assert ids[0] != ids[1]
    assert ids[0] == ids[2]


def test_urls_of_files_and_of_object_stores_are_searched_like_folders(tmp_path, memory_store):
    touch(tmp_path / "v.mp4", b"same")
    assert [source.uri for source in find_sources([f"file://{tmp_path}"])] == [str(tmp_path / "v.mp4")]
    frames_in(tmp_path / "shot")
    memory_store.pipe_file("/bucket/in/v.mp4", b"same")
    memory_store.pipe_file("/bucket/in/deep/w.mp4", b"other")
    memory_store.pipe_file("/bucket/in/readme.md", b"no")
    for path in sorted((tmp_path / "shot").iterdir()):
        memory_store.pipe_file(f"/bucket/in/shot/{path.name}", path.read_bytes())
    found = {source.name: source for source in find_sources(["memory://bucket/in"])}
    assert sorted(found) == ["shot", "v", "w"]
    memo = DigestMemo(tmp_path / "memo.json")
    assert identify(found["v"], memo).video_id == video_of(tmp_path / "v.mp4").video_id
    shot = identify(found["shot"], memo)
    assert (shot.kind, shot.digest) == ("frames", content_digest(tmp_path / "shot"))


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path, monkeypatch):
    path = touch(tmp_path / "v.mp4", b"first")
    reads = []
    monkeypatch.setattr(digests_module, "content_digest", lambda path: reads.append(path) or content_digest(path))
    memo = DigestMemo(tmp_path / "memo.json")
    first = memo.local(path)
    memo.save()
    assert DigestMemo(tmp_path / "memo.json").local(path) == first
    assert len(reads) == 1
    times = path.stat().st_mtime_ns
    path.write_bytes(b"other")  # as long as before, and with the old time put back
    os.utime(path, ns=(times, times))
    assert DigestMemo(tmp_path / "memo.json").local(path) == content_digest(path) != first


def test_a_changed_frame_is_noticed_though_its_folder_looks_the_same(tmp_path):
    folder = frames_in(tmp_path / "shot")
    memo = DigestMemo(tmp_path / "memo.json")
    first = memo.local(folder)
    times = folder.stat().st_mtime_ns
    last = sorted(folder.iterdir())[-1]
    last.write_bytes(sorted(folder.iterdir())[0].read_bytes())
    os.utime(folder, ns=(times, times))
    assert memo.local(folder) != first


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(tmp_path, monkeypatch):
    path = touch(tmp_path / "v.mp4", b"half")

    def read_while_it_grows(place):
        digest = content_digest(place)
        path.write_bytes(b"half and half")
        return digest

    memo = DigestMemo(tmp_path / "memo.json")
    monkeypatch.setattr(digests_module, "content_digest", read_while_it_grows)
    memo.local(path)
    memo.save()
    assert not (tmp_path / "memo.json").exists()


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{broken"])
def test_a_damaged_memory_is_forgotten(tmp_path, content):
    touch(tmp_path / "memo.json", content)
    path = touch(tmp_path / "v.mp4")
    assert DigestMemo(tmp_path / "memo.json").local(path) == content_digest(path)


def test_a_source_is_measured_by_its_header_and_that_never_fails(tmp_path):
    info = measure(video_of(clip(tmp_path / "v.mp4", 3)))
    assert (info.frames, info.width, info.height) == (3, 160, 120)
    assert measure(video_of(touch(tmp_path / "bad.mp4", b"nonsense"))) is None
