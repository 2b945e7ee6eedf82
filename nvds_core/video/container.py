"""Video files through PyAV: open safely, decode in order, and notice when a file ends too early.

FFmpeg stops without an error where a file was cut off, so the decoded count is always compared with the container's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from nvds_core.types import DecodeError
from nvds_core.video.info import Frame, VideoInfo, check_size
from nvds_core.video.picture import orientation, picture_warnings, upright
from nvds_core.video.timing import FrameClock

TOLERATED_FRAMES, TOLERATED_SHARE = 2, 0.01  # edit lists and B-frame starts lose a frame or two legitimately
# Demuxers that follow references into other files, or paint text: no video files in our sense.
REFUSED_FORMATS = frozenset({"hls", "concat", "dash", "imf", "tty", "image2", "lavfi", "sdp", "rtsp", "ffmetadata"})
# Their length stands in a header, so it can be held against what was found; others guess it from the file's size.
HEADER_DURATION_FORMATS = frozenset({"mov", "matroska", "flv", "asf"})
SIGNATURES = {b"ftyp": 4, b"moov": 4, b"RIFF": 0, b"\x1aE\xdf\xa3": 0}  # mp4/mov, mp4/mov, avi, mkv/webm


class FileSource:
    """One open video file: `info`, `warnings`, and `frames()` once, in presentation order."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.name = str(path)
        self.warnings: list[str] = []
        self._container = open_container(path)
        try:
            self._stream = pick_stream(self._container, self.name)
            self._stream.codec_context.thread_count = threads
            self._format = self._container.format.name.split(",")[0]
            self._claim_s = claimed_duration(self._container, self._stream)
            # Needed only where the length speaks of the longest stream, which may be the sound.
            self._demuxed = (
                [self._stream, *self._container.streams.audio] if self._format == "matroska" else [self._stream]
            )
            self._end_s, self._fault, self._shown_packets = 0.0, "", 0
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                self._check_end(0)
                raise DecodeError(f"{self.name}: the video stream holds no frame; export it again", reason="empty")
            self.info = self._describe(self._first)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. PyAV crashes the process if a stream is touched after this, so nothing else may."""
        if hasattr(self, "_frames"):
            self._frames.close()
        self._container.close()

    def frames(self) -> Iterator[Frame]:
        """Frames with rotation applied.

        Raises:
            DecodeError: reason "decode" for damage, "truncated" when the file ends before its claim.
        """
        clock, shape, count = FrameClock(self.info.fps, float(self._stream.time_base or 0)), None, 0
        picture: av.VideoFrame | None = self._first
        self._first = None
        while picture is not None:
            rgb = upright(picture, self.info.rotation, self.info.mirrored)
            shape = shape or rgb.shape
            if rgb.shape != shape:
                raise DecodeError(
                    f"{self.name}: frame {count} is {rgb.shape[1]}x{rgb.shape[0]} after {shape[1]}x{shape[0]}; "
                    "re-encode the video at one size or split it there"
                )
            yield Frame(count, clock.tick(picture.pts, picture.time_base), rgb)
            count += 1
            picture = next(self._frames, None)
        self._check_end(count)
        if self._fault:
            raise DecodeError(f"{self.name}: reading failed after {count} frames ({self._fault}); copy the file again")
        self.warnings += clock.warnings
        self.info = replace(self.info, variable_frame_rate=clock.variable)

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        """Good pictures in presentation order; stops at a damaged end, raises at damage before the end."""
        count, packets = 0, self._packets()
        for packet in packets:
            pictures, fault = decode_packet(packet)
            for picture in pictures:
                yield picture
                count += 1
            if fault:
                if any(later.size for later in packets):
                    raise DecodeError(
                        f"{self.name}: damaged at frame {count} ({fault}); copy the file again or cut it before there"
                    )
                self.warnings.append(f"the last part is damaged ({fault}) and was left out")
                yield from decode_packet(None, self._stream)[0]
                return

    def _packets(self) -> Iterator[av.Packet]:
        """Packets of the picture stream, while noting how far all demuxed streams reach."""
        try:
            for packet in self._container.demux(self._demuxed):
                if packet.pts is not None and packet.time_base:
                    self._end_s = max(self._end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index == self._stream.index:
                    self._shown_packets += bool(packet.size and not packet.is_discard)
                    yield packet
        except av.error.FFmpegError as error:
            self._fault = error.strerror or "read error"  # judged at the end: often the file is just cut off

    def _check_end(self, count: int) -> None:
        """Compare what was decoded with what the container claims."""
        fps, claim = self._fps(), self._stream.frames
        lost_by_time = ((self._claim_s or 0.0) - self._end_s) * fps if self._claim_s else 0.0
        expected = claim or round((self._claim_s or 0.0) * fps)
        lost = float(claim - count) if claim else lost_by_time
        tolerated = max(TOLERATED_FRAMES, TOLERATED_SHARE * expected)
        if lost <= tolerated and (count or not expected):
            if lost >= 1:
                self.warnings.append(f"{count} frames decoded where the container claims {expected}")
            return
        # An edit list hides stored frames: the count falls short, but every packet to be shown gave its frame and the
        # shown time is all there.
        decoded_all = count > 0 and self._shown_packets - count <= tolerated
        if claim and self._claim_s and decoded_all and lost_by_time <= tolerated:
            self.warnings.append(f"{count} of {claim} stored frames are shown; the rest is cut away by an edit list")
            return
        about = "" if claim else "about "
        raise DecodeError(
            f"{self.name}: only {count} of {about}{expected} frames could be decoded; "
            "the file was cut off or damaged: copy it again, or re-encode what is there",
            reason="truncated",
        )

    def _fps(self) -> float:
        return float(self._stream.average_rate or self._stream.guessed_rate or 0.0)

    def _describe(self, picture: av.VideoFrame) -> VideoInfo:
        stream = self._stream
        width, height = picture.width, picture.height
        rotation, mirrored = orientation(picture)
        self.warnings += picture_warnings(picture, stream)
        if rotation in (90, 270):
            width, height = height, width
        own = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        return VideoInfo(
            kind="file",
            frames=stream.frames or None,
            width=width,
            height=height,
            fps=self._fps(),
            duration_s=own or self._claim_s or (self._container.duration or 0) / av.time_base or None,
            rotation=rotation,
            codec=stream.codec_context.name,
            pixel_format=picture.format.name,
            mirrored=mirrored,
        )


def open_container(path: Path) -> Any:
    """Open a regular file for demuxing; only local bytes are read, whatever the file says inside."""
    try:
        # The prefix keeps names such as "a:b.mp4" from being taken for a protocol.
        container = av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        head = read_head(path)
        if any(head[at : at + len(mark)] == mark for mark, at in SIGNATURES.items()):
            text = (
                f"{path}: starts like a video but cannot be opened ({error.strerror}): the file was cut off or damaged"
            )
            raise DecodeError(f"{text}; copy it again or finish the recording") from error
        raise DecodeError(
            f"{path}: not a video FFmpeg can read ({error.strerror}); check what the file really is",
            reason="not_a_video",
        ) from error
    names = set(container.format.name.split(","))
    if names & REFUSED_FORMATS or container.format.name.endswith("_pipe"):
        container.close()
        kind = "a single picture" if container_is_picture(names) else "a playlist or text"
        raise DecodeError(
            f"{path}: {kind}, not a video; give a video file or a folder of numbered frames", reason="not_a_video"
        )
    return container


def read_head(path: Path) -> bytes:
    """The first bytes of a file, in which containers carry their signature."""
    try:
        with path.open("rb") as stream:
            return stream.read(12)
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read ({error.strerror})", reason="unreadable") from error


def container_is_picture(names: set[str]) -> bool:
    """Whether FFmpeg's format names mean one still picture."""
    return any(name.endswith("_pipe") or name == "image2" for name in names)


def pick_stream(container: Any, name: str) -> Any:
    """The main picture stream; cover art of music files does not count."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise DecodeError(f"{name}: no video stream (it holds {kinds}); leave it out", reason="no_video_stream")
    stream = next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])
    if stream.codec_context is None:
        raise DecodeError(f"{name}: this FFmpeg has no decoder for its codec; re-encode it as h264")
    if stream.codec_context.width:
        check_size(name, stream.codec_context.width, stream.codec_context.height)
    return stream


def claimed_duration(container: Any, stream: Any) -> float | None:
    """Seconds the container's header promises for the picture stream, None where no header does."""
    if container.format.name.split(",")[0] not in HEADER_DURATION_FORMATS:
        return None
    if stream.duration and stream.time_base:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska, as FFmpeg and mkvmerge write it: HH:MM:SS.nnnnnnnnn
    parts = tag.split(":")
    if len(parts) == 3 and all(part.replace(".", "", 1).isdigit() for part in parts):
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2])
    return container.duration / av.time_base if container.duration else None


def decode_packet(packet: Any, stream: Any = None) -> tuple[list[Any], str]:
    """Decode one packet (None flushes `stream`): the good pictures before any damage, and the damage in words."""
    try:
        pictures = packet.decode() if packet is not None else stream.codec_context.decode(None)
    except av.error.FFmpegError as error:
        return [], error.strerror or "invalid data"
    good: list[Any] = []
    for picture in pictures:
        if picture.is_corrupt:
            return good, "the decoder marks the picture as corrupt"
        good.append(picture)
    if packet is not None and packet.is_corrupt:
        return good[:-1], "the packet is incomplete"
    return good, ""
