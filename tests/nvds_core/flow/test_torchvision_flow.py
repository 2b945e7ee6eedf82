"""RAFT with random weights: what is tested is everything around torchvision's network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_small

from nvds_core.flow import FlowEstimator, create_flow, flow_names
from nvds_core.flow import torchvision_flow as module
from nvds_core.flow.torchvision_flow import padding
from nvds_core.types import ShapeError, WeightsError


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def frames() -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0).random((2, 130, 141, 3)) * 255
    return noise[0], noise[1].astype(np.uint8)


def test_both_directions_are_the_network_on_padded_frames(weights, frames):
    flow = create_flow(f"raft_small?weights={weights}")
    assert isinstance(flow, FlowEstimator)
    to_previous, to_next = flow.estimate(*frames)
    model = raft_small(weights=None)
    model.load_state_dict(torch.load(weights, weights_only=True))
    # 141 -> 144: one column left, two right; 130 -> 136: three rows above and below
    previous, current = (
        torch.from_numpy(np.pad(f.astype(np.float32), ((3, 3), (1, 2), (0, 0)), "edge")).permute(2, 0, 1)[None] / 127.5
        - 1
        for f in frames
    )
    with torch.no_grad():
        for found, pair in ((to_previous, (current, previous)), (to_next, (previous, current))):
            expected = model.eval()(*pair)[-1][0, :, 3:133, 1:142].numpy()
            assert found.shape == (2, 130, 141)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    alone = flow.estimate_to_previous(*frames)
    np.testing.assert_allclose(alone, to_previous, atol=1e-3 * np.abs(alone).max())


@pytest.mark.parametrize(
    ("size", "expected"),
    [((448, 192), (0, 0, 0, 0)), ((141, 130), (1, 2, 3, 3)), ((64, 200), (32, 32, 0, 0)), ((1, 1), (63, 64, 63, 64))],
)
def test_frames_are_padded_to_multiples_of_8_from_128_up(size, expected):
    assert padding(*size) == expected


def test_small_frames_get_a_flow_of_their_size(weights):
    flow = create_flow(f"raft_small?weights={weights}")
    small = np.random.default_rng(1).random((2, 40, 33, 3)) * 255
    assert flow.estimate_to_previous(*small).shape == (2, 40, 33)
    with pytest.raises(ShapeError):
        flow.estimate(small[0], small[1][:39])


def test_the_digest_names_network_and_weights_but_no_place(weights, tmp_path):
    digest = create_flow(f"raft_small?weights={weights}").digest
    copy = tmp_path / "copy.pth"
    copy.write_bytes(weights.read_bytes())
    assert create_flow("raft_small", weights=str(copy)).digest == digest
    state = torch.load(weights, weights_only=True)
    next(iter(state.values())).add_(1e-3)
    torch.save(state, copy)
    assert create_flow(f"raft_small?weights={copy}").digest != digest


@pytest.mark.parametrize("name", ["raft_large", "raft_small"])
def test_without_weights_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch, name):
    assert name in flow_names()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=rf"{name}: .*{name}_C_T.*\.pth to .*{name}\?weights=FILE") as error:
        create_flow(name)
    assert str(tmp_path / "hub" / "checkpoints") in str(error.value)
    with pytest.raises(WeightsError, match=r"no weights file gone\.pth"):
        create_flow(f"{name}?weights=gone.pth")


def test_the_published_file_is_taken_from_the_cache_of_torch_if_its_digest_fits(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    begin = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]

    class Published:
        url = f"some://place/raft_small-{begin}.pth"

    monkeypatch.setitem(module.NETWORKS, "raft_small", (raft_small, Published))
    cached = tmp_path / "hub" / "checkpoints" / f"raft_small-{begin}.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights.read_bytes())
    assert create_flow("raft_small").digest == create_flow(f"raft_small?weights={weights}").digest
    cached.write_bytes(weights.read_bytes() + b"!")
    with pytest.raises(WeightsError, match=f"is damaged, its sha256 does not begin with {begin}"):
        create_flow("raft_small")


class Harmful:
    """Pickled, it would run a function on loading."""

    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("how", ["cut", "foreign", "no state", "code"])
def test_files_that_are_no_weights_of_this_network_are_refused(weights, tmp_path, capsys, how):
    path = tmp_path / "w.pth"
    if how == "cut":
        path.write_bytes(weights.read_bytes()[:1000])
    elif how == "foreign":
        torch.save({"conv.weight": torch.zeros(3)}, path)
    elif how == "no state":
        torch.save([1, 2], path)
    else:
        torch.save({"a": Harmful()}, path)
    with pytest.raises(WeightsError) as error:
        create_flow(f"raft_small?weights={path}")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
