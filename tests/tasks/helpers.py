"""Small videos and workspaces for the tests of tasks and flows; tasks are called through ``.fn``, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nvds_core.sizes import SizeConfig
from nvds_core.video import CutConfig
from storage import ArtifactRef, ArtifactStore, VideoRef, open_arrays
from tasks.caching import result_of
from tasks.digests import DigestMemo
from tasks.flow_fields import FlowConfig, estimate_flow
from tasks.frames import FrameArtifact, FramesConfig, extract_frames
from tasks.initial import PredictorConfig, predict_initial
from tasks.score import ScoreInputs, score_video
from tasks.sources import Source, identify
from tasks.stabilize import StabilizerConfig, stabilize
from tasks.workspace import Workspace, make_workspace
from tests.nvds_core.video.makers import Picture, panning, write_video

SOURCE = (160, 120)  # of the files; much smaller ones are too coarse for the cut detector
SIZE = (96, 64)  # of the inference
SMALL = FramesConfig(size=SizeConfig(short_side=64))


def scenes(*lengths: int) -> list[Picture]:
    """Pictures of scenes of the given lengths, with cuts between them."""
    return [picture for seed, length in enumerate(lengths) for picture in panning(length, seed=seed, size=SOURCE)]


def clip(path: Path, frames: list[Picture] | int = 4, *, seed: int = 0) -> Path:
    """A video file of the given pictures, or of so many of one panning scene."""
    pictures = panning(frames, seed=seed, size=SOURCE) if isinstance(frames, int) else frames
    return write_video(path, pictures, options={"crf": "10"})


def workspace_in(folder: Path) -> Workspace:
    return make_workspace(str(folder / "out"), "test")


def video_of(path: Path) -> VideoRef:
    return identify(Source(str(path), path.stem), DigestMemo(path.parent / "absent.json"))


def extracted(workspace: Workspace, path: Path, config: FramesConfig = SMALL, **options: int) -> ArtifactRef:
    arguments = {"short_side": 192, "multiple": 32} | options
    return result_of(extract_frames.fn(workspace, video_of(path), config, **arguments)).ref


def scored_inputs(
    workspace: Workspace, path: Path, stabilizer: StabilizerConfig, cuts: CutConfig | None = None
) -> tuple[ScoreInputs, ArtifactRef]:
    """All steps up to the scores of one video: their inputs and their name."""
    config = FramesConfig(size=SMALL.size, cuts=cuts or CutConfig())
    frames = extracted(workspace, path, config)
    initial = result_of(predict_initial.fn(workspace, frames, PredictorConfig())).ref
    flow = result_of(estimate_flow.fn(workspace, frames, FlowConfig())).ref
    stable = None
    if stabilizer.name != "none":
        stable = result_of(stabilize.fn(workspace, frames, initial, stabilizer)).ref
    inputs = ScoreInputs(frames, flow, initial, stable, stabilizer.passes)
    return inputs, result_of(score_video.fn(workspace, inputs)).ref


def read(store: ArtifactStore, ref: ArtifactRef, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(open_arrays(store.path(ref) / "arrays").read(name))


def pictures_of(store: ArtifactStore, ref: ArtifactRef) -> np.ndarray[Any, Any]:
    """All frames [t,h,w,3] in 0..1."""
    frames = FrameArtifact(store, ref)
    return frames.read(0, frames.frames)
