from __future__ import annotations

import pytest

from flows.config import RunConfig, build, load_config
from nvds_core.types import ConfigError


def test_a_config_written_as_yaml_reads_back_as_itself(tmp_path):
    config = load_config(None, {"frames.size.short_side": 96, "stabilizer.direction": "forward", "keep": "all"})
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path, {}) == config
    assert build(RunConfig, config.to_dict(), "config") == config
    assert load_config(path, {}).fingerprint() == config.fingerprint() != RunConfig().fingerprint()


def test_overrides_win_over_the_file_and_empty_branches_are_defaults(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("frames:\nstabilizer:\n  name: none\n  direction: forward\n")
    config = load_config(path, {"frames.limit": 3, "stabilizer.direction": "both"})
    assert config.frames.limit == 3
    assert (config.stabilizer.name, config.stabilizer.direction) == ("none", "both")
    path.write_text("")
    assert load_config(path, {}) == RunConfig()


def test_defaults_of_a_command_give_way_to_the_file_and_to_overrides(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("keep: results\nstabilizer:\n")
    defaults = {"keep": "all", "stabilizer.name": "none", "flow.name": "gmflow"}
    config = load_config(path, {"flow.name": "dis"}, defaults)
    assert (config.keep, config.stabilizer.name, config.flow.name) == ("results", "none", "dis")
    assert load_config(None, {}, defaults).keep == "all"


def test_whole_numbers_are_taken_where_fractions_are_meant():
    config = build(RunConfig, {"frames": {"cuts": {"threshold": 7}}}, "config")
    assert config.frames.cuts.threshold == 7.0
    assert isinstance(config.frames.cuts.threshold, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame: {}", r"unknown setting frame; known: frames, "),
        ("frames: {size: {short: 3}}", r"frames: size: unknown setting short"),
        ("frames: 3", r"frames: expected settings by name, got 3"),
        ("frames: {limit: many}", r"frames: limit is 'many', must be int or nothing"),
        ("frames: {limit: true}", r"limit is True, must be int"),
        ("frames: {limit: -1}", r"frames: limit is -1, must be 1 or more"),
        ("frames: {cuts: {threshold: .nan}}", r"threshold is nan, must be a finite number"),
        ("frames: {cuts: {enabled: 1}}", r"enabled is 1, must be bool"),
        ("stabilizer: {direction: sideways}", r"direction is 'sideways', must be one of 'both', 'forward'"),
        ("publish: {encoding: [uint16]}", r"must be one of 'uint16'"),
        ("- a list", r"expected settings by name, got a list"),
        ("{broken", r"not readable as YAML"),
        ("1: 2", r"unknown setting 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_the_file_and_the_name(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path, {})
    assert "run.yaml" in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_config(tmp_path / "absent.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_config(tmp_path / "binary.yaml", {})


def test_an_override_below_a_value_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("frames: 3")
    with pytest.raises(ConfigError, match="frames is 3"):
        load_config(path, {"frames.limit": 1})
