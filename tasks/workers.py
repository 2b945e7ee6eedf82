"""Models of this process: loaded once, shared by all videos it works on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import cv2
import torch

from nvds_core.checkpoints import state_digest
from nvds_core.flow.base import FlowEstimator, create_flow
from nvds_core.memory import keep_freed_memory
from nvds_core.models import create_model
from nvds_core.predictors.base import Predictor, create_predictor
from nvds_core.stabilization import NvdsNetwork
from nvds_core.types import ConfigError
from tasks.memory import LimitsConfig

# Peak of DPT-Large in fp32 with some room; the smaller networks take less.
BYTES_PER_PIXEL = 4096

VIDEOS_AT_ONCE = 3  # one is decoded, one on the device, one scored and written

# Two threads that ask for a model at once must not load it twice.
_LOADING = threading.RLock()


_DEVICE_ALLOWED = threading.Event()
_DEVICE_ALLOWED.set()


@contextmanager
def on_cpu() -> Iterator[None]:
    """Load models to the CPU meanwhile: this process only plans, and the accelerators are for its workers."""
    _DEVICE_ALLOWED.clear()
    try:
        yield
    finally:
        _DEVICE_ALLOWED.set()


def share_cores() -> None:
    """Have OpenCV take as many threads as torch may, in a process that has others beside it."""
    cv2.setNumThreads(torch.get_num_threads())


def videos_at_once(limits: LimitsConfig) -> int:
    """How many videos of this process are under way at the same time.

    One where the networks run on several threads of a CPU. They are busy then, and the threads of each further video
    would start as many again: OpenMP lets its threads sleep between two layers as soon as there are more of them than
    cores, and has to wake them for every layer (docs/performance.md).
    """
    if limits.videos is not None:
        return limits.videos
    return 1 if device().type == "cpu" and torch.get_num_threads() > 1 else VIDEOS_AT_ONCE


def device() -> torch.device:
    """The accelerator of this process if there is one, else the CPU."""
    if _DEVICE_ALLOWED.is_set() and torch.cuda.is_available():
        return torch.device("cuda")
    if _DEVICE_ALLOWED.is_set():
        _prepare_cpu()
    return torch.device("cpu")


def predictor(name: str) -> Predictor:
    """The predictor of this process."""
    with _LOADING:
        return _predictor(name)


def stabilizer(name: str) -> tuple[NvdsNetwork, str]:
    """The stabiliser of this process and its weights digest."""
    with _LOADING:
        return _stabilizer(name)


def flow(name: str) -> FlowEstimator:
    """The flow estimator of this process."""
    with _LOADING:
        return _flow(name)


def flow_on_device(name: str) -> bool:
    """Whether a flow estimator is a network on this process's device, so that it takes turns with the others there."""
    return getattr(flow(name), "device", None) is not None


def digests(predictor_name: str, stabilizer_name: str | None, flow_name: str | None) -> dict[str, str]:
    """Digest of each network of a run by its part in it; they are loaded for it if they are not yet."""
    found = {"predictor": predictor(predictor_name).digest}
    if stabilizer_name is not None:
        found["stabilizer"] = f"{stabilizer_name}:{stabilizer(stabilizer_name)[1]}"
    if flow_name is not None:
        found["flow"] = flow(flow_name).digest
    return found


def bytes_per_pixel(model: object) -> int:
    """Memory that a network takes per pixel of a batch: what it states itself, or a cautious estimate."""
    return int(getattr(model, "bytes_per_pixel", BYTES_PER_PIXEL))


@lru_cache(maxsize=1)
def _prepare_cpu() -> None:
    keep_freed_memory()


@lru_cache(maxsize=2)
def _predictor(name: str) -> Predictor:
    return create_predictor(name, device())


@lru_cache(maxsize=2)
def _stabilizer(name: str) -> tuple[NvdsNetwork, str]:
    model = create_model(name, pretrained=True)
    if not isinstance(model, NvdsNetwork):
        raise ConfigError(f"{name!r} is not a stabiliser")
    return model.to(device()), state_digest(model)


@lru_cache(maxsize=2)
def _flow(name: str) -> FlowEstimator:
    return create_flow(name, device())
