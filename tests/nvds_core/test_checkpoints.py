from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nvds_core import WeightsError, create_model, load_state
from nvds_core.checkpoints import LISTED, file_digest, state_digest
from tests.fill import fill
from tests.nvds_core.stabilization.reference import filled, shared_file

UNUSED = {"Stabilizer.conv_seg.weight": (1, 128, 1, 1), "Stabilizer.conv_seg.bias": (1,)}
INDEX_TABLE = "Stabilizer.decoder_focal.blocks.0.attn.relative_position_index"


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def clone(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def without(state: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not any(part in key for part in parts)}


def test_names_shapes_and_types_are_those_of_the_published_checkpoint() -> None:
    table = json.loads(shared_file("state_dict.json").read_text())
    with torch.device("meta"):
        own = create_model("nvds").state_dict()
    found = {k: [list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in own.items()}
    assert found == {k: entry[:2] for k, entry in table["keys"].items() if entry[2] != "unused"}
    assert {k: tuple(e[0]) for k, e in table["keys"].items() if e[2] == "unused"} == UNUSED
    assert len(own) + len(UNUSED) == table["n_keys"] == 1235
    integers = {k for k, v in own.items() if not v.is_floating_point()}
    assert integers == {k for k, entry in table["keys"].items() if entry[2] == "buffer"}


def test_the_full_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = create_model("nvds")
    never_read = 128 + 1  # conv_seg: stored in the checkpoint, no part of our network
    assert sum(p.numel() for p in model.parameters()) + never_read == 88_537_890


def test_a_published_style_checkpoint_loads_and_computes_the_same() -> None:
    source = filled("nvds-tiny")
    stored = {f"module.{k}": v for k, v in source.state_dict().items()}
    stored |= {f"module.{k}": torch.randn(shape) for k, shape in UNUSED.items()}
    model = create_model("nvds-tiny", pretrained=False)
    assert load_state(model, stored) is model
    assert same(clone(model), clone(source))
    window = torch.rand(1, 4, 4, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(window), source(window))


def test_index_tables_and_counters_may_be_absent() -> None:
    source = filled("nvds-tiny")
    parameters = {k: v for k, v in source.state_dict().items() if v.is_floating_point()}
    assert len(parameters) == len(source.state_dict()) - 24
    model = load_state(create_model("nvds-tiny", pretrained=False), parameters)
    assert same(clone(model), clone(source))
    source_net = fill(small_net())
    loaded = load_state(small_net(), without(clone(source_net), "num_batches_tracked"))
    assert same(clone(loaded), clone(source_net))


def test_a_counter_that_was_stored_is_taken_over() -> None:
    state = clone(fill(small_net()))
    state["1.num_batches_tracked"] = torch.tensor(77)
    assert int(load_state(small_net(), state).state_dict()["1.num_batches_tracked"]) == 77


def test_half_precision_weights_become_float32() -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in clone(fill(small_net())).items()}
    loaded = load_state(small_net(), state).state_dict()
    assert loaded["0.weight"].dtype == torch.float32
    assert torch.equal(loaded["0.weight"], state["0.weight"].float())


def test_every_missing_extra_and_wrongly_shaped_entry_is_named_and_the_model_stays_as_it_was() -> None:
    model = fill(small_net())
    before = clone(model)
    state = clone(fill(small_net()))
    del state["0.bias"], state["1.running_mean"]
    state |= {"3.weight": torch.zeros(2), "2.weight": torch.zeros(1, 4, 1, 1), "2.bias": torch.full((1,), 9.0)}
    with pytest.raises(WeightsError) as error:
        load_state(model, state)
    message = str(error.value)
    assert "Sequential" in message
    assert "2 missing: 0.bias, 1.running_mean" in message
    assert "1 extra: 3.weight" in message
    assert "1 of another shape: 2.weight (1, 4, 1, 1), expected (1, 3, 1, 1)" in message
    assert same(clone(model), before)
    assert error.value.reason == "weights"


def test_long_lists_of_names_are_cut_and_counted() -> None:
    extra = {f"other.{i:03}": torch.zeros(1) for i in range(LISTED + 5)}
    with pytest.raises(WeightsError) as error:
        load_state(small_net(), clone(small_net()) | extra)
    assert f"{LISTED + 5} extra: other.000" in str(error.value)
    assert str(error.value).endswith("and 5 more")


def test_a_differing_index_table_is_refused_by_name() -> None:
    model = create_model("nvds-tiny", pretrained=False)
    state = clone(filled("nvds-tiny"))
    state[INDEX_TABLE] = state[INDEX_TABLE].flip(0)
    before = clone(model)
    with pytest.raises(WeightsError, match=f"1 different index tables: {INDEX_TABLE}$"):
        load_state(model, state)
    assert same(clone(model), before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    model = fill(small_net())
    state, before = clone(small_net()), clone(model)
    state["2.weight"][0, 1] = value
    with pytest.raises(WeightsError, match=r"1 not finite: 2\.weight"):
        load_state(model, state)
    assert same(clone(model), before)


def test_the_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match="do not fit TinyPredictor"):
        load_state(create_model("tiny", pretrained=False), clone(filled("nvds-tiny")))


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one read
    (tmp_path / "weights.bin").write_bytes(content)
    assert file_digest(tmp_path / "weights.bin") == hashlib.sha256(content).hexdigest()


def test_the_digest_of_a_model_follows_its_values_names_and_shapes_only() -> None:
    model, twin = fill(small_net()), fill(small_net())
    digest = state_digest(model)
    assert state_digest(twin) == digest
    twin.get_buffer("1.num_batches_tracked").fill_(5)  # never enters an output
    assert state_digest(twin) == digest
    with torch.no_grad():
        twin.get_parameter("2.bias").add_(1e-3)
    assert state_digest(twin) != digest
    assert state_digest(nn.Sequential(model)) != digest
