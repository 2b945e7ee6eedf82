"""Reading depth maps in OpenEXR: scan lines, uncompressed or zlib, one channel of half, float or integer samples.

Builds of OpenCV differ in whether they read EXR at all (the wheel of 5.0 does not, that of 4 only with a variable set
before the import), and these few pages of the format (openexr.com, "OpenEXR File Layout") are all that depth maps need.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nvds_core.types import DecodeError

MAGIC: Final = b"\x76\x2f\x31\x01"
SAMPLE_TYPES: Final = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
COMPRESSIONS: Final = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
CHUNK_LINES: Final = {"NONE": 1, "ZIPS": 1, "ZIP": 16}
TILED, DEEP, MULTIPART = 0x200, 0x800, 0x1000
DEPTH_CHANNELS: Final = ("Z", "depth", "disparity", "Y", "V", "R")  # of several, the first of these
LARGEST_SIDE: Final = 65536


@dataclass(frozen=True)
class Header:
    """Channels by name in the order of storage, size, compression, and where the chunk table begins."""

    channels: dict[str, np.dtype]
    width: int
    height: int
    top: int
    compression: str
    table: int


def read_exr(data: bytes, name: str) -> NDArray[np.float32]:
    """The depth channel of an EXR file as float32 [h, w].

    Args:
        data: the file's bytes.
        name: what to call it in errors.

    Raises:
        DecodeError: damaged, or a form of EXR that depth maps hardly come in; says how to write it instead.
    """
    try:
        header = _header(data, name)
        return _pixels(data, header, _depth_channel(header, name), name)
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        raise DecodeError(f"{name}: damaged or cut off EXR ({error}); write it again") from error


def _header(data: bytes, name: str) -> Header:
    if data[:4] != MAGIC:
        raise DecodeError(f"{name}: not an EXR file; give it the suffix of its format")
    flags = struct.unpack_from("<I", data, 4)[0]
    if flags & (TILED | DEEP | MULTIPART):
        raise DecodeError(f"{name}: tiled, deep or multi-part EXR is not read; write one part in scan lines")
    found: dict[str, bytes] = {}
    place = 8
    while data[place] != 0:
        attribute, place = _text(data, place)
        _, place = _text(data, place)
        (size,) = struct.unpack_from("<i", data, place)
        found[attribute] = data[place + 4 : place + 4 + size]
        place += 4 + size
    for attribute in ("channels", "dataWindow", "compression"):
        if attribute not in found:
            raise ValueError(f"no {attribute}")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise ValueError(f"{width}x{height} pixels")
    compression = COMPRESSIONS[found["compression"][0]]
    if compression not in CHUNK_LINES:
        raise DecodeError(f"{name}: EXR compression {compression} is not read; write it with ZIP, ZIPS or none")
    return Header(_channels(found["channels"], name), width, height, top, compression, place + 1)


def _channels(data: bytes, name: str) -> dict[str, np.dtype]:
    channels: dict[str, np.dtype] = {}
    place = 0
    while data[place] != 0:
        channel, place = _text(data, place)
        kind, _, step_x, step_y = struct.unpack_from("<iiii", data, place)
        if (step_x, step_y) != (1, 1):
            raise DecodeError(f"{name}: channel {channel} is stored at a lower resolution; write it at full size")
        channels[channel] = SAMPLE_TYPES[kind]
        place += 16
    return channels


def _text(data: bytes, place: int) -> tuple[str, int]:
    end = data.index(b"\0", place)
    return data[place:end].decode("utf-8", "replace"), end + 1


def _depth_channel(header: Header, name: str) -> str:
    if len(header.channels) == 1:
        return next(iter(header.channels))
    for channel in DEPTH_CHANNELS:
        if channel in header.channels:
            return channel
    raise DecodeError(f"{name}: none of the channels {', '.join(header.channels)} is called Z; write depth alone")


def _pixels(data: bytes, header: Header, wanted: str, name: str) -> NDArray[np.float32]:
    before = 0  # bytes of a line that other channels take first
    for channel, kind in header.channels.items():
        if channel == wanted:
            break
        before += kind.itemsize * header.width
    kind = header.channels[wanted]
    line_bytes = header.width * sum(kind.itemsize for kind in header.channels.values())
    lines = CHUNK_LINES[header.compression]
    chunks = -(-header.height // lines)
    values = np.empty((header.height, header.width), np.float32)
    for place in struct.unpack_from(f"<{chunks}Q", data, header.table):
        y, size = struct.unpack_from("<ii", data, place)
        first = y - header.top
        count = min(lines, header.height - first)
        if first < 0 or first % lines or count < 1 or place + 8 + size > len(data):
            raise ValueError(f"chunk at line {y}")
        raw = _unpacked(data[place + 8 : place + 8 + size], count * line_bytes, header.compression)
        block = np.frombuffer(raw, np.uint8).reshape(count, line_bytes)[
            :, before : before + kind.itemsize * header.width
        ]
        values[first : first + count] = np.ascontiguousarray(block).view(kind)
    return values


def _unpacked(chunk: bytes, size: int, compression: str) -> bytes:
    if compression == "NONE" or len(chunk) == size:  # what zlib would not shrink is stored as it is
        return chunk
    stream = zlib.decompressobj()
    packed = np.frombuffer(stream.decompress(chunk, size), np.uint8)
    if packed.size != size:
        raise ValueError(f"{packed.size} bytes in a chunk of {size}")
    # bytes are stored as differences (plus 128) of a sequence that holds the even ones first, then the odd ones
    steps = packed.astype(np.int64)
    steps[1:] -= 128
    split = (np.cumsum(steps) % 256).astype(np.uint8)
    joined = np.empty(size, np.uint8)
    half = (size + 1) // 2
    joined[0::2], joined[1::2] = split[:half], split[half:]
    return joined.tobytes()
