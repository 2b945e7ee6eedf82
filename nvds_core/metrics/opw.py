"""OPW, the flow-warping error of NVDS (Wang et al., ICCV 2023): how much disparity flickers along the flow.

Two protocols.  ``nvds`` is the one of the released scripts, so figures can be set beside published ones: RGB in
0..255, no mask, sum over pairs divided by frames.  ``masked`` differs in three points only: pixels that are occluded,
come from outside the picture or hold no finite disparity count neither in the normalisation nor in the mean, colours
are compared in 0..1, and a video's figure is the mean over its pairs.  Say with every number: protocol, resolution and
flow method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvds_core.flow.warp import flow_warp
from nvds_core.metrics.opw_pairs import affine_normalize, colour_weight, lower_median, masked_opw_error, opw_error
from nvds_core.types import ConfigError, ShapeError

__all__ = [
    "OpwAccumulator",
    "OpwProtocol",
    "OpwResult",
    "affine_normalize",
    "colour_weight",
    "join_opw",
    "lower_median",
    "masked_opw_error",
    "occluded_in_later",
    "opw_error",
    "opw_video",
]

OpwProtocol = Literal["nvds", "masked"]

ALLOWED_SHARE: Final = 0.01  # of both flows' length, and pixels: GMFlow's test, as in `occlusion_masks`
ALLOWED_PIXELS: Final = 0.5

Array = np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class OpwResult:
    """OPW of one disparity sequence; lower is steadier.

    Attributes:
        pairs: float64 ``[n_pairs]``, one error per pair of neighbouring frames, in time order.
        n_frames: frames the pairs come from, the divisor of `mean` under protocol ``nvds``.
        protocol: by which definition the pairs were measured.
    """

    pairs: NDArray[np.float64]
    n_frames: int
    protocol: OpwProtocol = "nvds"

    @property
    def total(self) -> float:
        """Sum over the pairs."""
        return float(self.pairs.sum())

    @property
    def mean(self) -> float:
        """`total` divided by the number of FRAMES, as the release does; 0 for a single frame.

        Under ``masked`` the mean over the pairs that have a pixel to compare; NaN if there are pairs but none has.
        """
        if self.protocol == "nvds":
            return self.total / self.n_frames if self.n_frames else 0.0
        measured = self.pairs[np.isfinite(self.pairs)]
        return float(measured.mean()) if measured.size else (float("nan") if self.pairs.size else 0.0)


def join_opw(parts: Sequence[OpwResult]) -> OpwResult:
    """Put the scenes of a video together: their pairs in order, divided by all frames of the video."""
    pairs = [part.pairs for part in parts]
    protocols = {part.protocol for part in parts} or {"nvds"}
    if len(protocols) > 1:
        raise ConfigError(f"scenes measured by different OPW protocols ({', '.join(sorted(protocols))}); take one")
    joined = np.concatenate(pairs) if pairs else np.zeros(0)
    return OpwResult(joined, sum(part.n_frames for part in parts), protocols.pop())


def opw_video(
    rgb: Array,
    disparity: Array,
    flow: Array,
    *,
    protocol: OpwProtocol = "nvds",
    flow_to_next: Array | None = None,
    occluded: Array | None = None,
) -> OpwResult:
    """OPW of one scene.

    Args:
        rgb: ``[t, h, w, 3]`` or ``[t, 3, h, w]``, 0..255, any dtype.  The layout is read off the size of the
            disparity; where both fit (3 x 3 pixels) channels are taken to be last.
        disparity: ``[t, h, w]`` in any affine unit: scale and shift cancel per frame.
        flow: ``[t - 1, 2, h, w]`` pixels, x first; ``flow[i]`` leads from frame i + 1 back to frame i.
        protocol: ``nvds`` or ``masked``, see the head of this module.
        flow_to_next: for ``masked``: ``[t - 1, 2, h, w]``, ``[i]`` leads from frame i to i + 1; where the two do not
            lead back to the same place (`occlusion_masks`) a pixel counts as occluded.
        occluded: for ``masked``, instead of `flow_to_next`: bool ``[t - 1, h, w]``, true where the pixel of frame
            i + 1 is not seen in frame i.  With neither only what lies outside the picture is masked.

    Returns:
        ``t - 1`` pairs; a single frame has none and the mean 0.  A NaN in a frame makes its pairs NaN; under
        ``masked`` it is left out, and only a pair without any pixel is NaN.

    Raises:
        ShapeError: the arrays do not fit together.
        ConfigError: unknown protocol, or masks given to a protocol that has none.
    """
    if protocol == "nvds" and (flow_to_next is not None or occluded is not None):
        raise ConfigError('OPW protocol "nvds" has no mask; leave out flow_to_next and occluded, or take "masked"')
    n_frames = len(disparity)
    if len(rgb) != n_frames or len(flow) != max(n_frames - 1, 0):
        raise ShapeError(
            f"{n_frames} disparity frames need {n_frames} RGB frames and {max(n_frames - 1, 0)} flows, "
            f"got {len(rgb)} and {len(flow)}"
        )
    accumulator = OpwAccumulator(protocol=protocol)
    accumulator.push(rgb[0], disparity[0]) if n_frames else None
    for pair in range(n_frames - 1):
        hidden = None if occluded is None else occluded[pair]
        if flow_to_next is not None:
            hidden = occluded_in_later(flow[pair], flow_to_next[pair])
        accumulator.push(rgb[pair + 1], disparity[pair + 1], flow[pair], occluded=hidden)
    return accumulator.results()["disparity"]


def occluded_in_later(flow_to_previous: Array, flow_to_next: Array) -> Tensor:
    """Bool ``[h, w]``: pixels of the later frame that are not seen in the earlier one.

    One half of `nvds_core.flow_warp`'s companion `occlusion_masks`, with its limits, at half its cost.

    Args:
        flow_to_previous: ``[2, h, w]`` from the later frame to the earlier one.
        flow_to_next: ``[2, h, w]`` from the earlier frame to the later one.
    """
    later = _tensor(flow_to_previous)
    earlier = _tensor(flow_to_next).to(later.device)
    back = flow_warp(earlier[None], later[None])[0]
    allowed = ALLOWED_SHARE * (_length(earlier) + _length(later)) + ALLOWED_PIXELS
    return _length(later + back) > allowed


def _length(flow: Tensor) -> Tensor:
    return (flow[0] * flow[0] + flow[1] * flow[1]).sqrt_()


class OpwAccumulator:
    """OPW frame by frame, for several results of the same video at once; holds one frame only.

    The warped colours and the weight depend on the frames alone and are computed once for all results.
    """

    def __init__(self, names: Sequence[str] = ("disparity",), *, protocol: OpwProtocol = "nvds") -> None:
        """Names of the results, in the order in which `push` receives their maps; which definition they follow."""
        if protocol not in get_args(OpwProtocol):
            raise ConfigError(
                f'OPW protocol "{protocol}" is unknown; choose one of: {", ".join(get_args(OpwProtocol))}'
            )
        self.names = tuple(names)
        self.protocol = protocol
        self._previous: Tensor | None = None  # [3 + r, h, w]: colours, then one disparity per result
        self._pairs: list[NDArray[np.float64]] = []
        self._n_frames = 0

    def push(
        self,
        rgb: Array,
        disparity: Array | Mapping[str, Array],
        flow_to_previous: Array | None = None,
        *,
        occluded: Array | None = None,
    ) -> NDArray[np.float64] | None:
        """Take the next frame; return the error of the pair it closes, one number per result.

        Args:
            rgb: ``[h, w, 3]`` or ``[3, h, w]``, 0..255 (layout rule: see `opw_video`).
            disparity: ``[r, h, w]`` in the order of `names`, a mapping from name to ``[h, w]``, or ``[h, w]``
                for a single result.
            flow_to_previous: ``[2, h, w]`` from this frame to the one pushed before; None starts a new scene,
                which closes no pair.
            occluded: bool ``[h, w]``, pixels of this frame that are not seen in the one before (``masked`` only).

        Raises:
            ShapeError: sizes differ, the number of maps is not that of `names`, or there is a flow but no
                previous frame.
        """
        current = self._stack(rgb, disparity)
        errors = None
        if flow_to_previous is not None:
            errors = self._pair_errors(current, flow_to_previous, occluded)
            self._pairs.append(errors)
        self._previous = current
        self._n_frames += 1
        return errors

    def results(self) -> dict[str, OpwResult]:
        """What was pushed so far: by name, all scenes joined."""
        pairs = np.stack(self._pairs) if self._pairs else np.zeros((0, len(self.names)))
        return {name: OpwResult(pairs[:, i].copy(), self._n_frames, self.protocol) for i, name in enumerate(self.names)}

    def _stack(self, rgb: Array, disparity: Array | Mapping[str, Array]) -> Tensor:
        if isinstance(disparity, Mapping):
            maps = torch.stack([_tensor(disparity[name]) for name in self.names])
        else:
            maps = _tensor(disparity)
            maps = maps.unsqueeze(0) if maps.ndim == 2 else maps
        if maps.ndim != 3 or len(maps) != len(self.names):
            raise ShapeError(f"disparity {tuple(maps.shape)}: need one [h, w] map for each of {self.names}")
        return torch.cat((_channels_first(_tensor(rgb), maps.shape[1:]).to(maps.device), maps))

    def _pair_errors(self, current: Tensor, flow_to_previous: Array, occluded: Array | None) -> NDArray[np.float64]:
        if self._previous is None:
            raise ShapeError("the first frame has no previous one; push it with flow_to_previous=None")
        if self._previous.shape != current.shape:
            raise ShapeError(f"previous frame {tuple(self._previous.shape)} != current {tuple(current.shape)}")
        flow = _tensor(flow_to_previous).to(current.device)
        warped, inside = (part[0] for part in flow_warp(self._previous[None], flow[None], return_inside=True))
        frames = current[None, :3], warped[None, :3]
        if self.protocol == "nvds":
            errors = opw_error(current[3:], warped[3:], *frames)
        else:
            if occluded is not None:
                inside = inside & ~torch.as_tensor(occluded, dtype=torch.bool, device=inside.device)
            errors = masked_opw_error(current[3:], warped[3:], *frames, inside)
        return errors.cpu().numpy().astype(np.float64)


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
