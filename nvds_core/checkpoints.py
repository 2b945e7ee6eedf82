"""Loading state_dicts strictly, whatever wrapper they were saved from, with a readable account of what does not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nvds_core.types import WeightsError

LISTED = 12  # names shown per kind of mismatch


def strip_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the ``module.`` prefix of DataParallel from all keys that carry it."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_state(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Copy ``state_dict`` into ``model`` strictly and return the model.

    A ``module.`` prefix is accepted. Entries that the published checkpoints store but no forward pass reads are
    dropped: those whose names begin with one of the model's ``UNUSED_PREFIXES``. Integer
    buffers (index tables, counters) may be absent; index tables that are present must equal ours.

    Raises:
        WeightsError: naming the missing, extra, wrongly shaped, differing or non-finite entries; the model is
            unchanged.
    """
    unused: tuple[str, ...] = getattr(model, "UNUSED_PREFIXES", ())
    given = {k: v for k, v in strip_wrapper(state_dict).items() if not k.startswith(unused)}
    own = model.state_dict()
    floats = {k for k, v in own.items() if v.is_floating_point()}
    problems = {
        "missing": sorted(floats - given.keys()),
        "extra": sorted(given.keys() - own.keys()),
        "of another shape": [
            f"{k} {tuple(v.shape)}, expected {tuple(own[k].shape)}"
            for k, v in given.items()
            if k in own and v.shape != own[k].shape
        ],
    }
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    problems["different index tables"] = [
        k
        for k, v in fitting.items()
        if k not in floats
        and not k.endswith("num_batches_tracked")
        and not torch.equal(v.cpu().to(own[k].dtype), own[k].cpu())
    ]
    problems["not finite"] = [k for k, v in fitting.items() if k in floats and not bool(torch.isfinite(v).all())]
    message = _account(problems)
    if message:
        raise WeightsError(f"these weights do not fit {type(model).__name__}: {message}")
    model.load_state_dict({**own, **fitting})
    return model


def _account(problems: Mapping[str, list[str]]) -> str:
    parts = []
    for kind, names in problems.items():
        if names:
            rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            parts.append(f"{len(names)} {kind}: {', '.join(names[:LISTED])}{rest}")
    return "; ".join(parts)


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def state_digest(model: nn.Module) -> str:
    """sha256 over names, shapes and float32 values of a model's floating-point entries: what its outputs depend on."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if value.is_floating_point():
            array = value.detach().float().cpu().contiguous().numpy()
            digest.update(f"{key}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
