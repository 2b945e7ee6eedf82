"""Groups of time-first Zarr arrays: written in order by one process, whole storage shards at a time.

The group's own ``zarr.json`` is written last. Until then the folder is not a Zarr group at all, so a broken-off
write cannot be opened: a missing storage shard would otherwise read as fill values without any error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from storage.columns import ArraySpec, Column
from storage.errors import StorageError, redact, translated
from storage.files import exists, read_json, write_json_atomic
from storage.urls import URL, is_local, join, local_path, storage_options


class ArrayWriter:
    """Writes the arrays of one group; made by `write_arrays`.

    `attributes` may be filled until the writer is closed. Leaving the ``with`` block normally closes it; leaving it
    by an exception does not, and the folder then cannot be opened.
    """

    def __init__(self, directory: URL, specs: Mapping[str, ArraySpec], attributes: Mapping[str, Any]) -> None:
        self.directory = local_path(directory)
        self.attributes: dict[str, Any] = dict(attributes)
        self._columns = {name: Column(self.directory / name, spec) for name, spec in specs.items()}
        with translated("create", self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        if exists(self.directory / "zarr.json"):
            raise StorageError(f"{self.directory} holds arrays already; write into a new folder", reason="format")

    def write(self, name: str, first: int, block: NDArray[Any]) -> None:
        """Append frames ``first .. first + len(block)`` to array `name`.

        Raises:
            StorageError: ``format`` if the block is out of order, too long or of another shape or kind;
                ``disk_full`` or ``read_only``.
        """
        if name not in self._columns:
            raise StorageError(f"no array {name!r} here, only {sorted(self._columns)}", reason="format")
        self._columns[name].append(first, block)

    def close(self) -> None:
        """Write what is buffered, verify that every array is whole, and make the group appear.

        Raises:
            StorageError: ``incomplete`` naming the array and both frame counts.
        """
        arrays = {}
        for name, column in self._columns.items():
            arrays[name] = column.finish()
        # the layout of zarr.consolidate_metadata, which warns and cannot write the attributes in the same breath
        consolidated = {"kind": "inline", "must_understand": False, "metadata": arrays}
        document = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": self.attributes,
            "consolidated_metadata": consolidated,
        }
        write_json_atomic(self.directory / "zarr.json", document)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


def write_arrays(directory: URL, specs: Mapping[str, ArraySpec], attributes: Mapping[str, Any]) -> ArrayWriter:
    """Begin a group of arrays in a local folder (see `ArrayWriter`); use as a context manager.

    Args:
        directory: local and without a group so far.
        specs: the arrays by name.
        attributes: JSON values that describe the group.
    """
    return ArrayWriter(directory, specs, attributes)


class ArrayReader:
    """Reads the arrays of one finished group, lazily; made by `open_arrays`."""

    def __init__(self, url: URL, group: zarr.Group) -> None:
        self.url = url
        self._group = group
        self._arrays: dict[str, zarr.Array[Any]] = dict(group.arrays())

    @property
    def attributes(self) -> dict[str, Any]:
        """The group's attributes."""
        return dict(self._group.attrs)

    @property
    def names(self) -> list[str]:
        """The arrays, sorted."""
        return sorted(self._arrays)

    def array(self, name: str) -> zarr.Array[Any]:
        """The Zarr array itself."""
        if name not in self._arrays:
            raise StorageError(f"{redact(self.url)} has no array {name!r}, only {self.names}", reason="format")
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """(frames, ...) of one array."""
        return tuple(self.array(name).shape)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Frames ``start .. stop`` (all by default) of one array.

        Raises:
            StorageError: ``format`` for frames that the array does not have or that are damaged.
        """
        array = self.array(name)
        frames = array.shape[0]
        stop = frames if stop is None else stop
        if not 0 <= start <= stop <= frames:
            raise StorageError(
                f"{redact(self.url)}: frames {start}..{stop} of {name!r}, which has {frames}", reason="format"
            )
        try:
            with translated("read", self.url):
                return np.asarray(array[start:stop])
        except (ValueError, RuntimeError, KeyError) as error:
            message = f"{redact(self.url)}: {name!r} is damaged ({redact(error)}); discard it and run again"
            raise StorageError(message, reason="format") from None


def open_arrays(directory: URL) -> ArrayReader:
    """Open a finished group in a local folder or at an fsspec URL.

    Raises:
        StorageError: ``absent`` if nothing is there, ``incomplete`` if it was never finished, ``format`` if it is
            something else or damaged.
    """
    try:
        document = read_json(join(directory, "zarr.json"))
    except StorageError as error:
        if error.reason == "absent" and exists(directory):
            message = f"{redact(directory)} was never finished; remove it and run again"
            raise StorageError(message, reason="incomplete") from None
        raise
    if not isinstance(document, dict) or "consolidated_metadata" not in document:
        raise StorageError(f"{redact(directory)} is no array group of ours", reason="format")
    try:
        with translated("open", directory):
            return ArrayReader(directory, zarr.open_group(zarr_store(directory), mode="r", use_consolidated=True))
    except (ValueError, KeyError, TypeError) as error:
        message = f"{redact(directory)} has damaged metadata ({redact(error)}); remove it and run again"
        raise StorageError(message, reason="format") from None


def zarr_store(url: URL) -> Any:
    """The read-only Zarr store of a local folder or fsspec URL."""
    if is_local(url):
        return zarr.storage.LocalStore(local_path(url), read_only=True)
    return zarr.storage.FsspecStore.from_url(str(url), storage_options=storage_options(url), read_only=True)
