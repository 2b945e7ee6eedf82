"""The arithmetic of a network on its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

# fp32: as published, exact products. tf32: products of 10 bits on GPUs that have them, the same as fp32 elsewhere.
# bf16: autocast; fast on GPUs and on CPUs with AVX512-bf16 or AMX, slower than fp32 on other CPUs.
Precision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def computing(precision: Precision, device: torch.device, model: object = None) -> Iterator[None]:
    """Inside the block `model`, and any other network on `device`, computes with `precision`.

    A model with an attribute ``precision`` (fp32 or bf16) is told of bf16, as it knows which of its layers need
    float32; one that was made for bf16 stays so.

    Autocast concerns the calling thread only. The switch for tf32 is one for the whole process: blocks of different
    precision on one GPU must not overlap, which the device lane of a worker sees to. One block around many batches is
    cheaper than one per batch, as weights are cast once per block.
    """
    with _products("tf32" if precision == "tf32" else "ieee", device), _told(model, precision):
        if precision == "bf16":
            with torch.autocast(device.type, dtype=torch.bfloat16):
                yield
        else:
            yield


@contextmanager
def _told(model: object, precision: Precision) -> Iterator[None]:
    before = getattr(model, "precision", None)
    if before is None or precision != "bf16":
        yield
        return
    model.precision = "bf16"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        model.precision = before  # type: ignore[attr-defined]


@contextmanager
def _products(kind: str, device: torch.device) -> Iterator[None]:
    """Set how fp32 products are computed on a GPU; cuDNN's own default is tf32, which "fp32" must not mean."""
    if device.type != "cuda":
        yield
        return
    backends: Any = torch.backends  # its modules are classes that the type checker cannot see
    switches = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = kind
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
