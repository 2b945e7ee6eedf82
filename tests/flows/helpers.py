"""Runs on tiny videos, watched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flows.ledger import Outcome
from flows.planning import Plan
from flows.process import process_dataset
from flows.reporting import reporting
from storage import open_volume
from tests.nvds_core.video.makers import write_sound
from tests.tasks.helpers import clip, scenes

CONFIG: dict[str, Any] = {"frames": {"size": {"short_side": 64}}}


class Watcher:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.outcomes: list[Outcome] = []
        self.finished = 0

    def start(self, plan: Plan) -> None:
        self.plans.append(plan)

    def video(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def finish(self) -> None:
        self.finished += 1

    def named(self, name: str) -> Outcome:
        """The outcome of the video whose source is called so."""
        (found,) = [outcome for outcome in self.outcomes if outcome.video.name == name]
        return found


def make_inputs(folder: Path) -> Path:
    """Two good videos, one of them with a cut, and two that cannot be read."""
    folder.mkdir(parents=True)
    clip(folder / "one scene.mp4", 3)
    clip(folder / "two.mp4", scenes(2, 1))
    (folder / "corrupt.mp4").write_bytes(b"nonsense" * 50)
    write_sound(folder / "sound.mp4")
    return folder


def run(inputs: object, out: Path, **settings: Any) -> tuple[dict[str, Any], Watcher]:
    """The summary, and what was reported."""
    watcher = Watcher()
    with reporting(watcher):
        summary = process_dataset([str(inputs)], str(out), CONFIG | settings)
    return summary, watcher


def digests(out: Path) -> dict[str, str]:
    """Digest of the decoded values of every result of every video."""
    found: dict[str, str] = {}
    for folder in sorted((out / "videos").iterdir()):
        volume = open_volume(folder)
        found |= {f"{folder.name}/{result}": volume.digest(result) for result in volume.results}
    return found


def leftovers(out: Path) -> list[str]:
    """Half-written files and folders below an output."""
    hidden = (".tmp-", ".old-", ".new-")
    found = [str(path) for path in out.rglob("*") if path.name.startswith(hidden)]
    temporary = out / ".work" / ".tmp"
    return found + (os.listdir(temporary) if temporary.exists() else [])
