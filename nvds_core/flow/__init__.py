"""Optical flow behind one interface, and the warping and occlusion rules that go with it."""

from __future__ import annotations

from nvds_core.flow.base import FlowEstimator, create_flow, flow_names, register_flow
from nvds_core.flow.warp import flow_warp, occlusion_masks, pixel_grid

__all__ = [
    "FlowEstimator",
    "create_flow",
    "flow_names",
    "flow_warp",
    "occlusion_masks",
    "pixel_grid",
    "register_flow",
]
