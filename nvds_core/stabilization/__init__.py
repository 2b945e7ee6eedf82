"""The NVDS network and the protocol that slides it over a video."""

from nvds_core.stabilization.inference import (
    StabilizedVideo,
    StableFrame,
    StreamingStabilizer,
    block_reach,
    prepare_frame,
    prepare_rgb,
    quantize_disparity,
    stabilize_blocks,
    stabilize_stream,
    stabilize_video,
)
from nvds_core.stabilization.network import NVDS, NVDS_TINY, NvdsConfig, NvdsNetwork

__all__ = [
    "NVDS",
    "NVDS_TINY",
    "NvdsConfig",
    "NvdsNetwork",
    "StabilizedVideo",
    "StableFrame",
    "StreamingStabilizer",
    "block_reach",
    "prepare_frame",
    "prepare_rgb",
    "quantize_disparity",
    "stabilize_blocks",
    "stabilize_stream",
    "stabilize_video",
]
