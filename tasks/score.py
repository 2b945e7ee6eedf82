"""OPW of all results of a video, and the choice of the mix that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from nvds_core.metrics import OpwResult, join_opw
from nvds_core.metrics.passes import PassOpw
from nvds_core.stabilization.mixing import Choice, choose_mix, mix_passes
from storage import ArrayReader, ArtifactRef, artifact_key, open_arrays
from storage.locations import read_json, write_json_atomic
from tasks import workers
from tasks.caching import StepReturn, produce, step
from tasks.frames import FrameArtifact
from tasks.streams import Prefetch
from tasks.transfer import Uploaded, Uploader
from tasks.workspace import Workspace

STEP, VERSION = "scores", 2
PROTOCOL = "nvds"
BACKWARD_REVERSED = "backward" + PassOpw.REVERSED
BLOCK = 8
AHEAD = 8  # frames that wait to be scored


@dataclass(frozen=True)
class ScoreConfig:
    """``nvds``: OPW as published, which also chooses the mix. ``none``: no flow, no score, and the mix is the mean."""

    name: Literal["nvds", "none"] = "nvds"


@dataclass(frozen=True)
class ScoreInputs:
    """The artifacts a score is made of: ``stabilized`` is None without a stabiliser, ``flow`` without a score."""

    frames: ArtifactRef
    flow: ArtifactRef | None
    initial: ArtifactRef
    stabilized: ArtifactRef | None
    passes: tuple[str, ...]

    @property
    def plain(self) -> tuple[str, ...]:
        """Results before the stabiliser, each named like its artifact; the last is what is stabilised."""
        return ("initial",)

    @property
    def artifacts(self) -> dict[str, ArtifactRef | None]:
        """The artifacts by the name that records give them."""
        return {"initial": self.initial, "flow": self.flow, "stabilized": self.stabilized}


def scores_ref(inputs: ScoreInputs) -> ArtifactRef:
    """The name of the scores."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, inputs, PROTOCOL))


@step(name="score-video", task_run_name="score-video {inputs.initial.key}")
def score_video(workspace: Workspace, inputs: ScoreInputs) -> StepReturn:
    """Write OPW per result and pair, in total and on the mean, and which mix each scene takes.

    ``reversed_total`` is the total of the backward pass in its own order of time, as the published script prints it.
    """

    def make(folder: Path) -> int:
        pictures = FrameArtifact(workspace.store, inputs.frames)
        scenes = [_score_scene(workspace, pictures, inputs, *scene) for scene in pictures.scenes]
        names = [*inputs.plain, *inputs.passes] + (["mix"] if len(inputs.passes) == 2 else [])
        joined = {name: join_opw([scene[name] for scene, _ in scenes]) for name in names}
        opw = {name: {"total": r.total, "mean": r.mean, "pairs": r.pairs.tolist()} for name, r in joined.items()}
        if "mix" in opw:
            opw["backward"]["reversed_total"] = join_opw([scene[BACKWARD_REVERSED] for scene, _ in scenes]).total
        write_json_atomic(
            folder / "scores.json",
            {
                "protocol": PROTOCOL,
                "frames": pictures.frames,
                "size": [pictures.width, pictures.height],
                "choices": [choice for _, choice in scenes],
                "opw": opw,
            },
        )
        return pictures.frames

    return produce(workspace, scores_ref(inputs), make)


def read_scores(workspace: Workspace, ref: ArtifactRef) -> dict[str, Any]:
    """Scores written by `score_video`."""
    scores: dict[str, Any] = read_json(workspace.store.path(ref) / "scores.json")
    return scores


def result_readers(workspace: Workspace, inputs: ScoreInputs) -> dict[str, ArrayReader]:
    """Where the disparity of each result is read, in the order of publication; the mix follows from them."""
    store = workspace.store
    readers = {name: open_arrays(store.path(getattr(inputs, name)) / "arrays") for name in inputs.plain}
    if inputs.stabilized is not None:
        readers |= dict.fromkeys(inputs.passes, open_arrays(store.path(inputs.stabilized) / "arrays"))
    return readers


def _score_scene(
    workspace: Workspace, pictures: FrameArtifact, inputs: ScoreInputs, start: int, stop: int
) -> tuple[dict[str, OpwResult], Choice | None]:
    """OPW by result of one scene, all over the same pairs and flow.

    The published script walks through the backward pass in its own order of time, which warps other frames; the mixing
    rule is defined by that figure, so it is there as well.
    """
    both = len(inputs.passes) == 2
    names = (*inputs.plain, *inputs.passes, *(("mean",) if both else ()))
    scorer = PassOpw(names, ("backward",) if both else ())
    with Prefetch(_scene_frames(workspace, pictures, inputs, start, stop), AHEAD) as frames:
        for frame in frames:
            scorer.push(*frame.ready())
    scored = scorer.results()
    if not both:
        return scored, None
    choice = choose_mix(scored[inputs.plain[-1]].mean, scored["forward"].mean, scored[BACKWARD_REVERSED].mean)
    return {**scored, "mix": scored[choice]}, choice


@dataclass(frozen=True)
class _Frame:
    """What the score of one frame reads, on its way to the device: RGB in 0..255, disparity by result, flow."""

    rgb: Uploaded
    maps: dict[str, Uploaded]
    flow: tuple[Uploaded, Uploaded] | None

    def ready(self) -> tuple[Tensor, dict[str, Tensor], Tensor | None, Tensor | None]:
        """Arguments of `PassOpw.push`."""
        to_previous, to_next = (None, None) if self.flow is None else (field.ready() for field in self.flow)
        return self.rgb.ready(), {name: values.ready() for name, values in self.maps.items()}, to_previous, to_next


def _scene_frames(
    workspace: Workspace, pictures: FrameArtifact, inputs: ScoreInputs, start: int, stop: int
) -> Iterator[_Frame]:
    """Every frame of a scene; the first has no flow."""
    assert inputs.flow is not None, "a score needs flow"
    flow = open_arrays(workspace.store.path(inputs.flow) / "arrays")
    sources = result_readers(workspace, inputs)
    upload = Uploader(workers.device())
    for first, block in pictures.blocks(start, stop, BLOCK):
        last = first + len(block)
        maps = {name: source.read(name, first, last) for name, source in sources.items()}
        if len(inputs.passes) == 2:
            maps["mean"] = mix_passes("mean", maps["forward"], maps["backward"])
        fields = [flow.read(name, first, last) for name in ("to_previous", "to_next")]
        for i, picture in enumerate(block):
            pair = None if first + i == start else (upload(fields[0][i]), upload(fields[1][i]))
            rgb = upload((picture * 255).astype(np.float32))
            yield _Frame(rgb, {name: upload(values[i]) for name, values in maps.items()}, pair)
