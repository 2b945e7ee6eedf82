"""The size at which a video is processed."""

from __future__ import annotations

from dataclasses import dataclass

from nvds_core.types import ConfigError


@dataclass(frozen=True)
class SizeConfig:
    """Either an exact inference size or a short side; None leaves the choice to the predictor."""

    width: int | None = None
    height: int | None = None
    short_side: int | None = None


def inference_size(source: tuple[int, int], config: SizeConfig, *, short_side: int, multiple: int) -> tuple[int, int]:
    """Width and height of the network input for a source of width and height ``source``.

    The aspect ratio is kept up to rounding to ``multiple``; an exact size must be a multiple already.

    Raises:
        ConfigError: an exact size that is incomplete or does not fit the networks.
    """
    if config.width is not None or config.height is not None:
        size = (config.width or 0, config.height or 0)
        if min(size) < 32 or size[0] % multiple or size[1] % multiple:
            raise ConfigError(f"size {size[0]}x{size[1]}: both sides must be multiples of {multiple}, at least 32")
        return size
    wanted = config.short_side or short_side
    if wanted < 32:
        raise ConfigError(f"short side {wanted}: at least 32 pixels are needed")
    scale = wanted / min(source)
    width, height = (max(32, multiple, round(side * scale / multiple) * multiple) for side in source)
    return width, height
