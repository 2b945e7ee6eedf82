"""Training of the stabiliser: it sees flickering disparity of four frames and must give the steady truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvds_core.stabilization.network import REFERENCES, NvdsNetwork, normalize_rgb
from nvds_core.training.augment import chance, flicker, photometric, uniform, unit_range
from nvds_core.training.loop import StepFunction
from nvds_core.training.losses import frame_normal_loss, spatial_loss, temporal_loss
from nvds_core.training.predictor import predictor_input


@dataclass(frozen=True)
class StabilizerLossConfig:
    """Weights of the loss terms and the mixture of inputs.

    ``perturbed_truth`` of the clips show disturbed truth, the others the predictor's own output, of which
    ``extra_flicker`` is disturbed further. Clean disparity is never an input. Up to ``small_until`` of the training,
    clips have half their resolution, for a quarter of the cost. Clips are ``clip_frames`` long, the first two of which
    are references only; ``crop`` (width, height) cuts a random part out after the predictor has seen whole frames.

    The temporal terms, of which ``frame_normal_weight`` adds the one in each frame's own units, grow from nothing
    within ``temporal_ramp`` of the training: from the start they would teach a constant, which never flickers. Where
    they weigh much, ``faithful_weight`` is needed as well: the output shall also be close to what the predictor said
    of the clip, up to scale and shift. Where the predictor errs, the truth alone does not mind its layout being given
    up for a steadier one.
    """

    clip_frames: int = 5
    crop: tuple[int, int] | None = None
    temporal_weight: float = 3.0
    frame_normal_weight: float = 0.0
    faithful_weight: float = 0.0
    temporal_ramp: tuple[float, float] = (0.1, 0.4)
    gradient_weight: float = 0.5
    small_until: float = 0.75
    perturbed_truth: float = 0.45
    extra_flicker: float = 0.35


def stabilizer_step(
    data: dict[str, np.ndarray], predictor: nn.Module, batch: int, config: StabilizerLossConfig, device: torch.device
) -> StepFunction:
    """A step on ``batch`` clips of a rendered set with flow (`open_set`); ``predictor`` makes the flickering input."""
    scenes, length = data["rgb"].shape[:2]

    def step(model: nn.Module, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        assert isinstance(model, NvdsNetwork)
        small = progress < config.small_until
        picks = torch.randint(scenes, (batch,), generator=g).numpy()
        first = int(torch.randint(length - config.clip_frames + 1, (1,), generator=g))
        clip = {}
        for name, array in data.items():
            stop = first + config.clip_frames - length + array.shape[1]  # flow has one row less than there are frames
            clip[name] = torch.from_numpy(array[picks, first:stop]).to(device)
        rgb, truth, flow, visible = _arrange(clip, g)
        if small:
            rgb, truth, flow, visible = _halved(rgb, truth, flow, visible)
        rgb = photometric(rgb, g)
        noisy, said = _flickering_input(predictor, rgb, truth, config, g)
        if config.crop is not None:
            (rgb, truth, noisy, said), flow, visible = _cropped(
                config.crop, [rgb, truth, noisy, said], flow, visible, g
            )
            noisy = unit_range(noisy)
        frames = torch.cat([normalize_rgb(rgb), noisy[:, :, None]], dim=2)
        disparity = stabilize_clip(model, frames)
        start = REFERENCES - 1
        growth = ramp(progress, *config.temporal_ramp)
        motion = (flow[:, start:], visible[:, start:])
        losses = {
            "spatial": spatial_loss(disparity, truth[:, start:], gradient_weight=config.gradient_weight),
            "temporal": growth * config.temporal_weight * temporal_loss(disparity, *motion),
        }
        if config.frame_normal_weight > 0:
            losses["frame_normal"] = growth * config.frame_normal_weight * frame_normal_loss(F.relu(disparity), *motion)
        if config.faithful_weight > 0:
            faithful = spatial_loss(disparity, said[:, start:], gradient_weight=config.gradient_weight)
            losses["faithful"] = config.faithful_weight * faithful
        return losses

    return step


def ramp(progress: float, start: float, stop: float) -> float:
    """0 before ``start``, 1 after ``stop``, linear between."""
    return min(1.0, max(0.0, (progress - start) / (stop - start)))


def stabilize_clip(model: NvdsNetwork, frames: Tensor) -> Tensor:
    """Stabilise frames 2, 3, ... of clips [b,t,4,h,w] as at the start of a video: [b,t-2,h,w].

    Frame 2 sees itself four times, as the first three frames of every scene do; the others see their window.
    """
    b, t = frames.shape[:2]
    fused = model.encode(frames.flatten(0, 1))
    fused = fused.view(b, t, *fused.shape[1:])
    start = REFERENCES - 1
    targets = fused[:, start:].flatten(0, 1)
    references = []
    for role in range(REFERENCES):
        shifted = [fused[:, start : start + 1], fused[:, role : role + t - REFERENCES]]
        references.append(torch.cat(shifted, dim=1).flatten(0, 1))
    detail = model.detail(targets, frames[:, start:, :3].flatten(0, 1))
    return model.decode_linear(targets, references, detail)[:, 0].view(b, t - start, *frames.shape[3:]).float()


def _arrange(clip: dict[str, Tensor], g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch in training form, randomly reversed in time and mirrored: rgb, truth, flow to previous, visibility."""
    rgb = clip["rgb"].permute(0, 1, 4, 2, 3).float() / 255
    truth = clip["disparity"].float()
    flow, visible = clip["flow_to_previous"].float(), clip["visible_previous"]
    if bool(chance(g, 1, 0.5)):
        rgb, truth = rgb.flip(1), truth.flip(1)
        flow, visible = clip["flow_to_next"].float().flip(1), clip["visible_next"].flip(1)
    if bool(chance(g, 1, 0.5)):
        rgb, truth, visible = rgb.flip(-1), truth.flip(-1), visible.flip(-1)
        flow = flow.flip(-1) * torch.tensor([-1.0, 1.0], device=flow.device).view(1, 1, 2, 1, 1)
    return rgb, truth, flow, visible


def _halved(rgb: Tensor, truth: Tensor, flow: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same batch at half the resolution; a pixel is visible if all four of its parts are."""

    def pool(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])

    whole = pool(visible.float()[:, :, None])[:, :, 0] > 0.99
    return pool(rgb), pool(truth[:, :, None])[:, :, 0], pool(flow) / 2, whole


def _cropped(
    size: tuple[int, int], maps: list[Tensor], flow: Tensor, visible: Tensor, g: torch.Generator
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The same random part of all maps; pixels whose counterpart lies outside it are no longer visible."""
    width, height = size
    y = int(torch.randint(flow.shape[-2] - height + 1, (1,), generator=g))
    x = int(torch.randint(flow.shape[-1] - width + 1, (1,), generator=g))

    def cut(m: Tensor) -> Tensor:
        return m[..., y : y + height, x : x + width]

    flow = cut(flow)
    rows = torch.arange(height, device=flow.device).view(-1, 1) + flow[:, :, 1]
    columns = torch.arange(width, device=flow.device) + flow[:, :, 0]
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    return [cut(m) for m in maps], flow, cut(visible) & inside


@torch.no_grad()
def _flickering_input(
    predictor: nn.Module, rgb: Tensor, truth: Tensor, config: StabilizerLossConfig, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The disparity that the network is given, in 0..1, and what it shall be faithful to, both [b,t,h,w].

    That is what the predictor said before anything was disturbed, or the truth for the clips made of it.
    """
    b = rgb.shape[0]
    said = predictor(predictor_input(rgb.flatten(0, 1))).float().view_as(truth)
    own = unit_range(said)
    disturbed_truth = flicker(unit_range(truth), g)
    # Predictors fed with other footage flicker more than on their training scenes.
    disturbed_own = flicker(own, g)
    one = (b, 1, 1, 1)
    device = rgb.device
    share = uniform(g, one, 0.2, 1.0).to(device)
    own = torch.where(chance(g, b, config.extra_flicker).view(one).to(device), own + share * (disturbed_own - own), own)
    from_truth = chance(g, b, config.perturbed_truth).view(one).to(device)
    return unit_range(torch.where(from_truth, disturbed_truth, own)), torch.where(from_truth, truth, said)
