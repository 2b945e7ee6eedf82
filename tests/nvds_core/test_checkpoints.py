from __future__ import annotations

import contextlib
import hashlib
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nvds_core import WeightsError, create_model, load_state
from nvds_core.checkpoints import LISTED, file_digest, read_checkpoint, state_digest
from tests.fill import fill
from tests.nvds_core.stabilization.reference import filled, shared_file
from tests.nvds_core.weights_helpers import evil_files

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


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "safetensors under another name"])
def test_a_checkpoint_is_read_from_every_container_by_its_content(tmp_path: Path, kind: str) -> None:
    state, path = clone(fill(small_net())), tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind.startswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    assert same(read_checkpoint(path), state)
    assert same(read_checkpoint(str(path)), state)


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_beside_an_optimizer_are_found(tmp_path: Path, key: str) -> None:
    state = clone(fill(small_net()))
    optimizer = torch.optim.AdamW(small_net().parameters()).state_dict()
    torch.save({"epoch": 3, "optimizer": optimizer, key: state}, tmp_path / "w.pth")
    assert same(read_checkpoint(tmp_path / "w.pth"), state)


def test_a_file_that_would_run_code_is_refused_by_name_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    files = evil_files(tmp_path / "evil", marker)
    for path in files:
        with pytest.raises(WeightsError, match=path.name):
            read_checkpoint(path)
    with pytest.raises(WeightsError, match=r"refused, as it holds more than tensors \(\w+\.system\).*run code"):
        read_checkpoint(tmp_path / "evil" / "zip.pth")
    assert not marker.exists()
    torch.load(tmp_path / "evil" / "zip.pth", weights_only=False)  # the attack is real
    assert marker.exists()


def test_a_whole_pickled_model_is_refused_too(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: refused.*torch\.nn\.modules\.linear\.Linear.*state_dict alone"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_whatever_happens_to_a_file_the_error_is_about_weights(tmp_path: Path, kind: str) -> None:
    path, state = tmp_path / "w.pth", clone(small_net())
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    good, rng = path.read_bytes(), random.Random(0)
    for share in (0.0, 0.002, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(good[: int(share * len(good))])
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read_checkpoint(path)
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(3):
            bad[rng.randrange(min(len(bad), 700))] = rng.randrange(256)
        path.write_bytes(bad)
        with contextlib.suppress(WeightsError):  # some changes do no harm, or only to values
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "holds a list and no weights"),
        ({}, "no weights"),
        ({"model": {}}, "no weights"),
        ({"epoch": 1, "conv.weight": torch.ones(1)}, "no tensors: epoch; give a file with a state_dict"),
        ({0: torch.ones(1)}, "no tensors: 0"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=words):
        read_checkpoint(tmp_path / "w.pth")


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match=f"{path.name}: no such file"):
            read_checkpoint(path)


def test_tensors_can_be_taken_over_instead_of_copied() -> None:
    state = clone(fill(small_net()))
    state["0.weight"], halved = state["0.weight"].clone(), state["2.weight"].half()
    model = load_state(small_net(), state | {"2.weight": halved}, assign=True)
    assert model.get_parameter("0.weight").data_ptr() == state["0.weight"].data_ptr()
    assert model.get_parameter("0.weight").requires_grad
    assert model.get_parameter("2.weight").dtype == torch.float32
    assert torch.equal(model.get_parameter("2.weight"), halved.float())
    copied = load_state(small_net(), state)
    assert copied.get_parameter("0.weight").data_ptr() != state["0.weight"].data_ptr()


def test_taken_over_tensors_that_share_memory_are_parted() -> None:
    state, shared = clone(fill(small_net())), torch.arange(6.0)
    state |= {"0.bias": shared[:3], "1.bias": shared[3:], "1.weight": state["1.running_mean"]}
    model = load_state(small_net(), state, assign=True)
    with torch.no_grad():
        model.get_parameter("0.bias").zero_()
        model.get_parameter("1.weight").zero_()
    assert model.get_parameter("1.bias").tolist() == [3, 4, 5]
    assert shared.tolist() == [0, 1, 2, 3, 4, 5]
    assert bool(model.get_buffer("1.running_mean").any())
