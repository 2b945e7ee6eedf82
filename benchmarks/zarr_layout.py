"""Which Zarr layout for a depth volume? `python -m benchmarks.zarr_layout`

Writes and reads one synthetic video (smooth disparity that moves, plus noise) in several layouts, in one run on one
disk, and prints a table; the last rows are what `storage.VolumeWriter` does, verification included. Rates are MB of
decoded float32 disparity per second, coding included, so that rows of different types compare. The files are in the
page cache when read; a single frame includes opening the volume.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from storage.encoding import decode_uint16, encode_uint16
from storage.volumes import VolumeWriter, open_volume

BLOCK = 64  # frames per write, one storage shard
SINGLE_FRAMES = 25

Write = Callable[[Path, NDArray[np.float32]], None]
Read = Callable[[Path, int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """The figures of one layout (medians over the repeats)."""

    layout: str
    write_mb_s: float
    read_mb_s: float
    frame_ms: float
    files: int
    ratio: float
    worst_error: float


@dataclass(frozen=True)
class Layout:
    """uint16 codes in one Zarr array; zero `shard` means none."""

    chunk: int
    shard: int
    level: int = 1
    checksum: bool = True

    def __str__(self) -> str:
        shard = f", shard {self.shard}" if self.shard else ""
        return f"uint16 ({self.chunk},H,W){shard}, zstd{self.level}" + ("" if self.checksum else ", no crc")

    def write(self, folder: Path, video: NDArray[np.float32]) -> None:
        blosc = BloscCodec(cname="zstd", clevel=self.level, shuffle="shuffle")
        size = video.shape[1:]
        array = zarr.create_array(
            store=str(folder / "codes"),
            shape=video.shape,
            dtype="uint16",
            chunks=(self.chunk, *size),
            shards=(self.shard, *size) if self.shard else None,
            fill_value=0,
            compressors=[blosc, Crc32cCodec()] if self.checksum else [blosc],
            config={"write_empty_chunks": True},
        )
        affine = np.empty((2, len(video)))
        for start in range(0, len(video), BLOCK):
            codes, *affine[:, start : start + BLOCK] = encode_uint16(video[start : start + BLOCK])
            array[start : start + BLOCK] = codes
        np.save(folder / "affine.npy", affine)

    def read(self, folder: Path, start: int, stop: int) -> NDArray[np.float32]:
        codes = np.asarray(zarr.open_array(str(folder / "codes"), mode="r")[start:stop])
        offset, scale = np.load(folder / "affine.npy")[:, start:stop]
        return decode_uint16(codes.astype(np.uint16, copy=False), offset, scale)


def synthetic_video(frames: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Moving smooth disparity with noise of 0.1 % of its range, [t, h, w]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / width
    video = np.empty((frames, height, width), np.float32)
    for t in range(frames):
        smooth = np.sin(7 * x + t / 30) + np.cos(9 * y - t / 50) + 0.5 * (x + y > 0.8 + 0.2 * np.sin(t / 20))
        video[t] = smooth + rng.normal(scale=0.004, size=(height, width))
    return video


def measure(name: str, write: Write, read: Read, video: NDArray[np.float32]) -> Row:
    """Write and read `video` once, in a fresh folder."""
    megabytes = video.nbytes / 1e6
    spread = np.linspace(0, len(video) - 1, SINGLE_FRAMES).astype(int).tolist()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "volume"
        folder.mkdir()
        write_s = _seconds(lambda: write(folder, video))
        read_s = _seconds(lambda: _read_through(read, folder, len(video)))
        frame_s = _seconds(lambda: [read(folder, i, i + 1) for i in spread]) / SINGLE_FRAMES
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        error = max(np.abs(read(folder, i, i + 1)[0] - video[i]).max() / np.ptp(video[i]) for i in spread)
    ratio = video.nbytes / sum(sizes)
    return Row(name, megabytes / write_s, megabytes / read_s, 1e3 * frame_s, len(sizes), ratio, float(error))


def median(rows: Sequence[Row]) -> Row:
    """The row of the medians."""
    figures = [field.name for field in fields(Row) if field.name != "layout"]
    return replace(rows[0], **{name: statistics.median(getattr(row, name) for row in rows) for name in figures})


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _read_through(read: Read, folder: Path, frames: int) -> None:
    for start in range(0, frames, BLOCK):
        read(folder, start, min(start + BLOCK, frames))


def _write_volume(encoding: Any) -> Write:
    def write(folder: Path, video: NDArray[np.float32]) -> None:
        frames, height, width = video.shape
        with VolumeWriter(
            folder, results=["mix"], frames=frames, height=height, width=width, encoding=encoding
        ) as volume:
            for start in range(0, frames, BLOCK):
                volume.write("mix", start, video[start : start + BLOCK])

    return write


def _read_volume(folder: Path, start: int, stop: int) -> NDArray[np.float32]:
    return open_volume(folder).read("mix", start, stop)


def main() -> None:
    """Print the table, or JSON with the hardware and the versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="448x192", help="WxH")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    video = synthetic_video(arguments.frames, height, width)
    layouts = [
        Layout(1, 0),
        Layout(8, 0),
        Layout(1, 64),
        Layout(1, 64, checksum=False),
        Layout(8, 64),
        Layout(1, 64, 3),
    ]
    candidates: list[tuple[str, Write, Read]] = [(str(layout), layout.write, layout.read) for layout in layouts]
    candidates += [(f"VolumeWriter {kind}", _write_volume(kind), _read_volume) for kind in ("float16", "uint16")]
    # round by round, so that a busy moment of the machine does not fall on one layout alone
    rounds = [[measure(*candidate, video) for candidate in candidates] for _ in range(arguments.repeats)]
    rows = [median(repeats) for repeats in zip(*rounds, strict=True)]
    if arguments.json:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "zarr": zarr.__version__}
        print(json.dumps({**machine, "video": list(video.shape), "rows": [asdict(row) for row in rows]}))
        return
    print(f"{arguments.frames} frames of {arguments.size}, {video.nbytes / 1e6:.0f} MB as float32\n")
    print("| layout | write MB/s | read MB/s | one frame ms | files | float32 size / size | worst error / range |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        figures = f"{row.write_mb_s:.0f} | {row.read_mb_s:.0f} | {row.frame_ms:.1f} | {row.files:.0f} | {row.ratio:.2f}"
        print(f"| {row.layout} | {figures} | {row.worst_error:.1e} |")


if __name__ == "__main__":
    main()
