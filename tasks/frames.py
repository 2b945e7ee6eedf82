"""Decode a video once: frames at inference size, their times and the cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvds_core.sizes import SizeConfig, inference_size
from nvds_core.stabilization import prepare_rgb
from nvds_core.types import ConfigError, CoreError, DecodeError
from nvds_core.video import CutConfig, CutDetector, Frame, content_digest, open_video
from storage import ArraySpec, ArtifactRef, ArtifactStore, VideoRef, artifact_key, open_arrays, write_arrays
from storage.locations import is_local, remove_tree, stage
from tasks.caching import StepReturn, produce, step
from tasks.streams import Prefetch, WriteBehind
from tasks.workspace import Workspace, public_text

STEP, VERSION = "frames", 1

# The published protocol resizes in floating point and keeps the overshoot, which 8 bits would cut off. 16-bit fixed
# point over -0.5..1.5 keeps it to 1.5e-5, a tenth of the tolerance of the golden files, at half the size of float32.
CODE_SCALE, CODE_OFFSET = 32768.0, 0.5
BLOCK_BYTES = 64 * 2**20  # of float64 pictures handed out at once; large pictures come in shorter blocks
BEHIND = 8  # frames that wait to be written


@dataclass(frozen=True)
class FramesConfig:
    """How videos become frames: size, at most ``limit`` frames, cut detection."""

    size: SizeConfig = field(default_factory=SizeConfig)
    limit: int | None = None
    cuts: CutConfig = field(default_factory=CutConfig)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}, must be 1 or more; leave it out for whole videos")


def encode_unit(unit_rgb: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Pictures in 0..1 (overshoot to -0.5..1.5) as fixed point."""
    return np.clip(np.rint((unit_rgb + CODE_OFFSET) * CODE_SCALE), 0, 65535).astype(np.uint16)


def decode_unit(code: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Inverse of `encode_unit`."""
    return code.astype(np.float64) / CODE_SCALE - CODE_OFFSET


def frames_ref(video: VideoRef, config: FramesConfig, short_side: int, multiple: int) -> ArtifactRef:
    """The name of a video's frames: its content and how they are cut to size."""
    return ArtifactRef(STEP, artifact_key(STEP, VERSION, video.digest, config, short_side, multiple))


@step(name="extract-frames", task_run_name="extract-frames {video.video_id}")
def extract_frames(
    workspace: Workspace, video: VideoRef, config: FramesConfig, short_side: int, multiple: int
) -> StepReturn:
    """Write the frames of one video; the size follows from its own, the config and the predictor.

    Remote sources are copied beside the artifact for the time of decoding.

    Raises:
        DecodeError: as `open_video`, or reason "changed" if the source is no longer what its digest says.
    """

    def make(folder: Path) -> int:
        source = stage(video.uri, folder / "source")
        try:
            frames = _decode(source, folder / "arrays", config, short_side, multiple)
            # a file that was still being copied when the run was planned must not be published under its old digest
            if content_digest(source) != video.digest:
                raise DecodeError(f"{source}: changed while the run was going on; run again", reason="changed")
        except CoreError as error:
            if is_local(video.uri):
                raise
            message = str(error).replace(str(source), public_text(video.uri))
            raise type(error)(message, reason=error.reason) from None
        remove_tree(folder / "source")
        return frames

    return produce(workspace, frames_ref(video, config, short_side, multiple), make)


def _decode(source: Path, folder: Path, config: FramesConfig, short_side: int, multiple: int) -> int:
    with open_video(source, limit=config.limit) as reader:
        info = reader.info
        size = inference_size((info.width, info.height), config.size, short_side=short_side, multiple=multiple)
        specs = {
            "rgb": ArraySpec(shape=(None, size[1], size[0], 3), dtype="uint16"),
            "time": ArraySpec(shape=(None,), dtype="float64", chunk_frames=4096, shard_frames=4096),
        }
        detector = CutDetector(config.cuts)
        with write_arrays(folder, specs, {}) as arrays:
            with (
                Prefetch(reader) as decoded,
                Prefetch(_coded(decoded, size)) as coded,
                WriteBehind(arrays.write, 2 * BEHIND) as output,
            ):
                for frame, code in coded:
                    output.put("rgb", frame.index, code[None])
                    output.put("time", frame.index, np.array([frame.time_s]))
                    detector.push(frame.rgb)
            if reader.decoded == 0:
                raise DecodeError(f"{source}: no frame could be decoded; check it with 'nvds probe'", reason="empty")
            arrays.attributes.update(source=asdict(reader.info), cuts=detector.finish(), warnings=reader.warnings)
    return reader.decoded


def _coded(frames: Iterable[Frame], size: tuple[int, int]) -> Iterator[tuple[Frame, NDArray[np.uint16]]]:
    """Each frame with its picture at inference size in fixed point."""
    for frame in frames:
        yield frame, encode_unit(prepare_rgb(frame.rgb, size))


class FrameArtifact:
    """Frames written by `extract_frames`."""

    def __init__(self, store: ArtifactStore, ref: ArtifactRef) -> None:
        self._arrays = open_arrays(store.path(ref) / "arrays")
        attributes = self._arrays.attributes
        self.cuts: list[int] = list(attributes["cuts"])
        self.source: dict[str, object] = dict(attributes["source"])
        self.warnings: list[str] = list(attributes["warnings"])
        self.frames, self.height, self.width = self._arrays.shape("rgb")[:3]

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds since the first frame, [t]."""
        return self._arrays.read("time")

    @property
    def scenes(self) -> list[tuple[int, int]]:
        """Frame ranges [start, stop) between cuts."""
        edges = [0, *self.cuts, self.frames]
        return list(pairwise(edges))

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Pictures [n,h,w,3] in 0..1 with overshoot."""
        return decode_unit(self._arrays.read("rgb", start, stop))

    def blocks(
        self, start: int, stop: int, length: int, touching: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """(first frame, pictures) in blocks of at most ``length`` frames and `BLOCK_BYTES`; see `ranges`."""
        for first, last in self.ranges(start, stop, length, touching):
            yield first, self.read(first, last)

    def ranges(
        self, start: int, stop: int, length: int, touching: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, int]]:
        """[first, last) of those blocks; they depend on the picture size alone, as batches may change the last bits.

        With `touching`, of the same blocks those that have some of the frames [touching[0], touching[1]).
        """
        step = max(1, min(length, BLOCK_BYTES // (self.height * self.width * 3 * 8)))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            if touching is None or (first < touching[1] and touching[0] < last):
                yield first, last
