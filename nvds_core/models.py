"""Models by name, with bundled weights, official ones from the cache, or those of any file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nvds_core.checkpoints import file_digest, fitting_entries, load_state, read_checkpoint
from nvds_core.types import ConfigError, WeightsError
from nvds_core.weights_cache import checkpoint_path, digest_state, installed_digest
from nvds_core.weights_catalog import OFFICIAL, OfficialFile

log = logging.getLogger("nvds")


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


def create_model(
    name: str, *, pretrained: bool | None = None, weights: str | Path | None = None, **options: Any
) -> nn.Module:
    """Build a model in evaluation mode.

    Args:
        name: one of `MODELS`, or a variant of the weights catalog such as ``nvds-nyu``: the network of that file.
        pretrained: load trained weights: those of the package (`BUNDLED`), else the official file, which
            ``nvds weights pull NAME`` puts into the cache. The default is True for bundled models and for variants;
            other models start with random weights, to be filled by `load_state`.
        weights: a checkpoint file to load instead, of torch or safetensors.

    Raises:
        ConfigError: unknown name or option.
        WeightsError: weights that are missing, damaged or made for another network.
    """
    model_name = _model_of(name)
    if options:
        raise ConfigError(f"model {name!r} has no option {', '.join(sorted(options))}")
    if weights is not None:
        if pretrained is False:
            raise ConfigError(f"model {name!r}: weights={str(weights)!r} and pretrained=False exclude each other")
        path = Path(weights)
    elif pretrained or (pretrained is None and (name in BUNDLED or name not in MODELS)):
        path = bundled_weights(name) if name in BUNDLED else checkpoint_path(name)
    else:
        return MODELS[model_name]().eval()
    state = read_checkpoint(path)  # before the network is built: a bad file is told at once
    model = load_state(unfilled_model(model_name), state, assign=True)
    _log_weights(name, path, official=weights is None)
    return model.eval()


def unfilled_model(name: str) -> nn.Module:
    """The network of ``name`` with parameters of any value, which the caller must all set.

    Large networks spend seconds, and memory for a whole copy, on random numbers that a checkpoint replaces.
    """
    with unfilled_parameters():
        return MODELS[name]()


@contextmanager
def unfilled_parameters() -> Iterator[None]:
    """Let modules built in this context (in this thread) leave their parameters as the allocator gives them.

    Buffers are computed as ever.
    """
    with _WithoutInitialization():
        yield


class _WithoutInitialization(TorchFunctionMode):  # type: ignore[no-untyped-call]
    """Skips what changes a parameter, or a view of one, in place: while a module is built, that is initialisation."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        name = getattr(func, "__name__", "")
        in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        if in_place and name != "requires_grad_" and _is_parameter(target):
            return target
        return func(*args, **kwargs)


def _is_parameter(value: object) -> bool:
    return isinstance(value, Tensor) and isinstance(value if value._base is None else value._base, nn.Parameter)


def check_fits(file: OfficialFile, path: Path) -> None:
    """Raise WeightsError, naming the file, unless ``path`` is a readable checkpoint of the network of ``file``."""
    state = read_checkpoint(path)
    try:
        fitting_entries(unfilled_model(file.model), state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def bundled_weights(name: str) -> Path:
    """The weights file of a bundled model; WeightsError when the package brings none."""
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if name not in BUNDLED or not path.is_file():
        raise WeightsError(f"no weights for {name!r} come with this package; load a checkpoint with load_state")
    return path


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load a checkpoint file, of whatever float type, into ``model`` strictly."""
    state: dict[str, Tensor] = read_checkpoint(path)
    return load_state(model, state)


def _model_of(name: str) -> str:
    if name in MODELS:
        return name
    if name in OFFICIAL:
        return OFFICIAL[name].model
    raise ConfigError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")


def _log_weights(name: str, path: Path, *, official: bool) -> None:
    file = OFFICIAL.get(name) if official else None
    digest = file_digest(path) if file is None else installed_digest(path)
    bundled = official and name in BUNDLED  # the same for everybody: no news
    log.log(logging.DEBUG if bundled else logging.INFO, "%s: weights %s, sha256 %s", name, path.name, digest)
    if file is not None and digest_state(file, path, digest) in ("other", "changed"):
        log.warning("%s: %s is not the published file or has changed; see nvds weights verify %s", name, path, name)
