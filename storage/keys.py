"""Content-addressed keys: same inputs and settings, same key, whatever the path, date, shard or machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from storage.artifacts import ArtifactRef

_KEY_DIGITS = 40


def artifact_key(step: str, version: int, *parts: object) -> str:
    """The key of what `step` makes of `parts`: 40 hex digits of a SHA-256.

    Args:
        step: name of the step.
        version: to be raised whenever the step's code changes its output.
        parts: keys of the inputs (`ArtifactRef`), the sub-config used, digests of sources and weights.

    Raises:
        TypeError: a part of a kind that could carry a path, a date or bulk data into the key.
        ValueError: a float that is not finite.
    """
    return hashlib.sha256(canonical_json([step, version, *parts]).encode("ascii")).hexdigest()[:_KEY_DIGITS]


def canonical_json(obj: object) -> str:
    """One text for one meaning: sorted keys, no spaces, ASCII.

    Lists and tuples are the same; a float without a fraction is the same as the integer (a config file may say
    ``1`` where the default says ``1.0``), True is not the same as 1. A frozen dataclass enters with its class name
    and its fields by name, an enum member with its class and its name, an `ArtifactRef` by its key.
    """
    return json.dumps(_plain(obj, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _plain(obj: object, where: str) -> Any:
    """`obj` in JSON types; `where` names it in errors."""
    if isinstance(obj, np.generic):
        # only numbers: .item() of a datetime64 would let a date in
        if not isinstance(obj, np.bool_ | np.integer | np.floating | np.str_):
            raise TypeError(_refusal(obj, where))
        obj = obj.item()
    if isinstance(obj, Enum):  # before str and int: members may be both
        return {"__enum__": type(obj).__name__, "name": obj.name}
    if obj is None or isinstance(obj, bool | str | int):
        return obj
    if isinstance(obj, float):
        return _plain_float(obj, where)
    if isinstance(obj, ArtifactRef):
        return {"__artifact__": obj.key}
    if isinstance(obj, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(obj)]
    if isinstance(obj, Mapping):
        return _plain_mapping(obj, where)
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type) and _is_frozen(obj):
        fields = {f.name: _plain(getattr(obj, f.name), f"{where}.{f.name}") for f in dataclasses.fields(obj)}
        return {"__class__": type(obj).__name__, "fields": fields}
    raise TypeError(_refusal(obj, where))


def _plain_float(number: float, where: str) -> int | float:
    if not math.isfinite(number):
        raise ValueError(f'{where} is {number}: only finite numbers make a key; use None for "no limit"')
    return int(number) if number.is_integer() else number


def _plain_mapping(mapping: Mapping[Any, object], where: str) -> dict[str, Any]:
    for name in mapping:
        if not isinstance(name, str):
            raise TypeError(f"{where} has the key {name!r} ({type(name).__name__}): only strings name settings")
    return {name: _plain(item, f"{where}.{name}") for name, item in mapping.items()}


def _is_frozen(obj: object) -> bool:
    return bool(type(obj).__dataclass_params__.frozen)  # type: ignore[attr-defined]


def _refusal(obj: object, where: str) -> str:
    kind = f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")
    return (
        f"{where} is a {kind}, which cannot be part of an artifact key; "
        "pass settings (numbers, strings, frozen dataclasses), digests or ArtifactRefs"
    )
