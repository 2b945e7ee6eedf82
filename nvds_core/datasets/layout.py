"""What the readers of folders share: listing, the choice of frames, errors that say what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nvds_core.types import ConfigError

Item = TypeVar("Item")
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Options:
    """What stands behind the ``?`` of a data set, and which frames are taken: start, start + stride, ...

    Attributes:
        frames: at most so many of each video; None for the set's own number.
        values: other options by name.
    """

    frames: int | None = None
    values: Mapping[str, str] | None = None

    def get(self, name: str, default: str, allowed: Sequence[str] = ()) -> str:
        """A further option.

        Raises:
            ConfigError: a value that is not allowed.
        """
        value = (self.values or {}).get(name, default)
        if allowed and value not in allowed:
            raise ConfigError(f"{name}={value} is unknown; take one of {', '.join(allowed)}")
        return value

    def chosen(self, items: Sequence[Item], *, most: int | None = None, start: int = 0, stride: int = 1) -> list[Item]:
        """The frames to take: `frames` of the user, or the set's own `most`."""
        return list(items[start::stride][: self.frames or most])


def no_layout(kind: str, place: Path, expected: str) -> ConfigError:
    """The error for a folder that is not laid out like a set."""
    return ConfigError(f"{place}: not laid out as {kind}; expected {expected} (docs/datasets.md)", reason="dataset")


def folders(place: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones left out.

    Raises:
        ConfigError: reason ``dataset``: there is no such folder.
    """
    if not place.is_dir():
        raise ConfigError(f"{place}: no such folder; give the place of the data set", reason="dataset")
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def pictures(folder: Path, suffixes: Iterable[str] = PICTURES) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return sorted(found, key=_numbers_in_name)


def _numbers_in_name(path: Path) -> tuple[list[tuple[int, str]], str]:
    return [(int(number), "") for number in re.findall(r"\d+", path.stem)], path.name
