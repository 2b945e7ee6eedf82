"""Make the results of one video appear in the output folder: the volume first, its record last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from nvds_core.stabilization.mixing import mix_passes
from storage import (
    ArrayReader,
    ArtifactRef,
    VideoRef,
    VolumeWriter,
    artifact_key,
    open_arrays,
    read_record,
    write_record,
)
from storage.locations import join, publish_tree
from storage.volumes import Encoding
from tasks.caching import TASK_OPTIONS
from tasks.frames import FrameArtifact
from tasks.score import ScoreInputs, read_scores
from tasks.workspace import StepResult, Workspace

STEP, VERSION = "published", 1
BLOCK = 32


@dataclass(frozen=True)
class PublishConfig:
    """How results are stored: ``uint16`` (16 bits per frame range), ``float16`` or ``float32``."""

    encoding: Encoding = "uint16"


def published_ref(inputs: ScoreInputs, scores: ArtifactRef, config: PublishConfig) -> ArtifactRef:
    """The name of a published volume; a video is done if its record carries this key."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, inputs, scores, config))


def video_url(out: str, video_id: str) -> str:
    """Where a video's group lies."""
    return join(out, "videos", video_id)


def find_published(out: str, video: VideoRef, ref: ArtifactRef) -> dict[str, Any] | None:
    """The record of a finished video, None unless it was made from exactly these inputs and settings."""
    record = read_record(video_url(out, video.video_id))
    return record if record is not None and record.get("key") == ref.key else None


@task(name="publish-video", task_run_name="publish-video {video.video_id}", **TASK_OPTIONS)
def publish_video(
    workspace: Workspace,
    video: VideoRef,
    inputs: ScoreInputs,
    scores: ArtifactRef,
    config: PublishConfig,
    described: Mapping[str, Any],
) -> StepResult | State[StepResult]:
    """Write the volume beside the output, then move it into place; ``described`` goes into its attributes."""
    ref = published_ref(inputs, scores, config)
    if find_published(workspace.out, video, ref) is not None:
        return Completed(name="Cached", data=StepResult(ref, True, 0.0, 0))
    started = time.perf_counter()
    pictures = FrameArtifact(workspace.store, inputs.frames)
    score = read_scores(workspace, scores)
    about = _about(workspace, video, inputs, pictures, score, described)
    with workspace.store.create(ArtifactRef("publishing", ref.key)) as folder:
        _write(workspace, inputs, pictures, score["choices"], folder / "volume", config, about)
        record = {"key": ref.key, "video_id": video.video_id, "status": "done", **about, "opw": score["opw"]}
        write_record(folder / "volume", record)
        publish_tree(folder / "volume", video_url(workspace.out, video.video_id))
    workspace.store.discard(ArtifactRef("publishing", ref.key))
    return StepResult(ref, False, time.perf_counter() - started, pictures.frames)


def _about(
    workspace: Workspace,
    video: VideoRef,
    inputs: ScoreInputs,
    pictures: FrameArtifact,
    score: Mapping[str, Any],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    store = workspace.store
    origin = {
        "predictor": open_arrays(store.path(inputs.initial) / "arrays").attributes["predictor"],
        "flow": open_arrays(store.path(inputs.flow) / "arrays").attributes["flow"],
        "stabilizer": None
        if inputs.stabilized is None
        else open_arrays(store.path(inputs.stabilized) / "arrays").attributes["stabilizer"],
    }
    return {
        "source": {"name": video.name, "uri": video.uri, "digest": video.digest, **pictures.source},
        "frames": pictures.frames,
        "height": pictures.height,
        "width": pictures.width,
        "cuts": pictures.cuts,
        "warnings": pictures.warnings,
        "mix_choices": score["choices"],
        "opw_protocol": score["protocol"],
        "weights": origin,
        "artifacts": {"frames": inputs.frames.key, "flow": inputs.flow.key, "initial": inputs.initial.key},
        **described,
    }


def _write(
    workspace: Workspace,
    inputs: ScoreInputs,
    pictures: FrameArtifact,
    choices: list[Any],
    folder: Path,
    config: PublishConfig,
    about: Mapping[str, Any],
) -> None:
    both = len(inputs.passes) == 2
    results = ("initial", *inputs.passes, *(("mix",) if both else ()))
    store = workspace.store
    sources = {"initial": open_arrays(store.path(inputs.initial) / "arrays")}
    if inputs.stabilized is not None:
        sources |= dict.fromkeys(inputs.passes, open_arrays(store.path(inputs.stabilized) / "arrays"))
    with VolumeWriter(
        folder,
        results=results,
        frames=pictures.frames,
        height=pictures.height,
        width=pictures.width,
        encoding=config.encoding,
        attributes=about,
        time=pictures.times,
    ) as volume:
        for (start, stop), choice in zip(pictures.scenes, choices, strict=True):
            for first, maps in _blocks(sources, start, stop):
                if both:
                    maps["mix"] = mix_passes(choice, maps["forward"], maps["backward"])
                for name, block in maps.items():
                    volume.write(name, first, block)


def _blocks(
    sources: Mapping[str, ArrayReader], start: int, stop: int
) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        yield first, {name: source.read(name, first, last) for name, source in sources.items()}
