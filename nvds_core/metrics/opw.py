"""OPW, the flow-warping error of NVDS (Wang et al., ICCV 2023): how much disparity flickers along the flow.

The definition is the one of the released scripts, so figures can be set beside published ones.  Say with
every number: resolution, flow method, RGB range (0..255 here) and the divisor (frames, not pairs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.flow.warp import flow_warp
from nvds_core.types import ShapeError

COLOUR_SHARPNESS: Final = 50.0  # per squared grey level: a difference of a third of a level leaves 0.4 %
TABLE_FACTOR: Final = 10.0
SMALLEST_SPREAD: Final = 1e-6

Array = np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class OpwResult:
    """OPW of one disparity sequence; lower is steadier.

    Attributes:
        pairs: float64 ``[n_pairs]``, one error per pair of neighbouring frames, in time order.
        n_frames: frames the pairs come from, the divisor of `mean`.
    """

    pairs: NDArray[np.float64]
    n_frames: int

    @property
    def total(self) -> float:
        """Sum over the pairs."""
        return float(self.pairs.sum())

    @property
    def mean(self) -> float:
        """`total` divided by the number of FRAMES, as the release does; 0 for a single frame."""
        return self.total / self.n_frames if self.n_frames else 0.0


def join_opw(parts: Sequence[OpwResult]) -> OpwResult:
    """Put the scenes of a video together: their pairs in order, divided by all frames of the video."""
    pairs = [part.pairs for part in parts]
    return OpwResult(np.concatenate(pairs) if pairs else np.zeros(0), sum(part.n_frames for part in parts))


def opw_video(rgb: Array, disparity: Array, flow: Array) -> OpwResult:
    """OPW of one scene.

    Args:
        rgb: ``[t, h, w, 3]`` or ``[t, 3, h, w]``, 0..255, any dtype.  The layout is read off the size of the
            disparity; where both fit (3 x 3 pixels) channels are taken to be last.
        disparity: ``[t, h, w]`` in any affine unit: scale and shift cancel per frame.
        flow: ``[t - 1, 2, h, w]`` pixels, x first; ``flow[i]`` leads from frame i + 1 back to frame i.

    Returns:
        ``t - 1`` pairs; a single frame has none and the mean 0.  A NaN in a frame makes its pairs NaN.

    Raises:
        ShapeError: the three do not fit together.
    """
    n_frames = len(disparity)
    if len(rgb) != n_frames or len(flow) != max(n_frames - 1, 0):
        raise ShapeError(
            f"{n_frames} disparity frames need {n_frames} RGB frames and {max(n_frames - 1, 0)} flows, "
            f"got {len(rgb)} and {len(flow)}"
        )
    accumulator = OpwAccumulator()
    for index in range(n_frames):
        accumulator.push(rgb[index], disparity[index], flow[index - 1] if index else None)
    return accumulator.results()["disparity"]


class OpwAccumulator:
    """OPW frame by frame, for several results of the same video at once; holds one frame only.

    The warped colours and the weight depend on the frames alone and are computed once for all results.
    """

    def __init__(self, names: Sequence[str] = ("disparity",)) -> None:
        """Names of the results, in the order in which `push` receives their maps."""
        self.names = tuple(names)
        self._previous: Tensor | None = None  # [3 + r, h, w]: colours, then one disparity per result
        self._pairs: list[NDArray[np.float64]] = []
        self._n_frames = 0

    def push(
        self, rgb: Array, disparity: Array | Mapping[str, Array], flow_to_previous: Array | None = None
    ) -> NDArray[np.float64] | None:
        """Take the next frame; return the error of the pair it closes, one number per result.

        Args:
            rgb: ``[h, w, 3]`` or ``[3, h, w]``, 0..255 (layout rule: see `opw_video`).
            disparity: ``[r, h, w]`` in the order of `names`, a mapping from name to ``[h, w]``, or ``[h, w]``
                for a single result.
            flow_to_previous: ``[2, h, w]`` from this frame to the one pushed before; None starts a new scene,
                which closes no pair.

        Raises:
            ShapeError: sizes differ, the number of maps is not that of `names`, or there is a flow but no
                previous frame.
        """
        current = self._stack(rgb, disparity)
        errors = None
        if flow_to_previous is not None:
            errors = self._pair_errors(current, flow_to_previous)
            self._pairs.append(errors)
        self._previous = current
        self._n_frames += 1
        return errors

    def results(self) -> dict[str, OpwResult]:
        """What was pushed so far: by name, all scenes joined."""
        pairs = np.stack(self._pairs) if self._pairs else np.zeros((0, len(self.names)))
        return {name: OpwResult(pairs[:, i].copy(), self._n_frames) for i, name in enumerate(self.names)}

    def _stack(self, rgb: Array, disparity: Array | Mapping[str, Array]) -> Tensor:
        if isinstance(disparity, Mapping):
            maps = torch.stack([_tensor(disparity[name]) for name in self.names])
        else:
            maps = _tensor(disparity)
            maps = maps.unsqueeze(0) if maps.ndim == 2 else maps
        if maps.ndim != 3 or len(maps) != len(self.names):
            raise ShapeError(f"disparity {tuple(maps.shape)}: need one [h, w] map for each of {self.names}")
        return torch.cat((_channels_first(_tensor(rgb), maps.shape[1:]).to(maps.device), maps))

    def _pair_errors(self, current: Tensor, flow_to_previous: Array) -> NDArray[np.float64]:
        if self._previous is None:
            raise ShapeError("the first frame has no previous one; push it with flow_to_previous=None")
        if self._previous.shape != current.shape:
            raise ShapeError(f"previous frame {tuple(self._previous.shape)} != current {tuple(current.shape)}")
        flow = _tensor(flow_to_previous).to(current.device)
        warped = flow_warp(self._previous.unsqueeze(0), flow.unsqueeze(0))[0]
        errors = opw_error(current[3:], warped[3:], current[None, :3], warped[None, :3])
        return errors.cpu().numpy().astype(np.float64)


def opw_error(
    disparity_bhw: Tensor, warped_disparity_bhw: Tensor, frame_bchw: Tensor, warped_frame_bchw: Tensor
) -> Tensor:
    """Error of frame pairs whose previous frame is already warped into the current one.

    Both disparities are made affine-invariant by themselves, zeros from outside the image included.  Where
    colours disagree (occlusion, bad flow) the weight fades out; there is no mask.

    Args:
        disparity_bhw: the current frame, in any affine unit.
        warped_disparity_bhw: the previous frame, warped.
        frame_bchw: current RGB in 0..255; a batch of one serves several disparities of the same frame.
        warped_frame_bchw: previous RGB, warped likewise.

    Returns:
        One error per pair, ``[b]``.

    Raises:
        ShapeError: the maps, or the frames, differ in shape.
    """
    if disparity_bhw.shape != warped_disparity_bhw.shape:
        raise ShapeError(f"disparity {tuple(disparity_bhw.shape)} != warped {tuple(warped_disparity_bhw.shape)}")
    if frame_bchw.shape != warped_frame_bchw.shape:
        raise ShapeError(f"frame {tuple(frame_bchw.shape)} != warped {tuple(warped_frame_bchw.shape)}")
    gap_bhw = (affine_normalize(warped_disparity_bhw) - affine_normalize(disparity_bhw)).abs()
    return TABLE_FACTOR * (colour_weight(frame_bchw, warped_frame_bchw) * gap_bhw).mean(dim=(1, 2))


def affine_normalize(disparity_bhw: Tensor) -> Tensor:
    """Subtract each map's lower median and divide by its mean absolute deviation, at least 1e-6."""
    values_bn = disparity_bhw.flatten(1)
    centred_bn = values_bn - lower_median(values_bn).unsqueeze(1)
    spread_b = centred_bn.abs().mean(dim=1, keepdim=True).clamp_min(SMALLEST_SPREAD)
    return (centred_bn / spread_b).view_as(disparity_bhw)


def colour_weight(frame_bchw: Tensor, warped_frame_bchw: Tensor) -> Tensor:
    """Weight ``[b, h, w]`` in 0..3: the sum (as released, not the mean) over channels of exp(-50 d^2)."""
    return torch.exp(-COLOUR_SHARPNESS * (warped_frame_bchw - frame_bchw) ** 2).sum(dim=1)


def lower_median(values_bn: Tensor) -> Tensor:
    """The smaller of the two middle values of each row, ``[b]``, as torch.median defines it."""
    middle = (values_bn.shape[1] - 1) // 2
    if values_bn.device.type == "cpu" and not values_bn.requires_grad:
        # torch.median is the same number, twelve times slower on a CPU (eight maps of 192 x 448).
        return torch.from_numpy(np.partition(values_bn.numpy(), middle, axis=1)[:, middle].copy())
    return values_bn.median(dim=1).values


def _tensor(array: Array) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().float()
    values = np.ascontiguousarray(array, dtype=np.float32)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _channels_first(rgb: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(rgb.shape) == (*size, 3):
        return rgb.permute(2, 0, 1)
    if tuple(rgb.shape) == (3, *size):
        return rgb
    raise ShapeError(f"RGB {tuple(rgb.shape)} does not fit disparity {tuple(size)}; need [h, w, 3] or [3, h, w]")
