"""Make the results of one video appear in the output folder: the volume first, its record last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from tasks.caching import StepReturn, step
from tasks.frames import FrameArtifact
from tasks.score import ScoreInputs, read_scores, result_readers
from tasks.sources import bytes_of
from tasks.streams import Prefetch, WriteBehind
from tasks.tto_results import FurtherArrays, further_of
from tasks.workspace import StepResult, Workspace, public_text

STEP, VERSION = "published", 1
BLOCK = 32


@dataclass(frozen=True)
class PublishConfig:
    """How results are stored: ``uint16`` (16 bits per frame range), ``float16`` or ``float32``."""

    encoding: Encoding = "uint16"


def published_ref(inputs: ScoreInputs, scores: ArtifactRef | None, config: PublishConfig) -> ArtifactRef:
    """The name of a published volume; a video is done if its record carries this key."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, inputs, scores, config))


def video_url(out: str, video_id: str) -> str:
    """Where a video's group lies."""
    return join(out, "videos", video_id)


def find_published(out: str, video: VideoRef, ref: ArtifactRef) -> dict[str, Any] | None:
    """The record of a finished video, None unless it was made from exactly these inputs and settings."""
    record = read_record(video_url(out, video.video_id))
    return record if record is not None and record.get("key") == ref.key else None


@step(name="publish-video", task_run_name="publish-video {video.video_id}")
def publish_video(
    workspace: Workspace,
    video: VideoRef,
    inputs: ScoreInputs,
    scores: ArtifactRef | None,
    config: PublishConfig,
    described: Mapping[str, Any],
) -> StepReturn:
    """Write the volume as an artifact, then move it to the output; ``described`` goes into its attributes.

    What an earlier run wrote but could not move is moved without being written again.
    """
    ref = published_ref(inputs, scores, config)
    if find_published(workspace.out, video, ref) is not None:
        return Completed(name="Cached", data=StepResult(ref, True, 0.0, 0))
    started = time.perf_counter()
    store = workspace.store
    pictures = FrameArtifact(store, inputs.frames)
    # with the video's id, as the same content may be there under two names
    volume = ArtifactRef("volume", artifact_key("volume", VERSION, ref, video.video_id))
    if store.find(volume) is None:
        score = _unscored(pictures, inputs) if scores is None else read_scores(workspace, scores)
        about = _about(workspace, video, inputs, scores, pictures, score, described)
        further = further_of(workspace, inputs)
        if further is not None:
            about["tto"] = further.account
        with store.create(volume) as folder:
            _write(workspace, inputs, pictures, score["choices"], folder, config, about, further)
            record = {"key": ref.key, "video_id": video.video_id, "status": "done", **about, "opw": score["opw"]}
            write_record(folder, record)
    publish_tree(store.path(volume), video_url(workspace.out, video.video_id))
    return StepResult(ref, False, time.perf_counter() - started, pictures.frames)


def _unscored(pictures: FrameArtifact, inputs: ScoreInputs) -> dict[str, Any]:
    """What stands in the place of scores: nothing was measured, and every scene takes the mean of both passes."""
    choice = "mean" if len(inputs.passes) == 2 else None
    return {"protocol": None, "choices": [choice] * len(pictures.scenes), "opw": None}


def _about(
    workspace: Workspace,
    video: VideoRef,
    inputs: ScoreInputs,
    scores: ArtifactRef | None,
    pictures: FrameArtifact,
    score: Mapping[str, Any],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    """What record and volume say about themselves."""
    made_by: dict[str, Any] = {"stabilizer": None, "flow": None}
    refs = inputs.artifacts
    for ref in filter(None, (inputs.initial, inputs.flow, inputs.stabilized)):
        made_by |= open_arrays(workspace.store.path(ref) / "arrays").attributes
    named = {**refs, "frames": inputs.frames, "scores": scores}
    return {
        "source": {
            "name": public_text(video.name),
            "uri": public_text(video.uri),
            "digest": video.digest,
            "bytes": bytes_of(video),
            **pictures.source,
        },
        "frames": pictures.frames,
        "height": pictures.height,
        "width": pictures.width,
        "cuts": pictures.cuts,
        "warnings": [public_text(warning) for warning in pictures.warnings],
        "mix_choices": score["choices"],
        "opw_protocol": score["protocol"],
        "weights": {name: made_by[name] for name in ("predictor", "flow", "stabilizer")},
        "artifacts": {name: ref.key for name, ref in named.items() if ref is not None},
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
    further: FurtherArrays | None,
) -> None:
    both = len(inputs.passes) == 2
    sources = result_readers(workspace, inputs)
    with VolumeWriter(
        folder,
        results=(*sources, *(("mix",) if both else ())),
        frames=pictures.frames,
        height=pictures.height,
        width=pictures.width,
        encoding=config.encoding,
        attributes={**about, **(further.attributes if further else {})},
        time=pictures.times,
        further=further.specs if further else None,
    ) as volume:
        blocks = _blocks(sources, pictures, choices, both=both)
        with Prefetch(blocks) as read, WriteBehind(volume.write) as output:
            for first, maps in read:
                for name, block in maps.items():
                    output.put(name, first, block)
        for name, first, values in further.blocks() if further else ():
            volume.write_further(name, first, values)


def _blocks(
    sources: Mapping[str, ArrayReader], pictures: FrameArtifact, choices: list[Any], *, both: bool
) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    """(first frame, maps by result) of the whole video, the mix made by each scene's choice."""
    for (start, stop), choice in zip(pictures.scenes, choices, strict=True):
        for first, last in pictures.ranges(start, stop, BLOCK):
            maps = {name: source.read(name, first, last) for name, source in sources.items()}
            if both:
                maps["mix"] = mix_passes(choice, maps["forward"], maps["backward"])
            yield first, maps
