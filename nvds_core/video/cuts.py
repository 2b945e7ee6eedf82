"""Shot cuts, frame by frame: PySceneDetect proposes, a motion-compensated comparison decides.

A colour difference alone takes hand-held footage and flashes for cuts. So a proposed cut only counts if the picture
before cannot be found again in the picture after, once motion is compensated and brightness is divided out. On the
footage in hand, neighbours of one scene match by 0.75 to 1.0 and pictures across a cut by less than 0.17.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from nvds_core.types import ConfigError, ShapeError

WIDTH = 160  # pixels of the pictures compared
PATCH = 9  # pixels; side of the window of the local correlation
TEXTURE_VARIANCE = 4.0  # grey levels squared; below, a patch is flat and its correlation is noise
TEXTURED_SHARE = 0.02  # of the picture; with less there is nothing to correlate
MIN_OVERLAP = 0.3  # of the picture; a match of less is chance
FLAT_CHANGE = 30.0  # grey levels between two flat pictures that make them different ones
PROPOSAL_FPS = 24.0  # PySceneDetect wants a rate for its time codes; it has no influence on the scores


@dataclass(frozen=True)
class CutConfig:
    """Settings of the cut detector.

    Attributes:
        enabled: False finds no cut.
        threshold: PySceneDetect's content score (0..255, mean change of hue, saturation and luma) that proposes a cut.
        max_match: two pictures that correlate less than this (-1..1) after motion compensation are different scenes.
        flash_frames: a disturbance of up to so many frames, with the same scene before and after, is no cut.
        min_scene_frames: a cut closer than this to the start of its scene is dropped.
    """

    enabled: bool = True
    threshold: float = 5.0
    max_match: float = 0.4
    flash_frames: int = 3
    min_scene_frames: int = 1

    def __post_init__(self) -> None:
        if self.flash_frames < 0 or self.min_scene_frames < 1:
            raise ConfigError(
                f"flash_frames must be 0 or more and min_scene_frames 1 or more, "
                f"not {self.flash_frames} and {self.min_scene_frames}"
            )


class CutDetector:
    """Finds the frames that start a new scene, in one pass and with a handful of small pictures in memory.

    Gradual transitions (fades, dissolves) are not cuts.
    """

    def __init__(self, config: CutConfig | None = None) -> None:
        self.config = config or CutConfig()
        # No minimum length there: its flash filter would delay proposals and drop short scenes.
        self._proposer = ContentDetector(threshold=self.config.threshold, min_scene_len=0)
        self._reach = self.config.flash_frames + 1
        self._recent: deque[tuple[int, NDArray[np.uint8]]] = deque(maxlen=2 * self._reach + 1)
        self._proposed: deque[int] = deque()
        self._cuts: list[int] = []
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._count = 0

    def push(self, rgb: NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 RGB [h, w, 3] of any size.

        Raises:
            ShapeError: another shape or type.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ShapeError(f"frame {self._count}: {rgb.dtype} {rgb.shape} is not uint8 [h, w, 3]")
        index, self._count = self._count, self._count + 1
        if not self.config.enabled:
            return
        height = max(16, round(rgb.shape[0] * WIDTH / rgb.shape[1]))
        small = cv2.resize(rgb, (WIDTH, min(height, 4 * WIDTH)), interpolation=cv2.INTER_AREA)
        self._recent.append((index, np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)))
        timecode = FrameTimecode(index, PROPOSAL_FPS)
        if self._proposer.process_frame(timecode, cv2.cvtColor(small, cv2.COLOR_RGB2BGR)) and index > 0:
            self._proposed.append(index)
        while self._proposed and index >= self._proposed[0] + self.config.flash_frames:
            self._decide(self._proposed.popleft())

    def finish(self) -> list[int]:
        """Sorted indices of the frames that start a new scene; 0 is never among them."""
        while self._proposed:
            self._decide(self._proposed.popleft())
        return list(self._cuts)

    def _decide(self, index: int) -> None:
        """Keep a proposed cut if nothing before it is found again after it."""
        scene_start = self._cuts[-1] if self._cuts else 0
        if index - scene_start < self.config.min_scene_frames:
            return
        near = dict(self._recent)
        if self._same(near, index - 1, index):
            return
        sides = [(a, b) for a, b in ((index - 2, index - 1), (index, index + 1)) if a in near and b in near]
        if sides and not any(self._same(near, a, b) for a, b in sides):
            return  # pictures that never resemble each other (noise, strobe light): no place is better than another
        pairs = [
            (before, after)
            for before in range(index - self._reach, index)
            for after in range(index, index + self._reach)
            if 1 < after - before <= self._reach and before >= scene_start and before in near and after in near
        ]
        if not any(self._same(near, before, after) for before, after in pairs):
            self._cuts.append(index)

    def _same(self, near: dict[int, NDArray[np.uint8]], first: int, second: int) -> bool:
        a, b = near[first], near[second]
        if match_score(a, b, self._flow, shift=(0.0, 0.0)) >= self.config.max_match:
            return True
        # The flow loses a pan of more than about a tenth of the picture per frame; a global shift finds it.
        return match_score(a, b, self._flow, shift=global_shift(a, b)) >= self.config.max_match


def global_shift(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[float, float]:
    """Translation in pixels (x, y) that takes the first picture to the second, by phase correlation."""
    height, width = first.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(first.astype(np.float32), second.astype(np.float32), window)
    return float(x), float(y)


def match_score(
    first: NDArray[np.uint8], second: NDArray[np.uint8], flow: cv2.DISOpticalFlow, *, shift: tuple[float, float]
) -> float:
    """How well one grey picture is found again in another of the same size: mean local correlation along the flow.

    Correlation of patches ignores brightness and contrast, so exposure changes keep a high score.

    Args:
        shift: pixels (x, y) from which the flow search starts.

    Returns:
        -1..1; 0 with too little overlap; flat pictures: 1 if about equally bright, else 0.
    """
    height, width = first.shape
    start = np.empty((height, width, 2), np.float32)
    start[:] = shift
    field = flow.calc(first, second, start)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + field[..., 0], rows + field[..., 1]
    warped = cv2.remap(second, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    a, b = first.astype(np.float32), warped.astype(np.float32)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a, variance_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if inside.mean() < MIN_OVERLAP:
        return 0.0
    textured = inside & ((variance_a > TEXTURE_VARIANCE) | (variance_b > TEXTURE_VARIANCE))
    if textured.mean() < TEXTURED_SHARE:
        return float(abs(float(first.mean()) - float(second.mean())) < FLAT_CHANGE)
    correlation = covariance / np.sqrt(np.maximum(variance_a, 1.0) * np.maximum(variance_b, 1.0))
    return float(np.clip(correlation[textured], -1.0, 1.0).mean())


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(values, (PATCH, PATCH)), np.float32)
