"""Models by name, and their bundled weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from nvds_core.checkpoints import load_state
from nvds_core.predictors.tiny import TinyPredictor
from nvds_core.stabilization.backbone import initialize
from nvds_core.stabilization.network import NVDS, NVDS_TINY, NvdsNetwork
from nvds_core.types import ConfigError, WeightsError

MODELS: dict[str, Callable[..., nn.Module]] = {
    "tiny": TinyPredictor,
    "nvds-tiny": partial(NvdsNetwork, NVDS_TINY),
    "nvds": partial(NvdsNetwork, NVDS),
}
BUNDLED = ("tiny", "nvds-tiny")  # models whose trained weights are part of the package
WEIGHTS_DIR = Path(__file__).parent / "weights"


def create_model(name: str, **options: Any) -> nn.Module:
    """Build a model in evaluation mode.

    Args:
        name: one of `MODELS`.
        options: ``pretrained`` (bool) loads the weights bundled with the package, which is the default for the
            models that have them; other models start with random weights, to be filled by `load_state`.

    Raises:
        ConfigError: unknown name or option.
        WeightsError: weights asked for that the package does not bring.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    pretrained = options.pop("pretrained", name in BUNDLED)
    if options:
        raise ConfigError(f"model {name!r} has no option {', '.join(sorted(options))}")
    model = MODELS[name]()
    if pretrained:
        load_bundled(model, name)
    elif isinstance(model, NvdsNetwork):
        initialize(model)
    return model.eval()


def bundled_weights(name: str) -> Path:
    """The weights file of a bundled model; WeightsError when the package brings none."""
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if name not in BUNDLED or not path.is_file():
        raise WeightsError(f"no weights for {name!r} come with this package; load a checkpoint with load_state")
    return path


def load_bundled(model: nn.Module, name: str) -> nn.Module:
    """Load the bundled weights of ``name`` into ``model``."""
    return load_weights(model, bundled_weights(name))


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load a safetensors file, of whatever float type, into ``model`` strictly."""
    from safetensors import SafetensorError  # not needed by those who load a checkpoint of their own
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not readable as safetensors ({error})") from error
    return load_state(model, {key: value.float() for key, value in state.items()})
