"""`nvds run` with the published models: official files and names, deterministic weights, real footage."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nvds_core.models import create_model
from nvds_core.stabilization import quantize_disparity, stabilize_video
from nvds_core.video import open_video
from storage import open_volume
from tasks import workers
from tasks.memory import free_memory
from tests.fill import KEPT_LEAVES, fill_value
from tests.flows.finished import nvds

SIZE, FRAMES = (96, 64), 5
FILES = {
    "nvds": "NVDS_Stabilizer.pth",
    "gmflow": "gmflow_sintel-0c07dcb3.pth",
    "midas-v21-small": "midas_v21_small-70d6b9c8.pt",
    "dpt-large": "dpt_large-midas-2f21e586.pt",
}
SHAPES = {
    "nvds": ("nvds/state_dict.json", "keys"),
    "gmflow": ("gmflow/state_dict.json", "gmflow"),
    "midas-v21-small": ("midas/state_dict.json", "midas_v21_small_256"),
    "dpt-large": ("dpt/state_dict.json", "dpt_large_384"),
}
NEEDED_BYTES = 7 * 2**30  # by dpt-large: its weights as a file and in memory, and what the system keeps of the file


def official_state(shared: Path, name: str) -> dict[str, Tensor]:
    """The entries of the published file, as `state_dict.json` lists them, filled by the rule of the golden data."""
    path, part = SHAPES[name]
    listed: Mapping[str, list[object]] = json.loads((shared / "reference" / path).read_text())[part]
    state = {}
    for key, (shape, dtype, *_) in listed.items():
        if str(dtype).startswith("float") and key.rpartition(".")[2] not in KEPT_LEAVES:
            state[key] = torch.from_numpy(fill_value(key, tuple(shape)))
    if name == "gmflow":
        for key in state:
            if key.startswith("transformer.") and ".norm" in key:
                state[key] *= 0.25
    elif name != "nvds":
        state["scratch.output_conv.4.bias"].fill_(3.0 if name == "dpt-large" else 0.5)
    return state


def write_official(shared: Path, name: str, folder: Path) -> str:
    """Write a checkpoint the way its authors did; returns the sha256 of the file."""
    state = official_state(shared, name)
    content: dict[str, object] = dict(state)
    if name == "nvds":
        content = {f"module.{key}": value for key, value in state.items()}
    elif name == "gmflow":
        content = {"model": state}
    path = folder / FILES[name]
    torch.save(content, path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of weights, and none of its models left in memory afterwards."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("NVDS_WEIGHTS", str(folder))
    yield folder
    for loaded in (workers._predictor, workers._stabilizer, workers._flow):
        loaded.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["midas-v21-small", "dpt-large"])
def test_official_checkpoints_drive_the_whole_run_and_the_stabiliser_follows_the_protocol(
    prefect_api, shared, cache, tmp_path, predictor
):
    if predictor == "dpt-large" and free_memory(torch.device("cpu")) < NEEDED_BYTES:
        pytest.skip(f"dpt-large needs {NEEDED_BYTES / 2**30:.0f} GB of free memory")
    clip = shared / "data" / "vdw_stereo" / "000002.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip.name} is not in ../shared/data")
    written = {name: write_official(shared, name, cache) for name in (predictor, "nvds", "gmflow")}
    networks = ("--predictor", predictor, "--stabilizer", "nvds", "--flow", "gmflow")
    dials = ("--size", f"{SIZE[0]}x{SIZE[1]}", "--frames", FRAMES, "--encoding", "float32")
    out = tmp_path / "out"
    result = nvds("run", clip, *networks, *dials, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    for name, sha256 in written.items():
        assert re.search(rf"{FILES[name]}, sha256 {sha256}", result.stderr), f"the log names the digest of {name}"
    assert all(value > 0 for value in json.loads(result.stdout)["opw"].values())

    [folder] = (out / "videos").iterdir()
    volume = open_volume(folder)
    with open_video(clip, limit=FRAMES) as reader:
        rgb = np.stack([frame.rgb for frame in reader])
    model = create_model("nvds", pretrained=True)
    codes = np.stack([quantize_disparity(frame) for frame in volume.read("initial")])
    expected = stabilize_video(model, rgb, codes, SIZE)
    for name in ("forward", "backward"):
        gap = np.abs(volume.read(name) - getattr(expected, name)).max()
        assert gap < 1e-3 * np.ptp(getattr(expected, name)), name  # the fixed point of the frames is all that differs
    again = nvds("run", clip, *networks, *dials, "--out", out)
    assert "nothing to do" in again.stdout


def test_missing_checkpoints_are_told_in_one_line_before_any_video_is_read(cache, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"never read")
    networks = ("--predictor", "dpt-large", "--stabilizer", "nvds", "--flow", "gmflow")
    result = nvds("run", clip, *networks, "--out", tmp_path / "out")
    [line] = result.stderr.splitlines()
    assert result.exit_code == 2
    assert all(FILES[name] in line for name in ("dpt-large", "nvds", "gmflow"))
    result = nvds("run", clip, *networks, "--out", tmp_path / "out", "--score", "none")
    assert FILES["gmflow"] not in result.stderr, "without a score no flow is needed"
