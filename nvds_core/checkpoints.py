"""Reading checkpoint files without trusting them, and loading state_dicts strictly with an account of what misfits."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nvds_core.types import WeightsError

LISTED = 12  # names shown per kind of mismatch
WRAPPERS = ("model", "state_dict")  # keys under which training scripts keep the weights, beside optimizer and the like
# Everything that the weights-only reader of torch was seen to raise for damaged files (thousands of random changes).
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    AttributeError,
    OverflowError,
    struct.error,
    pickle.UnpicklingError,
)
# How that reader says that a file asks for something besides tensors: a class, a function, a call.
FOREIGN = re.compile(r"GLOBAL ([\w.]+)|reduce for unrecognized function ([\w.]+)")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state_dict of a checkpoint file, on the CPU: names to tensors, as they were saved.

    Reads files of ``torch.save`` (both formats) and of safetensors, by content and not by suffix. If the file holds
    ``{"model": state_dict, ...}`` or ``{"state_dict": ...}``, what stands beside it is ignored. No code of the file
    is ever run: torch reads with ``weights_only=True``.

    Raises:
        WeightsError: naming the file and what to do: it does not exist, is truncated or damaged, holds objects
            that need code, or no state_dict.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; give the path of a checkpoint file")
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds a {type(content).__name__} and no weights; give a file with a state_dict")
    strange = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise WeightsError(
            f"{path}: not a state_dict, as these entries are no tensors: {_some(strange)}; "
            f"give a file with a state_dict, bare or under {' or '.join(map(repr, WRAPPERS))}"
        )
    return dict(content)


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors does: the length of a JSON object (8 bytes), then that object."""
    with path.open("rb") as file:
        head = file.read(9)
    length_fits = int.from_bytes(head[:8], "little") <= path.stat().st_size
    return path.suffix == ".safetensors" or (head[8:] == b"{" and length_fits)


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError  # not needed by those who load checkpoints of torch
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path}: not readable as safetensors ({error}); fetch it again") from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the odd insides of damaged files
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        text = " ".join(str(error).split())
        foreign = FOREIGN.search(text)
        if foreign:
            raise WeightsError(
                f"{path}: refused, as it holds more than tensors ({foreign[1] or foreign[2]}) and reading that could "
                "run code; fetch the official file, or have its author save the state_dict alone"
            ) from None
        if isinstance(error, OSError) and error.strerror:
            raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
        raise WeightsError(
            f"{path}: not a whole checkpoint but truncated, damaged or another kind of file "
            f"({type(error).__name__}); fetch it again"
        ) from error


def strip_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the ``module.`` prefix of DataParallel from all keys that carry it."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_state(model: nn.Module, state_dict: Mapping[str, Tensor], *, assign: bool = False) -> nn.Module:
    """Copy ``state_dict`` into ``model`` strictly and return the model.

    A ``module.`` prefix is accepted. Entries that the published checkpoints store but no forward pass reads are
    dropped: those whose names begin with one of the model's ``UNUSED_PREFIXES``. Integer
    buffers (index tables, counters) may be absent; index tables that are present must equal ours.

    Args:
        assign: take the tensors themselves instead of copying their values: the model and the state_dict then share
            memory, and no second copy is ever held.

    Raises:
        WeightsError: naming the missing, extra, wrongly shaped, differing or non-finite entries; the model is
            unchanged.
    """
    fitting = fitting_entries(model, state_dict)
    own = model.state_dict()
    if assign:
        fitting = _separated({k: v.to(own[k].device, own[k].dtype) for k, v in fitting.items()})
    model.load_state_dict({**own, **fitting}, assign=assign)
    return model


def fitting_entries(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of ``state_dict`` that `load_state` would take over, under the names of the model.

    Raises:
        WeightsError: as `load_state`.
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
    return fitting


def _separated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries that are views or share memory, copied, so that every parameter stands for itself."""
    result, used = {}, set()
    for key, value in state.items():
        storage = value.untyped_storage()
        alone = value.is_contiguous() and storage.nbytes() == value.nbytes and storage.data_ptr() not in used
        result[key] = value if alone else value.clone(memory_format=torch.contiguous_format)
        used.add(storage.data_ptr())
    return result


def _account(problems: Mapping[str, list[str]]) -> str:
    parts = []
    for kind, names in problems.items():
        if names:
            parts.append(f"{len(names)} {kind}: {_some(names)}")
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


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
