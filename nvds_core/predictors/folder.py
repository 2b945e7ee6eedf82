"""``folder:PATH``: bring your own depth. Not a network: maps that lie on a disk, looked up by the name of the video."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from nvds_core.predictors.depth_files import DepthMaps, is_series, open_files
from nvds_core.predictors.quantity import Quantity, quantity_option
from nvds_core.types import ConfigError, CoreError, DecodeError

VERSION: Final = 1  # raise when the same files would give other disparity
ENDINGS: Final = ("", ".npz", ".npy", ".zarr")  # of what may be called like a video; none is a folder
VOLUME_FILE: Final = "zarr.json"


class DepthFolder:
    """The maps of many videos below one folder, or of one video at the path itself.

    It has the attributes of a `Predictor`, so that a run can treat it as one until it needs maps: those come from
    `locate` and `open_files`, as a picture alone does not tell which map is its own. Zarr volumes are located here and
    read by the caller, as this library does not know Zarr.

    Args:
        path: a folder with an entry per video, named like the video (or its id): ``clip/``, ``clip.npz``, ``clip.npy``,
            a volume ``clip/`` or ``clip.zarr``, also below ``videos/`` as in an output of ours; or one such entry.
        device: not used.
        quantity: ``disparity`` or ``depth`` of whatever unit; empty: what the files say, else disparity.
        result: which result of a volume.

    Raises:
        ConfigError: no such path, or an unknown quantity.
    """

    name = "folder"
    short_side = 384  # the published protocol of NVDS; maps are resized to it
    multiple = 32

    def __init__(
        self, path: str, device: torch.device | str = "cpu", quantity: str = "", result: str = "initial"
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self.quantity: Quantity | None = quantity_option(f"folder:{path}", quantity) if quantity else None
        self.result = result
        if not self.path.exists():
            raise ConfigError(f"folder:{path}: no such local file or folder; check the path")
        self.digest = f"folder:{VERSION}:{self.quantity or 'as stored'}"

    def predict(self, unit_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """Raises CoreError: pictures do not tell which map is theirs."""
        raise CoreError(
            f"folder:{self.path} holds maps of videos; ask it for a video, not for pictures", reason="config"
        )

    def locate(self, video: str, video_id: str) -> Path:
        """The entry of a video, by its id, else by its name, else the path itself if it is one.

        Raises:
            DecodeError: reason ``no_maps``: there is none; reason ``maps``: more than one.
        """
        for stem in (video_id, video):
            found = [entry for entry in self._candidates(stem) if _is_entry(entry)]
            if len(found) > 1:
                names = " and ".join(str(entry) for entry in found)
                raise DecodeError(f'several maps for the video "{video}": {names}; leave one of them', reason="maps")
            if found:
                return found[0]
        if self.path.is_file() or is_volume(self.path) or is_series(self.path):
            return self.path
        wanted = ", ".join(f"{video}{ending or '/'}" for ending in ENDINGS)
        raise DecodeError(f'{self.path}: no maps for the video "{video}"; expected one of {wanted}', reason="no_maps")

    def open(self, entry: Path) -> DepthMaps:
        """The maps of an entry that is no volume; raises as `open_files`."""
        return open_files(entry, self.quantity)

    def _candidates(self, stem: str) -> list[Path]:
        if (
            self.path.is_file() or stem == ".." or Path(stem).name != stem
        ):  # a name such as ".." must not lead elsewhere
            return []
        return [base / f"{stem}{ending}" for base in (self.path, self.path / "videos") for ending in ENDINGS]


def is_volume(path: Path) -> bool:
    """Whether a path is a Zarr group, such as a volume of ours."""
    return (path / VOLUME_FILE).is_file()


def _is_entry(path: Path) -> bool:
    """Whether a path with one of the known endings is there: folders and volumes, or an array file."""
    return path.is_file() if path.suffix.lower() in (".npy", ".npz") else path.is_dir()


def check_count(found: int, frames: int, claimed: object, entry: str) -> None:
    """Refuse maps that are not one per frame.

    Args:
        found: number of maps.
        frames: frames of the video that are worked on.
        claimed: frames the source says it has; more than ``frames`` if the run takes only the first of them.
        entry: where the maps lie.

    Raises:
        DecodeError: reason ``maps``.
    """
    if found != frames and not (found == claimed and found > frames):
        raise DecodeError(
            f"{entry}: {found} maps for a video of {frames} frames; one map per frame is needed, in order",
            reason="maps",
        )
