"""An output folder as pandas and xarray see it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import dask
import numpy as np
import pytest

import storage
from storage import ArraySpec, StorageError, VolumeWriter, open_volume, upload_tree
from storage.tables import append

START = datetime(2026, 1, 1, tzinfo=UTC)
FRAMES, HEIGHT, WIDTH = 37, 6, 9


def write_volume(folder, encoding="uint16", seed=0):
    """A volume with a cut, an invalid pixel and a reference."""
    rng = np.random.default_rng(seed)
    maps = {name: rng.normal(size=(FRAMES, HEIGHT, WIDTH)).astype(np.float32) for name in ("initial", "mix")}
    maps["initial"][3, 2, 1] = np.nan
    further = {"reference": ArraySpec((FRAMES, HEIGHT, WIDTH), "float32", dimensions=("t", "y", "x"))}
    about = {"cuts": [20], "further": {"reference": "depth in the unit of the camera positions"}}
    sizes = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH, "encoding": encoding, "time": np.arange(FRAMES) / 24}
    with VolumeWriter(folder, results=tuple(maps), attributes=about, further=further, **sizes) as volume:
        for name, values in maps.items():
            volume.write(name, 0, values)
        volume.write_further("reference", 0, maps["mix"] + 10)
    return maps


def tell(root, video, status, minute=0, scores=None, **more):
    at = START + timedelta(minutes=minute)
    common = {"video_id": video, "finished_at": at}
    append(root, "outcomes", [{**common, "uri": f"{video}.mp4", "status": status, **more}], run_id="r", part=video)
    rows = [
        {**common, "result": name, "metric": "opw", "value": value, "protocol": "nvds", "flow": "dis"}
        for name, value in (scores or {}).items()
    ]
    append(root, "scores", rows, run_id="r", part=video)
    if status == "done":
        append(root, "catalog", [{"video_id": video, "fps": 24.0, "scenes": 2, "at": at}], run_id="r", part=video)


@pytest.fixture
def out(tmp_path):
    write_volume(tmp_path / "videos" / "good-1")
    tell(tmp_path, "good-1", "done", scores={"initial": 0.5, "mix": 0.25}, frames=FRAMES, seconds=2.0)
    tell(tmp_path, "bad-2", "failed", reason="decode", step="frames", message="cut off")
    return tmp_path


def test_the_table_has_a_row_per_video_and_failed_ones_say_why(out):
    videos = storage.open_run(out).videos
    assert list(videos.index) == ["bad-2", "good-1"]
    assert videos.index.name == "video_id"
    good, bad = videos.loc["good-1"], videos.loc["bad-2"]
    assert (good.status, good.frames, good.opw_initial, good.opw_mix, good.flow) == ("done", 37, 0.5, 0.25, "dis")
    assert (good.fps, good.scenes, good.finished_at) == (24.0, 2, START)
    assert (bad.status, bad.reason, bad.message) == ("failed", "decode", "cut off")
    assert videos.loc[["bad-2"], ["opw_mix", "frames"]].isna().all(axis=None)


@pytest.mark.parametrize("encoding", ["uint16", "float16", "float32"])
def test_a_volume_is_lazy_and_equals_what_the_store_decodes(tmp_path, encoding):
    write_volume(tmp_path / "videos" / "v", encoding)
    tell(tmp_path, "v", "done")
    volume = storage.open_run(tmp_path).volume("v")
    stored = open_volume(tmp_path / "videos" / "v")
    for name in ("initial", "mix"):
        lazy = volume[name]
        assert dask.is_dask_collection(lazy)
        assert (lazy.dims, lazy.dtype, lazy.attrs["units"]) == (("t", "y", "x"), np.float32, "1")
        assert "disparity" in lazy.attrs["long_name"]
        np.testing.assert_array_equal(lazy.values, stored.read(name))
    assert np.isnan(volume.initial.isel(t=3, y=2, x=1))
    np.testing.assert_array_equal(volume.reference.values, stored.read_further("reference"))
    assert volume.reference.attrs["units"] == "unit of the camera positions"


def test_coordinates_have_units_and_scenes_end_at_cuts(out):
    volume = storage.open_run(out).volume("good-1")
    units = {name: volume[name].attrs["units"] for name in ("t", "y", "x", "time")}
    assert units == {"t": "frame", "y": "pixel", "x": "pixel", "time": "s"}
    np.testing.assert_allclose(volume.time, np.arange(FRAMES) / 24)
    assert volume.groupby("scene").map(lambda scene: scene.t.max()).values.tolist() == [19, 36]


def test_one_frame_reads_one_block_only(out, monkeypatch):
    import storage.run_folder as module

    decoded = []

    def watched(codes, offset, scale, whole=module.decode_uint16):
        decoded.append(len(codes))
        return whole(codes, offset, scale)

    monkeypatch.setattr(module, "decode_uint16", watched)
    volume = storage.open_run(out).volume("good-1")
    decoded.clear()  # Dask asks for the type of the result with empty arrays
    volume.mix.isel(t=17).compute()
    assert [count for count in decoded if count] == [module.CHUNK_FRAMES]


def test_a_run_in_an_object_store_reads_the_same(out, memory_store):
    upload_tree(out, "memory://bucket/out")
    here, there = storage.open_run(out), storage.open_run("memory://bucket/out")
    assert here.videos.equals(there.videos)
    for (name, local), (same, remote) in zip(here.volumes(), there.volumes(), strict=True):
        assert name == same == "good-1"
        np.testing.assert_array_equal(local.mix.values, remote.mix.values)
        assert local.attrs == remote.attrs


def test_what_is_not_there_is_told(out, tmp_path_factory):
    with pytest.raises(StorageError, match="no output of nvds"):
        storage.open_run(tmp_path_factory.mktemp("empty"))
    with pytest.raises(StorageError, match="bad-2") as caught:
        storage.open_run(out).volume("bad-2")
    assert caught.value.reason == "absent"


def test_without_the_extra_the_error_says_what_to_install(out, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(StorageError, match=r"needs xarray .*nvds\[notebook\]"):
        storage.open_run(out)


def test_importing_the_layer_loads_neither_library(repo):
    code = "import sys, storage; print([name for name in ('pandas', 'xarray') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_example_runs(out, repo):
    command = [sys.executable, str(repo / "examples" / "explore_run.py"), str(out)]
    here = {**os.environ, "PYTHONPATH": str(repo)}
    run = subprocess.run(command, env=here, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "largest change between neighbours at frame" in run.stdout
    assert "good-1  " in run.stdout
