"""Steadiness (OPW, TAE, drift) and accuracy of depth videos."""

from __future__ import annotations

from nvds_core.metrics.alignment import VideoErrors, aligned_depth, least_squares_fit, video_errors
from nvds_core.metrics.drift import DriftCurve, drift_curve
from nvds_core.metrics.opw import OpwAccumulator, OpwResult, join_opw, occluded_in_later, opw_error, opw_video
from nvds_core.metrics.published import FrameErrors, mean_errors, nyu_errors, vdw_errors
from nvds_core.metrics.reprojection import TaeResult, tae

__all__ = [
    "DriftCurve",
    "FrameErrors",
    "OpwAccumulator",
    "OpwResult",
    "TaeResult",
    "VideoErrors",
    "aligned_depth",
    "drift_curve",
    "join_opw",
    "least_squares_fit",
    "mean_errors",
    "nyu_errors",
    "occluded_in_later",
    "opw_error",
    "opw_video",
    "tae",
    "vdw_errors",
    "video_errors",
]
