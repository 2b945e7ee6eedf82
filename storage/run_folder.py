"""An output folder in a notebook: its videos as a pandas frame, its volumes as lazy xarray datasets."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.arrays import zarr_store
from storage.encoding import decode_uint16
from storage.errors import StorageError, redact
from storage.settled import settled_videos
from storage.urls import URL, join
from storage.volumes import QUANTITY, open_volume

if TYPE_CHECKING:
    import pandas
    import xarray

CHUNK_FRAMES = 16  # of one Dask task: a volume of 896x384 costs 22 MB of float32 at a time
UNITS = {"t": "frame", "y": "pixel", "x": "pixel", "time": "s", "reference": "unit of the camera positions"}
_DIMENSIONS = ("t", "y", "x")
_OUTCOME = ("uri", "status", "reason", "step", "message", "frames", "width", "height", "seconds", "finished_at", "key")
_CATALOG = ("fps", "duration_s", "scenes", "bytes", "digest")


class RunFolder:
    """The results of an output folder; made by `open_run`. Nothing is read before it is asked for."""

    def __init__(self, root: URL) -> None:
        self.root = os.fspath(root)
        self._pandas, self._xarray = _library("pandas"), _library("xarray")
        self._videos: pandas.DataFrame | None = None

    @property
    def videos(self) -> pandas.DataFrame:
        """One row per video, failed ones too; the index is ``video_id``. Read once.

        Columns: ``uri``, ``status`` (done, failed), ``reason``, ``step`` and ``message`` of a failure, ``frames``,
        ``width`` and ``height`` [pixel] of the volume, ``seconds`` of work, ``finished_at`` (UTC), ``key``; of the
        source ``fps``, ``duration_s``, ``scenes``, ``bytes``, ``digest``; and ``opw_<result>``, where something was
        scored, with the ``protocol`` and ``flow`` it was measured with.

        Raises:
            StorageError: ``absent``: nothing was ever run into this folder.
        """
        if self._videos is None:
            rows = [_flat(row) for row in settled_videos(self.root)]
            known = dict.fromkeys(("video_id", *_OUTCOME, *_CATALOG))
            columns = list(known | dict.fromkeys(name for row in rows for name in row))
            self._videos = self._pandas.DataFrame(rows, columns=columns).set_index("video_id").convert_dtypes()
        assert self._videos is not None
        return self._videos

    def volume(self, video_id: str) -> xarray.Dataset:
        """The volume of one finished video: results as float32 ``(t, y, x)`` in Dask arrays that read when computed.

        Values are disparity, affine-invariant, near is large; NaN where invalid. ``reference`` and ``confidence`` of
        an optimised video come as they are stored. Coordinates: ``t`` (frame), ``y``, ``x`` (pixel), and along t
        ``time`` [s] and ``scene`` (0, 1, ... between cuts). Attributes: those of the volume. Units are in ``units``.

        Raises:
            StorageError: ``absent``, ``incomplete`` or ``format``; there is no such volume, or it is damaged.
        """
        url = join(self.root, "videos", video_id)
        stored = open_volume(url)
        raw = self._xarray.open_zarr(
            zarr_store(url), consolidated=True, chunks=None, mask_and_scale=False, decode_times=False
        )
        arrays = {}
        for name in stored.results:
            arrays[name] = self._decoded(raw, name) if stored.encoding == "uint16" else _chunked(raw[name])
            arrays[name] = arrays[name].astype(np.float32).assign_attrs(long_name=QUANTITY, units="1")
        for name, meaning in stored.attributes.get("further", {}).items():
            arrays[name] = _chunked(raw[name]).assign_attrs(long_name=meaning, units=UNITS.get(name, "1"))
        dataset = self._xarray.Dataset(arrays, attrs=stored.attributes)
        return dataset.assign_coords(self._coordinates(stored.shape, stored.time, stored.attributes.get("cuts", [])))

    def volumes(self) -> Iterator[tuple[str, xarray.Dataset]]:
        """(video id, volume) of every finished video, opened one after the other."""
        for video_id in self.videos.index[self.videos.status == "done"]:
            yield video_id, self.volume(video_id)

    def _decoded(self, raw: xarray.Dataset, name: str) -> xarray.DataArray:
        code = [_chunked(raw[part]) for part in (name, f"{name}_offset", f"{name}_scale")]
        decoded: xarray.DataArray = self._xarray.apply_ufunc(
            decode_uint16, *code, dask="parallelized", output_dtypes=[np.float32]
        )
        return decoded

    def _coordinates(self, shape: tuple[int, ...], time: Any, cuts: list[int]) -> dict[str, Any]:
        axes = dict(zip(_DIMENSIONS, shape, strict=True))
        found = {name: (name, np.arange(size), {"units": UNITS[name]}) for name, size in axes.items()}
        scene = np.searchsorted(cuts, np.arange(shape[0]), side="right")
        found["scene"] = ("t", scene, {"long_name": "frames between two cuts"})
        if time is not None:
            found["time"] = ("t", time, {"units": UNITS["time"], "long_name": "presentation time"})
        return found

    def __repr__(self) -> str:
        return f"RunFolder({redact(self.root)!r})"


def open_run(root: URL) -> RunFolder:
    """Open an output folder of ``nvds run``, local or at an fsspec URL, for reading in a notebook.

    Needs pandas and xarray, the extra ``notebook``.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder; ``library``: the extra is not installed.
    """
    run = RunFolder(root)
    assert run.videos is not None  # so that a wrong name is told here
    return run


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    scores = row["opw"]
    measured: dict[str, Any] = next(iter(scores.values()), {})
    return {
        "video_id": row["video_id"],
        **{name: row[name] for name in _OUTCOME},
        **{name: row["catalog"].get(name) for name in _CATALOG},
        **{f"opw_{name}": score["value"] for name, score in scores.items()},
        **{name: measured[name] for name in ("protocol", "flow") if measured},
    }


def _chunked(array: xarray.DataArray) -> xarray.DataArray:
    return array.chunk({"t": CHUNK_FRAMES})


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"open_run needs {name} ({error}); install it with: pip install 'nvds[notebook]'"
        raise StorageError(message, reason="library") from None
