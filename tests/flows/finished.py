"""One small run, made once per test session: a clip of two scenes that is done, and a file that is no video."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from flows.cli import app
from nvds_core.synthetic import make_scene, render_frame
from nvds_core.video import write_h264

SIZE, FRAMES, CUT, FPS = (64, 64), 6, 4, 12
SCENES = (("tabletop", 1, CUT), ("people", 2, 4))


@dataclass(frozen=True)
class FinishedRun:
    """Where everything lies, and what the command that made it printed."""

    clip: Path
    broken: Path
    out: Path
    stdout: str
    stderr: str
    exit_code: int

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON line at the end."""
        return dict(json.loads(self.stdout.splitlines()[-1]))

    @property
    def video_id(self) -> str:
        """The id of the video that is done."""
        [folder] = (self.out / "videos").iterdir()
        return folder.name


def nvds(*arguments: object, typed: str | None = None) -> Result:
    """Run a command in this process, with what is typed into it; an error that is no clear one is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def options(out: Path) -> list[object]:
    """The options of the one run, so that others find its work done."""
    return ["--out", out, "--size", f"{SIZE[0]}x{SIZE[1]}", "--frames", FRAMES, "--encoding", "float32"]


@cache
def finished_run() -> FinishedRun:
    """Make the run, or return the one made before; tests must leave its folder as it is."""
    root = Path(tempfile.mkdtemp(prefix="nvds-tests-run-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    clip, broken, out = root / "inputs" / "clip.mp4", root / "inputs" / "broken.mp4", root / "out"
    clip.parent.mkdir()
    pictures = []
    for kind, seed, count in SCENES:
        scene = make_scene(seed, frames=count, size=(96, 64), kind=kind)
        pictures += [render_frame(scene, index).rgb for index in range(count)]
    write_h264(clip, pictures, fps=FPS)
    broken.write_bytes(np.random.default_rng(0).bytes(5000))
    result = nvds("run", clip.parent, *options(out), "--json")
    return FinishedRun(clip, broken, out, result.stdout, result.stderr, result.exit_code)
