"""The maps of ``folder:PATH`` for one video: files through the core library, our own Zarr volumes through storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvds_core.predictors.depth_files import DepthMaps
from nvds_core.predictors.folder import VOLUME_FILE, DepthFolder, check_count, is_volume
from nvds_core.predictors.quantity import resize_map, to_disparity
from nvds_core.types import ConfigError
from storage import ArraySpec, DepthVolume, VideoRef, open_volume, write_arrays
from tasks import workers
from tasks.frames import FrameArtifact

BLOCK = 16


@dataclass(frozen=True)
class VolumeMaps:
    """One result of a volume as maps; see `DepthMaps`."""

    volume: DepthVolume
    result: str
    digest: str

    @property
    def count(self) -> int:
        return self.volume.frames

    def maps(self) -> Iterator[NDArray[np.float32]]:
        for first in range(0, self.count, BLOCK):
            block = self.volume.read(self.result, first, min(first + BLOCK, self.count))
            for index, values in enumerate(block, start=first):
                yield to_disparity(values, "disparity", f"{self.result} frame {index}")


def predictor_digest(name: str, video: VideoRef | None) -> str:
    """What the initial disparity of a video depends on besides its frames.

    Raises:
        DecodeError: ``folder:PATH`` has no usable maps for this video.
    """
    predictor = workers.predictor(name)
    if not isinstance(predictor, DepthFolder):
        return predictor.digest
    return f"{predictor.digest}:{maps_of(predictor, video).digest}"


def maps_of(folder: DepthFolder, video: VideoRef | None) -> DepthMaps:
    """The maps that belong to a video.

    Raises:
        DecodeError: there are none, or several.
        ConfigError: no video, or a quantity or result that the volume does not hold.
        StorageError: a volume that cannot be read.
    """
    if video is None:
        raise ConfigError(f"folder:{folder.path} needs to know the video; name it")
    entry = folder.locate(video.name, video.video_id)
    if not is_volume(entry):
        return folder.open(entry)
    volume = open_volume(str(entry))
    if folder.quantity == "depth":
        raise ConfigError(f"{entry} is a volume of disparity, not depth; leave ?quantity=depth out")
    if folder.result not in volume.results:
        raise ConfigError(f"{entry} has no result {folder.result!r}, only {', '.join(volume.results)}")
    stamp = (entry / VOLUME_FILE).stat().st_mtime_ns
    return VolumeMaps(volume, folder.result, _volume_digest(str(entry), folder.result, stamp))


def write_maps(arrays_folder: Path, folder: DepthFolder, video: VideoRef | None, pictures: FrameArtifact) -> None:
    """Write the maps of a video as its initial disparity, at the size of its frames.

    Raises:
        DecodeError: not one map per frame, or a damaged one.
    """
    source = maps_of(folder, video)
    check_count(source.count, pictures.frames, pictures.source.get("frames"), f"folder:{folder.path}")
    digest = f"{folder.digest}:{source.digest}"
    size = (pictures.width, pictures.height)
    spec = ArraySpec(shape=(pictures.frames, pictures.height, pictures.width), dtype="float32")
    with write_arrays(arrays_folder, {"initial": spec}, {"predictor": digest}) as arrays:
        for index, disparity in zip(range(pictures.frames), source.maps(), strict=False):
            arrays.write("initial", index, resize_map(disparity, size)[None])


def check_one_video(name: str, videos: Sequence[VideoRef]) -> None:
    """Refuse to give the maps of one video to several.

    Raises:
        ConfigError: ``folder:PATH`` is one video's maps, and more than one video would take them.
    """
    predictor = workers.predictor(name)
    if not isinstance(predictor, DepthFolder) or len(videos) < 2:
        return
    takers = [video.name for video in videos if predictor.locate(video.name, video.video_id) == predictor.path]
    if len(takers) > 1:
        raise ConfigError(
            f"folder:{predictor.path} holds the maps of one video, but {len(takers)} would take them "
            f"({', '.join(takers[:3])}, ...); put the maps of each into an entry with the video's name"
        )


@lru_cache(maxsize=4096)
def _volume_digest(entry: str, result: str, stamp: int) -> str:
    return open_volume(entry).digest(result)
