"""NVDS and pseudo-reference-depth optimisation as a pure library: torch, timm, numpy and OpenCV only."""

from nvds_core import metrics, tto
from nvds_core.checkpoints import load_state
from nvds_core.flow.warp import flow_warp, occlusion_masks
from nvds_core.models import create_model
from nvds_core.predictors.transforms import preprocess
from nvds_core.stabilization.inference import stabilize_video
from nvds_core.types import ConfigError, CoreError, DecodeError, PoseError, ShapeError, WeightsError

__all__ = [
    "ConfigError",
    "CoreError",
    "DecodeError",
    "PoseError",
    "ShapeError",
    "WeightsError",
    "create_model",
    "flow_warp",
    "load_state",
    "metrics",
    "occlusion_masks",
    "preprocess",
    "stabilize_video",
    "tto",
]
