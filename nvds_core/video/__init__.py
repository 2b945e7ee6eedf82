"""Videos in and out: probe, stream frames, find cuts, write previews. Needs PyAV and PySceneDetect."""

from nvds_core.video.cuts import CutConfig, CutDetector
from nvds_core.video.folders import frame_folder, lone_picture, resolve_folder
from nvds_core.video.info import (
    FOLDER_FPS,
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    MAX_SIDE,
    VIDEO_SUFFIXES,
    Frame,
    VideoInfo,
    is_video_name,
)
from nvds_core.video.reader import VideoReader, content_digest, open_video, probe
from nvds_core.video.writer import write_h264, write_png16

__all__ = [
    "FOLDER_FPS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "VIDEO_SUFFIXES",
    "CutConfig",
    "CutDetector",
    "Frame",
    "VideoInfo",
    "VideoReader",
    "content_digest",
    "frame_folder",
    "is_video_name",
    "lone_picture",
    "open_video",
    "probe",
    "resolve_folder",
    "write_h264",
    "write_png16",
]
