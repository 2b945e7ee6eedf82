"""Copies between host and device that do not wait for each other: pinned memory and a stream of their own on CUDA.

On a CPU everything here hands its argument through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Uploaded:
    """A tensor on its way to the device."""

    tensor: Tensor
    copied: torch.cuda.Event | None

    def ready(self) -> Tensor:
        """The tensor, in order with what the calling thread launches next; the host does not wait."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.copied)
            self.tensor.record_stream(stream)  # the allocator must not hand its memory out while that work goes on
        return self.tensor


class Uploader:
    """Copies host tensors to `device` on a stream of its own; made for the thread that reads ahead."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, tensor: Tensor | NDArray[Any]) -> Uploaded:
        """Begin the copy of one tensor or array."""
        host = tensor if isinstance(tensor, Tensor) else torch.from_numpy(np.ascontiguousarray(tensor))
        if self._stream is None:
            return Uploaded(host, None)
        with torch.cuda.stream(self._stream):
            copy = host.pin_memory().to(self.device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return Uploaded(copy, copied)


@dataclass(frozen=True)
class Downloaded:
    """A tensor on its way to the host."""

    tensor: Tensor
    copied: torch.cuda.Event | None

    def numpy(self) -> NDArray[Any]:
        """The values; the calling thread waits until they are there."""
        if self.copied is not None:
            self.copied.synchronize()
        values: NDArray[Any] = self.tensor.numpy()
        return values


def download(tensor: Tensor) -> Downloaded:
    """Begin the copy of a result to the host behind the work that makes it."""
    if tensor.device.type != "cuda":
        return Downloaded(tensor.detach(), None)
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor.detach(), non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return Downloaded(host, copied)
