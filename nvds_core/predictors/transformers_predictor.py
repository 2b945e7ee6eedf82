"""``transformers:ID``: depth models of the Hugging Face Hub, or of a local folder, as predictors."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from nvds_core.checkpoints import state_digest
from nvds_core.predictors.base import finite
from nvds_core.predictors.quantity import QUANTITIES, Quantity, quantity_option
from nvds_core.types import ConfigError, ShapeError, WeightsError

# What `predicted_depth` means after the processor's own post-processing, by model type; Depth Anything says it in its
# config. DPT on DINOv2 gives metres and DPT on ViT disparity, so that type is asked for by its backbone.
METRIC_TYPES: Final = ("depth_pro", "glpn", "tipsv2_dpt", "zoedepth")
NEAREST_METRES: Final = 1e-3  # nearer depths than this are taken for this: 1 / depth must stay finite
MULTIPLE: Final = 32
LARGEST_SHORT_SIDE: Final = 512  # above it the stabiliser costs more than the predictor; --short-side goes before it
# The first fusion layer has no residual input, so published checkpoints lack these and no forward pass reads them.
NEVER_READ: Final = "fusion_stage.layers.0.residual_layer1."
NOT_CONTENT: Final = ("_name_or_path", "_commit_hash", "transformers_version", "torch_dtype", "dtype")
UNREADABLE: Final = (OSError, ValueError, RuntimeError, ImportError, KeyError, pickle.UnpicklingError)


class TransformersDepth:
    """Any model that `AutoModelForDepthEstimation` loads, with its own `AutoImageProcessor` before and after it.

    The processor gets 8-bit pictures and gives maps of their size. Metric models (metres) become disparity by
    ``1 / max(depth, NEAREST_METRES)``; relative models give disparity already.

    Args:
        source: a Hub id such as ``depth-anything/Depth-Anything-V2-Small-hf``, or a folder of `save_pretrained`.
        device: where the network computes.
        quantity: ``disparity`` or ``depth``: what the model gives, for those that do not tell; goes before what their
            config says.
        revision: branch, tag or commit of a Hub id.

    Raises:
        ConfigError: transformers is not installed, an unknown quantity, or a model that does not tell its own.
        WeightsError: not to be had, damaged, incomplete, or no depth model.
    """

    name = "transformers"
    multiple = MULTIPLE

    def __init__(
        self, source: str, device: torch.device | str = "cpu", quantity: str = "", revision: str | None = None
    ) -> None:
        self.source, self.device = source, torch.device(device)
        wanted = quantity_option(f"transformers:{source}", quantity) if quantity else None
        self.processor, self.model = _load(source, revision)
        self.quantity: Quantity = wanted or model_quantity(self.model.config, source)
        self.model.to(self.device).eval()
        self.short_side = _short_side(self.processor)
        self.digest = f"transformers:{self.quantity}:{_digest(self.processor, self.model, self.quantity)}"

    @torch.inference_mode()
    def predict(self, unit_rgb: NDArray[np.float64]) -> NDArray[np.float32]:
        """Disparity [n,h,w] of pictures [n,h,w,3]; CoreError (reason ``not_finite``) if it is not finite."""
        pictures = list(np.rint(np.clip(unit_rgb, 0, 1) * 255).astype(np.uint8))
        size = (unit_rgb.shape[1], unit_rgb.shape[2])
        inputs = self.processor(images=pictures, return_tensors="pt", input_data_format="channels_last")
        outputs = self.model(**{name: value.to(self.device) for name, value in inputs.items()})
        outputs["predicted_depth"] = outputs["predicted_depth"].float()  # bfloat16 under autocast: too coarse to resize
        maps = self._full_size(outputs, size, len(pictures))
        if self.quantity == "depth":
            maps = 1.0 / maps.clamp(min=NEAREST_METRES)
        return finite(maps.cpu().numpy(), f"transformers:{self.source}")

    def _full_size(self, outputs: Any, size: tuple[int, int], count: int) -> torch.Tensor:
        """Maps [n,h,w] at the size of the pictures, by the processor's own rule where it has one."""
        post_process = getattr(self.processor, "post_process_depth_estimation", None)
        if post_process is None:
            raw = outputs.predicted_depth.unsqueeze(1)
            return torch.nn.functional.interpolate(raw, size, mode="bicubic", align_corners=False).squeeze(1)
        sizes: dict[str, Any] = {"target_sizes": [size] * count}
        if "source_sizes" in inspect.signature(post_process).parameters:  # ZoeDepth cuts its padding off by it
            sizes["source_sizes"] = [size] * count
        maps = torch.stack([found["predicted_depth"] for found in post_process(outputs, **sizes)])
        if maps.shape != (count, *size):
            raise ShapeError(f"transformers:{self.source} gave maps {tuple(maps.shape)}, expected {(count, *size)}")
        return maps


def model_quantity(config: Any, source: str) -> Quantity:
    """Whether a model of this config gives ``disparity`` or metric ``depth``.

    Raises:
        ConfigError: its type does not tell.
    """
    kind = str(getattr(config, "model_type", "?"))
    if kind == "depth_anything":
        return "depth" if config.depth_estimation_type == "metric" else "disparity"
    if kind in METRIC_TYPES:
        return "depth"
    backbone = getattr(config, "backbone_config", None)
    if kind == "dpt" and (backbone is None or backbone.model_type == "bit"):
        return "disparity"  # Intel/dpt-large and dpt-hybrid-midas: MiDaS training
    ways = " or ".join(f"?quantity={quantity}" for quantity in QUANTITIES)
    raise ConfigError(f"transformers:{source}: a {kind} model does not tell what it predicts; add {ways} to the name")


def _load(source: str, revision: str | None) -> tuple[Any, Any]:
    """Processor and model of a Hub id or a local folder, without running code that comes with them."""
    try:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
        from transformers.utils import logging
    except ImportError as error:
        raise ConfigError(
            f'transformers:{source} needs the package transformers; install it with pip install "nvds[transformers]"'
        ) from error
    from safetensors import SafetensorError

    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _fetch(source, revision)
    elif revision is not None:
        raise ConfigError(f"transformers:{source} is a local folder, which has no revision {revision!r}; leave it out")
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoImageProcessor.from_pretrained(folder, **options)
        model, account = AutoModelForDepthEstimation.from_pretrained(
            folder, **options, dtype=torch.float32, output_loading_info=True
        )
    except (*UNREADABLE, SafetensorError) as error:
        raise WeightsError(
            f"transformers:{source}: cannot be loaded ({_first_line(error)}); a folder of save_pretrained with model "
            "and image processor is needed, of a type that AutoModelForDepthEstimation knows"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    _complete(model, account["missing_keys"], source)
    return processor, model


def _fetch(source: str, revision: str | None) -> Path:
    """The local snapshot of a Hub id; the network is asked only for what is not there yet."""
    from huggingface_hub import snapshot_download

    problem: Exception | str = "it has no weights"
    for local in (True, False):
        for weights in ("*.safetensors", "*.bin"):  # pickles only where there is nothing else
            try:
                folder = Path(
                    snapshot_download(
                        source, revision=revision, allow_patterns=["*.json", weights], local_files_only=local
                    )
                )
            except (OSError, ValueError) as error:
                problem = error
                continue
            if any(folder.glob(weights)):
                return folder
    raise WeightsError(
        f"transformers:{source}: no such folder, and not to be had from the Hugging Face Hub ({_first_line(problem)}); "
        f"check the name, or run 'hf download {source}' on a machine with network, copy the folder here and name it"
    )


def _complete(model: Any, missing: Collection[str], source: str) -> None:
    """Refuse a model some of whose weights would stay random; zero those that are never read."""
    needed = sorted(name for name in missing if NEVER_READ not in name)
    if needed:
        raise WeightsError(
            f"transformers:{source}: {len(needed)} weights are missing ({', '.join(needed[:3])}, ...); "
            "this is a checkpoint of another model"
        )
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in missing:  # random otherwise, and the digest with them
                value.zero_()


def _short_side(processor: Any) -> int:
    """The short side that the processor resizes to, as a multiple of 32 within what the stabiliser can afford."""
    size = getattr(processor, "size", None) or {}
    sides = [size[name] for name in ("shortest_edge", "height", "width") if isinstance(size.get(name), int)]
    wanted = min(sides, default=384) // MULTIPLE * MULTIPLE
    return max(MULTIPLE, min(wanted, LARGEST_SHORT_SIDE))


def _digest(processor: Any, model: Any, quantity: str) -> str:
    """SHA-256 over all that an output depends on: weights, both configs, what they mean, and the library."""
    import transformers

    config = {name: value for name, value in model.config.to_dict().items() if name not in NOT_CONTENT}
    about = [state_digest(model), config, processor.to_dict(), quantity, transformers.__version__]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def _first_line(error: BaseException | str) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
