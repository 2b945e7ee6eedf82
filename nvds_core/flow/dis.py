"""Dense inverse search flow (Kroeger et al., ECCV 2016) as built into OpenCV: no weights, runs on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from nvds_core.flow.base import FloatArray, check_frame_pair
from nvds_core.types import ConfigError

PRESETS: Final[dict[str, int]] = {
    "dis": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "dis-fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "dis-ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}
DIS_VERSION: Final = 1  # raise when the preparation of frames below changes

# OpenCV picks its pyramid from the longer side when the shorter one is under 32 pixels.  Seen with 5.0.0:
# 8x200 gave NaN, 12x300 crashed the process.  From 32 pixels up every level holds a whole 8x8 patch.
SMALLEST_SIDE: Final = 32


@dataclass(frozen=True)
class DisFlow:
    """OpenCV's DIS flow with one of its presets; see `FlowEstimator` for shapes and units.

    It holds no buffers, so one object serves any number of threads and can be sent to a worker process.
    The result does not depend on OpenCV's thread count.  Frames with a side under 32 pixels are continued
    with their border pixels for the computation.
    """

    name: str = "dis"

    def __post_init__(self) -> None:
        if self.name not in PRESETS:
            raise ConfigError(f'no DIS preset "{self.name}"; choose one of: {", ".join(PRESETS)}')

    @property
    def digest(self) -> str:
        return f"{self.name}:v{DIS_VERSION}:opencv-{cv2.__version__}"

    def estimate(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Return ``(to_previous, to_next)``, each ``[2, h, w]`` float32 pixels.

        Raises:
            ShapeError: the frames are not ``[h, w, 3]`` of one size.
        """
        check_frame_pair(previous_rgb, current_rgb)
        previous_grey, current_grey = to_grey(previous_rgb), to_grey(current_rgb)
        return self._flow(current_grey, previous_grey), self._flow(previous_grey, current_grey)

    def estimate_to_previous(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> FloatArray:
        """Return ``to_previous`` alone; the same numbers as `estimate` gives."""
        check_frame_pair(previous_rgb, current_rgb)
        return self._flow(to_grey(current_rgb), to_grey(previous_rgb))

    def _flow(self, from_grey: np.ndarray, to_grey: np.ndarray) -> FloatArray:
        height, width = from_grey.shape
        # A new object per call: it keeps buffers between calls, and making one is lost in the noise.
        search = cv2.DISOpticalFlow.create(PRESETS[self.name])
        flow_hwc = search.calc(_grow(from_grey), _grow(to_grey), None)  # type: ignore[call-overload]
        return np.ascontiguousarray(flow_hwc[:height, :width].transpose(2, 0, 1), dtype=np.float32)


def dis(device: object) -> DisFlow:
    """OpenCV's medium preset; like all presets it computes on the CPU, whatever the device."""
    return DisFlow("dis")


def dis_fast(device: object) -> DisFlow:
    """OpenCV's fast preset."""
    return DisFlow("dis-fast")


def dis_ultrafast(device: object) -> DisFlow:
    """OpenCV's ultrafast preset."""
    return DisFlow("dis-ultrafast")


def to_grey(rgb: np.ndarray) -> np.ndarray:
    """Luma of an RGB frame ``[h, w, 3]`` in 0..255 as uint8 ``[h, w]``; overshoot is clipped, NaN becomes 0."""
    if rgb.dtype != np.uint8:
        rgb = np.clip(np.rint(np.nan_to_num(rgb)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)


def _grow(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape
    below, right = max(0, SMALLEST_SIDE - height), max(0, SMALLEST_SIDE - width)
    if below == 0 and right == 0:
        return grey
    return cv2.copyMakeBorder(grey, 0, below, 0, right, cv2.BORDER_REPLICATE)
