"""Which settings ``nvds tto`` makes of a file and of its options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import commands_run
from flows.cli import app
from flows.config import RunConfig
from flows.tto import TtoConfig


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    """The settings that a command line would start a run with."""

    def given(*arguments: str) -> RunConfig:
        loaded: list[RunConfig] = []
        monkeypatch.setattr(commands_run, "start", lambda load, *_, **__: loaded.append(load()))
        done = CliRunner().invoke(app, ["tto", "room.mp4", "--out", "out", *arguments])
        assert done.exit_code == 0, done.output
        return loaded[0]

    return given


def test_no_option_at_all_still_optimises(settings: Callable[..., RunConfig]) -> None:
    assert settings().tto == TtoConfig()


def test_options_go_before_the_file_and_leave_its_other_settings(
    settings: Callable[..., RunConfig], tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("tto: {tune: {seed: 7, epochs: 3}}\nkeep: results\n")
    found = settings("--config", str(file), "--epochs", "5")
    assert found.tto is not None
    assert (found.tto.tune.seed, found.tto.tune.epochs, found.keep) == (7, 5, "results")


@pytest.mark.parametrize(
    ("of_file", "options", "expected"),
    [
        (None, "", "none"),
        (None, "--stabilize", "nvds-tiny"),
        (None, "--stabilize --stabilizer nvds", "nvds"),
        ("keep: all", "", "none"),
        ("stabilizer: {direction: forward}", "", "none"),
        ("stabilizer: {name: nvds}", "", "nvds"),
        ("stabilizer: {name: nvds}", "--stabilize", "nvds"),
        ("stabilizer: {name: nvds}", "--stabilizer nvds-tiny", "nvds-tiny"),
        ("stabilizer: {name: nvds}", "--no-stabilize", "none"),
        ("stabilizer: {name: none}", "", "none"),
        ("stabilizer: {name: none}", "--stabilize", "nvds-tiny"),
    ],
)
def test_the_stabiliser_is_that_of_the_file_unless_an_option_says_otherwise(
    settings: Callable[..., RunConfig], tmp_path: Path, of_file: str | None, options: str, expected: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(of_file or "")
    given = () if of_file is None else ("--config", str(file))
    assert settings(*given, *options.split()).stabilizer.name == expected


@pytest.mark.parametrize("options", [(), ("--no-stabilize",)])
def test_a_stabiliser_without_stabilising_is_refused(options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["tto", "room.mp4", "--out", "out", "--stabilizer", "nvds", *options])
    assert result.exit_code == 2
    assert result.stderr == "nvds: --stabilizer nvds says with what; give --stabilize to have it done\n"
