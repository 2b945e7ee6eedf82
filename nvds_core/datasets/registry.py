"""From what the user names to a data set: ``KIND:PLACE?option=value``, or a folder whose layout tells the kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nvds_core.datasets.base import Dataset
from nvds_core.datasets.driving import read_kitti
from nvds_core.datasets.layout import Options
from nvds_core.datasets.rgbd import read_bonn, read_scannet, read_seven_scenes, read_tum
from nvds_core.datasets.sintel import read_sintel
from nvds_core.datasets.stills import read_davis, read_nyu, read_vdw
from nvds_core.datasets.synthetic import read_synthetic
from nvds_core.types import ConfigError


@dataclass(frozen=True)
class Kind:
    """A reader, the options it knows besides ``frames``, and by what its folders are told.

    One of the glob patterns `signs` must match below the folder, or the folder's own name begin with `prefix`.
    """

    read: Callable[[Path, Options], Dataset]
    options: tuple[str, ...]
    signs: tuple[str, ...]
    prefix: str | None = None

    def fits(self, place: Path) -> bool:
        """Whether a folder looks like this kind."""
        if self.prefix is not None and place.name.startswith(self.prefix):
            return True
        return any(next(place.glob(sign), None) is not None for sign in self.signs)


# In the order in which a folder is tried: what is told apart by little comes last.
KINDS: dict[str, Kind] = {
    "vdw": Kind(read_vdw, (), ("left_gt", "*/left_gt")),
    "sintel": Kind(read_sintel, ("pass",), ("training/depth", "depth/*/frame_0001.dpt")),
    "davis": Kind(read_davis, ("split", "size"), ("JPEGImages",)),
    "kitti": Kind(
        read_kitti, ("split",), ("data_depth_annotated", "*/*/proj_depth/groundtruth", "*/proj_depth/groundtruth")
    ),
    "bonn": Kind(read_bonn, (), ("rgbd_bonn_*/rgb.txt",), "rgbd_bonn_"),
    "tum": Kind(read_tum, (), ("rgb.txt", "*/rgb.txt")),
    "scannet": Kind(read_scannet, (), ("*/color/*.jpg",)),
    "nyu": Kind(read_nyu, (), ("*/gt/*.png",)),
    "7scenes": Kind(read_seven_scenes, ("split",), ("*.pose.txt", "seq-*/*.pose.txt", "*/seq-*/*.pose.txt")),
}
SYNTHETIC = "synthetic"


def open_dataset(spec: str, *, frames: int | None = None) -> Dataset:
    """A data set by its name.

    Args:
        spec: ``synthetic:900..907``, a folder, or ``KIND:FOLDER`` with a kind of `KINDS`; options behind a ``?``,
            joined by ``&``: ``frames=110``, and what the reader knows, such as ``sintel:PLACE?pass=clean``.
        frames: at most so many frames of each video, where the spec does not say.

    Raises:
        ConfigError: unknown kind, option or layout; reason ``dataset``.
    """
    place, options = _split(spec, frames)
    kind, colon, rest = place.partition(":")
    if colon and kind == SYNTHETIC:
        _check(spec, options, ("size",))
        return replace(read_synthetic(rest, options), place=rest.replace("..", "-"))
    if colon and kind in KINDS:
        place = rest
        if not Path(place).is_dir():
            raise ConfigError(f"{place}: no such folder; give the place of the data set", reason="dataset")
    elif Path(place).is_dir():
        kind = _kind_of(Path(place).absolute())
    else:
        known = ", ".join([SYNTHETIC, *KINDS])
        raise ConfigError(
            f"{spec}: no such folder, and no kind of data set before a colon; known: {known}", reason="dataset"
        )
    _check(spec, options, KINDS[kind].options)
    folder = Path(place).absolute()
    return replace(KINDS[kind].read(folder, options), place=folder.name)


def _split(spec: str, frames: int | None) -> tuple[str, Options]:
    place, _, query = spec.partition("?")
    values: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ConfigError(f"{spec}: {part!r} is no option; write name=value", reason="dataset")
        values[name] = value
    if "frames" in values:
        written = values.pop("frames")
        if not written.isdecimal() or int(written) < 1:
            raise ConfigError(f"{spec}: frames={written}; give a number of frames", reason="dataset")
        frames = int(written)
    return place, Options(frames, values)


def _check(spec: str, options: Options, known: tuple[str, ...]) -> None:
    unknown = sorted(set(options.values or ()) - set(known))
    if unknown:
        raise ConfigError(
            f"{spec}: unknown option {', '.join(unknown)}; known here: {', '.join(('frames', *known))}",
            reason="dataset",
        )


def _kind_of(place: Path) -> str:
    for name, kind in KINDS.items():
        if kind.fits(place):
            return name
    raise ConfigError(
        f"{place}: laid out like no data set that is known ({', '.join(KINDS)}); name its kind, as sintel:{place}, "
        "or see docs/datasets.md",
        reason="dataset",
    )
