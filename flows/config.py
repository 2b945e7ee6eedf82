"""All settings of a run as one tree of small frozen dataclasses, read from YAML and command-line options."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from flows.cluster import WorkersConfig
from flows.tto import TtoConfig
from nvds_core.types import ConfigError
from storage import canonical_json
from tasks.flow_fields import FlowConfig
from tasks.frames import FramesConfig
from tasks.initial import PredictorConfig
from tasks.memory import LimitsConfig
from tasks.publish import PublishConfig
from tasks.score import ScoreConfig
from tasks.stabilize import StabilizerConfig

Keep = Literal["results", "all"]
Config = TypeVar("Config")


@dataclass(frozen=True)
class RunConfig:
    """What is done to every video, one branch per step.

    ``keep`` says what stays beside the results: nothing, or the intermediates, which make a second run with other
    settings of a late step cheap. ``limits`` bounds what the machine gives and ``workers`` says who does the work;
    neither changes a result. With ``tto`` the predictor is first optimised on each video, and what is stabilised is the
    optimised disparity.
    """

    frames: FramesConfig = field(default_factory=FramesConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    stabilizer: StabilizerConfig = field(default_factory=StabilizerConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    keep: Keep = "results"
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    tto: TtoConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping, as in a YAML file."""
        return asdict(self)

    def to_yaml(self) -> str:
        """The YAML text that gives this config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def fingerprint(self) -> str:
        """A short text that differs between different settings."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]


def load_config(
    path: Path | None, overrides: Mapping[str, Any], defaults: Mapping[str, Any] = types.MappingProxyType({})
) -> RunConfig:
    """Settings from a YAML file (or the defaults) with dotted overrides such as ``{"predictor.name": "tiny"}``.

    Args:
        path: the file, if there is one.
        overrides: what goes before the file.
        defaults: what takes the place of our own defaults where neither says anything.

    Raises:
        ConfigError: naming the file and the setting that is unknown or of the wrong type.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: not readable as YAML ({error})") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: expected settings by name, got a {type(loaded).__name__}")
        tree = loaded or {}
    for name, value in overrides.items():
        branch, leaf = _branch(tree, name, path)
        branch[leaf] = value
    for name, value in defaults.items():
        branch, leaf = _branch(tree, name, path)
        branch.setdefault(leaf, value)
    return build(RunConfig, tree, str(path) if path else "settings")


def _branch(tree: dict[str, Any], name: str, path: Path | None) -> tuple[dict[str, Any], str]:
    """Where a dotted name leads to: its branch, made if there is none, and the name in it."""
    *parents, leaf = name.split(".")
    for parent in parents:
        if tree.get(parent) is None:
            tree[parent] = {}
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: {parent} is {tree!r}, expected settings by name")
    return tree, leaf


def build(kind: type[Config], tree: Any, where: str) -> Config:
    """Make a config dataclass from a nested mapping, refusing unknown names and wrong types; None is all defaults.

    Raises:
        ConfigError: naming ``where``, the setting and the value.
    """
    if tree is None:
        tree = {}
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: expected settings by name, got {tree!r}")
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [str(name) for name in tree if name not in known]
    if unknown:
        raise ConfigError(f"{where}: unknown setting {', '.join(unknown)}; known: {', '.join(known)}")
    values = {name: _value(hints[name], value, f"{where}: {name}") for name, value in tree.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{where} is {value!r}, must be one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} is {value}, must be a finite number")
    options = get_args(hint) if origin in (types.UnionType, typing.Union) else (hint,)
    branch = next((option for option in options if isinstance(option, type) and is_dataclass(option)), None)
    if branch is not None and isinstance(value, Mapping):
        return build(branch, value, where)
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    for option in options:
        if isinstance(option, type) and isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    names = " or ".join("nothing" if option is type(None) else option.__name__ for option in options)
    raise ConfigError(f"{where} is {value!r}, must be {names}")
