"""Flow networks as flow estimators of the pipeline: frames in, both directions of every pair out of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nvds_core.checkpoints import state_digest
from nvds_core.flow.base import FloatArray, check_frame_pair
from nvds_core.flow.gmflow import GMFlow
from nvds_core.models import create_model
from nvds_core.types import ConfigError, CoreError, ShapeError

Precision = Literal["fp32", "bf16"]

NETWORK_FLOW_VERSION: Final = 1  # raise when the preparation of frames below changes
ACCELERATOR_PAIRS: Final = 8  # per pass; a CPU gains nothing from more than one


class NetworkFlow:
    """A GMFlow network with its weights; see `FlowEstimator` for shapes and units.

    Frames go in as they are, with ImageNet's normalisation and without clipping. The encoder sees each frame once,
    also where it belongs to two pairs (`estimate_pairs`). How many pairs share a pass changes a flow by rounding only.

    Args:
        model: the network, in evaluation mode; it is moved to the device.
        name: name under which `create_flow` finds it.
        device: where it computes.
        precision: ``bf16`` runs convolutions and transformer under autocast; matching stays in float32.
        batch: pairs per pass; by default 1 on a CPU and 8 elsewhere.

    Raises:
        ConfigError: a precision or batch that does not exist.
    """

    def __init__(
        self,
        model: GMFlow,
        *,
        name: str,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        batch: int | None = None,
    ) -> None:
        if precision not in get_args(Precision):
            raise ConfigError(f"flow precision {precision!r}: choose one of {', '.join(get_args(Precision))}")
        if batch is not None and batch < 1:
            raise ConfigError(f"flow batch {batch}: at least one pair per pass is needed")
        self.name = name
        self.digest = f"{name}:v{NETWORK_FLOW_VERSION}:{precision}:{state_digest(model)}"
        self.device = torch.device(device)
        self.batch = batch or (1 if self.device.type == "cpu" else ACCELERATOR_PAIRS)
        self.precision = precision
        self.model = model.eval().to(self.device)

    def estimate(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Return ``(to_previous, to_next)``, each ``[2, h, w]`` float32 pixels.

        Raises:
            ShapeError: the frames are not ``[h, w, 3]`` of one size.
            CoreError: the flow is not finite (reason ``not_finite``).
        """
        to_previous, to_next = self.estimate_pairs([previous_rgb, current_rgb])
        return to_previous[0], to_next[0]

    def estimate_to_previous(self, previous_rgb: np.ndarray, current_rgb: np.ndarray) -> FloatArray:
        """Return ``to_previous`` alone; the numbers of `estimate` up to rounding."""
        return self._run([previous_rgb, current_rgb], bidirectional=False)[0][0]

    def estimate_pairs(self, frames_rgb: Sequence[np.ndarray]) -> tuple[FloatArray, FloatArray]:
        """Flow between all neighbours of a run of frames that belong to one scene.

        Args:
            frames_rgb: n frames ``[h, w, 3]`` in 0..255, or one array ``[n, h, w, 3]``.

        Returns:
            ``(to_previous, to_next)``, each ``[n - 1, 2, h, w]`` float32 pixels; entry i is the pair (i, i + 1).

        Raises:
            ShapeError: no frame, or frames that are not ``[h, w, 3]`` of one size.
            CoreError: the flow is not finite (reason ``not_finite``).
        """
        return self._run(frames_rgb, bidirectional=True)

    def _run(self, frames: Sequence[np.ndarray], *, bidirectional: bool) -> tuple[FloatArray, FloatArray]:
        if len(frames) == 0:
            raise ShapeError("flow needs frames, got none")
        check_frame_pair(frames[0], frames[0])
        for previous, current in pairwise(frames):
            check_frame_pair(previous, current)
        height, width = frames[0].shape[:2]
        to_previous = np.empty((len(frames) - 1, 2, height, width), np.float32)
        to_next = np.empty_like(to_previous) if bidirectional else to_previous[:0]
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            last = self._encode(frames[:1]) if len(frames) > 1 else []
            for first in range(1, len(frames), self.batch):
                maps = self._encode(frames[first : first + self.batch])
                before = [torch.cat((a[-1:], b[:-1])) for a, b in zip(last, maps, strict=True)]
                flow = self.model.match(maps, before, (height, width), bidirectional).float().cpu().numpy()
                pairs = slice(first - 1, first - 1 + len(maps[0]))
                to_previous[pairs] = flow[: len(maps[0])]
                to_next[pairs] = flow[len(maps[0]) :]
                last = maps
        for flow in (to_previous, to_next):
            if not np.isfinite(flow).all():
                raise CoreError(
                    f"{self.name} returned flow that is not finite; check its weights and the frames",
                    reason="not_finite",
                )
        return to_previous, to_next

    def _encode(self, frames: Sequence[np.ndarray]) -> list[Tensor]:
        stack = np.stack(list(frames))
        if stack.dtype != np.uint8:  # bytes are uploaded as such
            stack = stack.astype(np.float32, copy=False)
        images = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2)
        return self.model.encode(images.to(torch.float32, memory_format=torch.contiguous_format))


def gmflow(device: torch.device | str, *, precision: Precision = "fp32", batch: int | str | None = None) -> NetworkFlow:
    """GMFlow with its published weights, the flow of the published NVDS figures.

    Raises:
        ConfigError: a setting of `NetworkFlow` that does not exist.
        WeightsError: the checkpoint is missing or does not fit.
    """
    return _published("gmflow", device, precision, batch)


def gmflow_refine(
    device: torch.device | str, *, precision: Precision = "fp32", batch: int | str | None = None
) -> NetworkFlow:
    """GMFlow with refinement and its published weights; errors as `gmflow`."""
    return _published("gmflow-refine", device, precision, batch)


def _published(name: str, device: torch.device | str, precision: Precision, batch: int | str | None) -> NetworkFlow:
    if isinstance(batch, str) and not batch.isdecimal():  # options that come with a name are texts
        raise ConfigError(f"flow batch {batch!r}: a number of pairs is needed")
    model = create_model(name, pretrained=True)
    assert isinstance(model, GMFlow)
    pairs = None if batch is None else int(batch)
    return NetworkFlow(model, name=name, device=device, precision=precision, batch=pairs)
