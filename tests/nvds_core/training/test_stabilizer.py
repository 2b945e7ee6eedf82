from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nvds_core import create_model
from nvds_core.stabilization import NvdsNetwork
from nvds_core.training.augment import unit_range
from nvds_core.training.losses import temporal_loss
from nvds_core.training.stabilizer import (
    StabilizerLossConfig,
    _arrange,
    _cropped,
    _flickering_input,
    _halved,
    ramp,
    stabilize_clip,
    stabilizer_step,
)
from tests.fill import fill
from tests.nvds_core.stabilization.reference import filled, random_frames
from tests.nvds_core.training.clips import STEP, sliding_set

CPU = torch.device("cpu")
CONFIG = StabilizerLossConfig()


class Constant(nn.Module):
    """A predictor that says the same of every picture, so that its share of the input is easy to tell."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linspace(0, 1, x.shape[3]).expand(x.shape[0], x.shape[2], x.shape[3])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_training_clips_pass_through_the_windows_of_the_start_of_a_scene() -> None:
    model = filled("nvds-tiny")
    frames = torch.stack([random_frames(6, 32, 36, seed) for seed in range(2)])
    with torch.inference_mode():
        found = stabilize_clip(model, frames).relu()  # training leaves the last ReLU out
        assert found.shape == (2, 4, 32, 36)
        for place, members in enumerate([(2, 2, 2, 2), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)]):
            expected = model(frames[:, list(members)])[:, 0]
            assert float((found[:, place] - expected).abs().max()) < 1e-5


def test_a_clip_reversed_or_mirrored_still_follows_its_flow() -> None:
    clip = {name: torch.from_numpy(array) for name, array in sliding_set(height=32, width=32).items()}
    seen = set()
    for seed in range(12):
        rgb, truth, flow, visible = _arrange(clip, generator(seed))
        assert float(temporal_loss(truth, flow, visible)) < 5e-3  # float16 truth
        brightness = rgb.mean(dim=2)
        assert float(temporal_loss(brightness, flow, visible)) < 0.5  # moves along, apart from its noise
        seen.add((bool(torch.equal(truth[0, 0], clip["disparity"][0, 0].float())), float(flow[0, 0, 0, 0, 0])))
    assert len(seen) >= 3  # forward, reversed, and mirrored ones were among them


def test_a_clip_at_half_the_resolution_still_follows_its_flow() -> None:
    clip = {name: torch.from_numpy(array) for name, array in sliding_set().items()}
    rgb, truth, flow, visible = _halved(*_arrange(clip, generator()))
    assert rgb.shape == (3, 5, 3, 32, 32)
    assert truth.shape == (3, 5, 32, 32)
    assert bool((flow.abs().amax(dim=(-2, -1))[:, :, 0] == STEP / 2).all())
    assert float(temporal_loss(truth, flow, visible)) < 5e-3
    hidden = (~visible).sum(dim=(2, 3))
    assert bool((hidden == 32 * STEP // 2).all())


def test_the_temporal_term_grows_from_nothing_to_its_weight() -> None:
    assert [ramp(x, 0.1, 0.5) for x in (0.0, 0.1, 0.3, 0.5, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    step = stabilizer_step(sliding_set(), Constant(), 1, CONFIG, CPU)
    with torch.no_grad():
        losses = step(filled("nvds-tiny"), generator(), 0.0)
    assert float(losses["temporal"]) == 0
    assert float(losses["spatial"]) > 0


def test_clips_are_small_until_their_share_of_the_training_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fill(create_model("nvds-tiny", pretrained=False))
    assert isinstance(model, NvdsNetwork)
    recorder = Recorder(model, monkeypatch)
    step = stabilizer_step(sliding_set(), Constant(), 1, CONFIG, CPU)
    with torch.no_grad():
        step(model, generator(), CONFIG.small_until - 0.01)
        step(model, generator(), CONFIG.small_until)
    assert [tuple(frames.shape[2:]) for frames in recorder.frames] == [(32, 32), (64, 64)]


class Recorder:
    """Keeps what the network was given."""

    def __init__(self, model: NvdsNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frames: list[Tensor] = []
        encode = model.encode

        def recording(frames: Tensor) -> Tensor:
            self.frames.append(frames.detach().clone())
            return encode(frames)

        monkeypatch.setattr(model, "encode", recording)


def test_the_input_is_disturbed_disparity_in_the_unit_range(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fill(create_model("nvds-tiny", pretrained=False))
    assert isinstance(model, NvdsNetwork)
    recorder = Recorder(model, monkeypatch)
    data = sliding_set(height=32, width=32)
    only_truth = StabilizerLossConfig(perturbed_truth=1.0)
    stabilizer_step(data, Constant(), 2, only_truth, CPU)(model, generator(), 1.0)
    disparity = recorder.frames[0][:, 3]
    assert bool((disparity.amin(dim=(1, 2)) == 0).all())
    torch.testing.assert_close(disparity.amax(dim=(1, 2)), torch.ones(len(disparity)))
    clean = unit_range(torch.from_numpy(data["disparity"]).float()).flatten(0, 1)
    clean = torch.cat([clean, clean.flip(-1)])  # training may mirror it
    nearest = torch.stack([(clean - d).abs().mean(dim=(1, 2)).min() for d in disparity])
    assert float(nearest.min()) > 1e-3


def test_clips_that_show_the_predictor_show_its_own_output(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fill(create_model("nvds-tiny", pretrained=False))
    assert isinstance(model, NvdsNetwork)
    recorder = Recorder(model, monkeypatch)
    only_own = StabilizerLossConfig(perturbed_truth=0.0, extra_flicker=0.0)
    stabilizer_step(sliding_set(height=32, width=32), Constant(), 2, only_own, CPU)(model, generator(), 1.0)
    disparity = recorder.frames[0][:, 3]
    torch.testing.assert_close(disparity, torch.linspace(0, 1, 32).expand_as(disparity))


def test_a_step_gives_both_terms_with_gradients_for_the_network_alone() -> None:
    model = fill(create_model("nvds-tiny", pretrained=False))
    predictor = fill(create_model("tiny", pretrained=False))
    step = stabilizer_step(sliding_set(height=32, width=32), predictor, 1, CONFIG, CPU)
    losses = step(model, generator(1), 1.0)
    assert losses.keys() == {"spatial", "temporal"}
    assert all(bool(torch.isfinite(value)) and float(value.detach()) > 0 for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in predictor.parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_the_random_stream_alone_decides_a_step() -> None:
    model = filled("nvds-tiny")
    step = stabilizer_step(sliding_set(height=32, width=32), Constant(), 1, CONFIG, CPU)
    with torch.no_grad():
        torch.manual_seed(1)
        one = step(model, generator(3), 1.0)
        torch.manual_seed(2)
        again, other = step(model, generator(3), 1.0), step(model, generator(4), 1.0)
    assert torch.equal(one["spatial"], again["spatial"])
    assert torch.equal(one["temporal"], again["temporal"])
    assert not torch.equal(one["spatial"], other["spatial"])


def test_the_temporal_term_has_its_weight() -> None:
    model = filled("nvds-tiny")
    data = sliding_set(height=32, width=32)
    with torch.no_grad():
        one, three = (
            stabilizer_step(data, Constant(), 1, StabilizerLossConfig(temporal_weight=w), CPU)(model, generator(3), 1.0)
            for w in (1.0, 3.0)
        )
    assert float(three["temporal"]) == pytest.approx(3 * float(one["temporal"]), rel=1e-6)
    assert torch.equal(one["spatial"], three["spatial"])


def test_a_part_of_a_clip_still_follows_its_flow_and_hides_what_leaves_it() -> None:
    clip = {name: torch.from_numpy(array) for name, array in sliding_set().items()}
    rgb, truth, flow, visible = _arrange(clip, generator())
    whole = visible.clone()
    places = set()
    for seed in range(4):
        (colours, part), part_flow, part_visible = _cropped((24, 16), [rgb, truth], flow, visible, generator(seed))
        assert part.shape == (3, 5, 16, 24)
        assert colours.shape == (3, 5, 3, 16, 24)
        assert float(temporal_loss(part, part_flow, part_visible)) < 5e-3
        assert bool((~part_visible).sum(dim=(2, 3)).ge(16 * STEP).all())  # the strip that moved in or out
        places.add(float(part[0, 0, 0, 0]))
    assert len(places) > 1
    assert torch.equal(visible, whole)


def test_further_terms_join_when_they_have_a_weight() -> None:
    model = filled("nvds-tiny")
    config = StabilizerLossConfig(
        clip_frames=4, crop=(32, 32), small_until=0.0, frame_normal_weight=2.0, faithful_weight=1.0
    )
    with torch.no_grad():
        losses = stabilizer_step(sliding_set(), Constant(), 1, config, CPU)(model, generator(1), 1.0)
    assert losses.keys() == {"spatial", "temporal", "frame_normal", "faithful"}
    assert all(float(value) > 0 for value in losses.values())


def test_faithful_means_to_the_predictor_or_for_disturbed_truth_to_the_truth() -> None:
    clip = {name: torch.from_numpy(array) for name, array in sliding_set(height=32, width=32).items()}
    rgb, truth, _, _ = _arrange(clip, generator())
    for share, expected in ((0.0, torch.linspace(0, 1, 32).expand_as(truth)), (1.0, truth)):
        config = StabilizerLossConfig(perturbed_truth=share, extra_flicker=1.0)
        noisy, said = _flickering_input(Constant(), rgb, truth, config, generator(1))
        torch.testing.assert_close(said, expected)
        assert float((noisy - unit_range(said)).abs().mean()) > 1e-3
