"""Building large networks quickly, and the check of their input that the published predictors share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from nvds_core.types import ShapeError

MULTIPLE = 32  # both sides of an input: five halvings, each undone by a doubling
POOL = 1_048_573  # prime, so that the rows of no weight matrix repeat

Network = TypeVar("Network", bound=nn.Module)


def build_quickly(make: Callable[[], Network]) -> Network:
    """Build a network with random weights at the speed of memory.

    The usual initialisation draws every value on its own, 10 seconds for the 344 million of DPT-Large, only for a
    checkpoint to overwrite them. Here the network is made without memory; then weights of rank 2 and more are cut from
    one pool of normal numbers, scaled by 1/sqrt(fan-in), vectors get the neutral value of their kind. The network
    computes something sensible, for timings and tests; it is no start for a training.

    Buffers other than the statistics of batch normalisation are not restored: `make` must not create any.
    """
    device = torch.get_default_device()
    with torch.device("meta"):
        network = make()
    network.to_empty(device=device)
    pool = torch.randn(POOL, device=device)
    start = 0
    # In-place operations on the parameters themselves: `nvds_core.models.unfilled_parameters` leaves those out.
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1:
                value.copy_(_cyclic(pool, start, value.numel()).view(value.shape))
                value.mul_(value[0].numel() ** -0.5)
                start = (start + value.numel()) % POOL
            else:
                value.fill_(0.0 if name.endswith("bias") else 1.0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return network


def _cyclic(pool: Tensor, start: int, count: int) -> Tensor:
    """``count`` values of the pool from ``start`` on, beginning anew at its end."""
    if start + count <= POOL:
        return pool[start : start + count]
    return pool.repeat(-(-(start + count) // POOL))[start : start + count]


def check_picture(x: Tensor) -> None:
    """Raise ShapeError unless ``x`` is [b,3,h,w] with sides that are multiples of `MULTIPLE`."""
    if x.ndim != 4 or x.shape[1] != 3 or any(side % MULTIPLE or side < MULTIPLE for side in x.shape[2:]):
        raise ShapeError(f"expected [b,3,h,w] with h and w multiples of {MULTIPLE}, got {tuple(x.shape)}")
