"""Models by name, and their bundled weights."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from nvds_core.checkpoints import load_state
from nvds_core.types import ConfigError, WeightsError


def _maker(module: str, name: str) -> Callable[..., nn.Module]:
    """``name`` of ``module``, imported when the model is first built: most runs need one or two of them."""

    def make(**options: Any) -> nn.Module:
        model: nn.Module = getattr(import_module(module), name)(**options)
        return model

    return make


# A maker builds the network with random weights. Its state_dict has the names of the published checkpoint, except for
# entries that no forward pass reads: those are named by the network's UNUSED_PREFIXES and dropped on loading.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "tiny": _maker("nvds_core.predictors.tiny", "TinyPredictor"),
    "nvds-tiny": _maker("nvds_core.stabilization.network", "nvds_tiny"),
    "nvds": _maker("nvds_core.stabilization.network", "nvds"),
    "gmflow": _maker("nvds_core.flow.gmflow", "gmflow"),
    "gmflow-refine": _maker("nvds_core.flow.gmflow", "gmflow_refine"),
    "midas-v21": _maker("nvds_core.predictors.midas", "midas_v21"),
    "midas-v21-small": _maker("nvds_core.predictors.midas", "midas_v21_small"),
    "dpt-large": _maker("nvds_core.predictors.dpt", "dpt_large"),
    "dpt-hybrid": _maker("nvds_core.predictors.dpt", "dpt_hybrid"),
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
