"""Steadiness (OPW) and accuracy of depth videos."""

from __future__ import annotations

from nvds_core.metrics.alignment import VideoErrors, least_squares_fit, video_errors
from nvds_core.metrics.opw import OpwAccumulator, OpwResult, join_opw, opw_error, opw_video
from nvds_core.metrics.published import FrameErrors, mean_errors, nyu_errors, vdw_errors

__all__ = [
    "FrameErrors",
    "OpwAccumulator",
    "OpwResult",
    "VideoErrors",
    "join_opw",
    "least_squares_fit",
    "mean_errors",
    "nyu_errors",
    "opw_error",
    "opw_video",
    "vdw_errors",
    "video_errors",
]
