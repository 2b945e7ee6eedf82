"""How the published predictors see a picture: size rule, cubic resize, normalisation; and back to the frame's size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nvds_core.predictors.building import MULTIPLE
from nvds_core.types import ConfigError, ShapeError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

SizeRule = Literal["lower_bound", "upper_bound", "minimal"]


@dataclass(frozen=True)
class InputTransform:
    """What the scripts published with a model do to a picture.

    `rule` chooses the one scale of both axes when the aspect ratio is kept: of the scales that bring the height and the
    width to `net`, the larger (``lower_bound``), the smaller (``upper_bound``) or the one nearer to 1 (``minimal``).
    """

    net: int
    rule: SizeRule
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    keep_aspect: bool = True


# The script of the DPT repository runs MiDaS large with rule "minimal"; this is that of the MiDaS repository.
TRANSFORMS = {
    "midas-v21": InputTransform(384, "upper_bound", IMAGENET_MEAN, IMAGENET_STD),
    "midas-v21-small": InputTransform(256, "upper_bound", IMAGENET_MEAN, IMAGENET_STD),
    "dpt-large": InputTransform(384, "minimal", HALF, HALF),
    "dpt-hybrid": InputTransform(384, "minimal", HALF, HALF),
}


def network_size(height: int, width: int, transform: InputTransform) -> tuple[int, int]:
    """Height and width of the network input for a picture of height and width.

    Multiples of 32, rounded half to even, within the bound of the rule. Where the published rule gives 0, for very
    elongated pictures, which its scripts cannot resize, the axis becomes 32.
    """
    if min(height, width) < 1:
        raise ShapeError(f"a picture of {height}x{width} pixels has nothing to resize")
    by_height, by_width = transform.net / height, transform.net / width
    if transform.keep_aspect:
        by_height = by_width = _common_scale(by_height, by_width, transform.rule)
    return (
        _fitting(by_height * height, transform.net, transform.rule),
        _fitting(by_width * width, transform.net, transform.rule),
    )


def _common_scale(by_height: float, by_width: float, rule: SizeRule) -> float:
    if rule == "lower_bound":
        return max(by_height, by_width)
    if rule == "upper_bound":
        return min(by_height, by_width)
    return by_width if abs(1 - by_width) < abs(1 - by_height) else by_height


def _fitting(side: float, net: int, rule: SizeRule) -> int:
    multiple = round(side / MULTIPLE) * MULTIPLE
    if rule == "lower_bound" and multiple < net:
        multiple = ceil(side / MULTIPLE) * MULTIPLE
    if rule == "upper_bound" and multiple > net:
        multiple = floor(side / MULTIPLE) * MULTIPLE
    return max(MULTIPLE, multiple)


def preprocess(
    name: str,
    rgb_uint8: NDArray[np.uint8],
    *,
    net: int | None = None,
    rule: SizeRule | None = None,
    keep_aspect: bool | None = None,
) -> NDArray[np.float32]:
    """The network input of one picture, as the scripts published with a model prepare it.

    NVDS does not use this rule: it runs every predictor at the inference size (`nvds_core.predictors.published`).

    Args:
        name: ``midas-v21``, ``midas-v21-small``, ``dpt-large`` or ``dpt-hybrid``.
        rgb_uint8: [h,w,3] RGB in 0..255.
        net, rule, keep_aspect: replace the model's own `InputTransform` values.

    Returns:
        [3,H,W] with H and W by `network_size`; cubic without antialiasing and without clipping of its overshoot, then
        normalised. Add the batch axis for the model.

    Raises:
        ConfigError: no such model, or a value of an option that does not exist.
        ShapeError: another shape or type of picture.
    """
    if name not in TRANSFORMS:
        raise ConfigError(f"no input transform for model {name!r}; known: {', '.join(sorted(TRANSFORMS))}")
    options = {"net": net, "rule": rule, "keep_aspect": keep_aspect}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    transform = replace(TRANSFORMS[name], **given)
    if transform.rule not in ("lower_bound", "upper_bound", "minimal") or transform.net < MULTIPLE:
        raise ConfigError(
            f"size rule {transform.rule!r} with net {transform.net}: the rule is lower_bound, upper_bound or minimal, "
            f"net at least {MULTIPLE}"
        )
    if rgb_uint8.dtype != np.uint8 or rgb_uint8.ndim != 3 or rgb_uint8.shape[2] != 3:
        raise ShapeError(f"expected uint8 [h,w,3], got {rgb_uint8.dtype} {rgb_uint8.shape}")
    height, width = network_size(rgb_uint8.shape[0], rgb_uint8.shape[1], transform)
    # float64 throughout, like the published scripts; cv2 on float32 is off by 2e-7
    unit = np.asarray(cv2.resize(rgb_uint8 / 255.0, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)
    return normalize(unit, transform.mean, transform.std).transpose(2, 0, 1).copy()


def normalize(
    unit_rgb: NDArray[np.floating], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NDArray[np.float32]:
    """``(unit_rgb - mean) / std`` of pictures [...,3] in 0..1, computed in their own type, as float32."""
    return ((unit_rgb - np.asarray(mean)) / np.asarray(std)).astype(np.float32)


def to_frame_size(disparity: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps [h,w] or [n,h,w] at another size (H, W), cubic without antialiasing, as the published scripts return them.

    Like any cubic interpolation it overshoots at edges: values may leave the range of the input.

    Raises:
        ShapeError: not a map or maps, or an empty size.
    """
    if disparity.ndim not in (2, 3) or min(size) < 1:
        raise ShapeError(f"expected maps [h,w] or [n,h,w] and a size of at least 1x1, got {disparity.shape} and {size}")
    maps = torch.from_numpy(np.ascontiguousarray(disparity, dtype=np.float32))
    maps = maps.reshape(-1, 1, *disparity.shape[-2:])
    resized = F.interpolate(maps, tuple(size), mode="bicubic", align_corners=False)
    return resized.numpy().reshape(*disparity.shape[:-2], *size)
