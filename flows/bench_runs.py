"""The runs behind a benchmark: one output folder per predictor and kind of run, all with the same intermediates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from flows.bench_inputs import BenchVideo
from flows.bench_rows import STABILIZED
from flows.config import RunConfig, load_config
from flows.launch import Job, execute
from flows.ledger import Outcome
from flows.planning import Plan, plan_run
from flows.reporting import Reporter, current_reporter, reporting
from flows.tto import TtoConfig
from nvds_core import memory
from nvds_core.types import ConfigError
from storage.catalog import read_record
from storage.locations import join, safe_name
from tasks.workspace import WORK_FOLDER, Workspace, make_workspace

TUNE_METHODS: dict[str, Literal["pseudo", "cvd"]] = {"tto": "pseudo", "cvd": "cvd"}


@dataclass(frozen=True)
class Ran:
    """What a run left of one video: where, its record if it is done, or why it failed."""

    workspace: Workspace
    video_id: str
    record: Mapping[str, Any] | None
    reason: str | None = None
    step: str | None = None
    message: str | None = None

    @property
    def untouched(self) -> tuple[str, str] | None:
        """Status and reason of a video that could not be optimised."""
        account = (self.record or {}).get("tto") or {"status": "ok"}
        return None if account["status"] == "ok" else (str(account["status"]), str(account["reason"]))

    @property
    def volume(self) -> str:
        """The URL of its volume."""
        return join(self.workspace.out, "videos", self.video_id)


def bench_config(path: Path | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Settings of all runs of a benchmark.

    Raises:
        ConfigError: settings that a benchmark has no use for.
    """
    config = load_config(path, overrides)
    if config.frames.limit is not None:
        raise ConfigError("frames.limit would cut videos after their truth was chosen; use --frames")
    if config.tto is not None and config.tto.poses.path is not None:
        raise ConfigError("tto.poses.path: a benchmark takes the poses of its data sets; leave it out")
    # A video of a data set is one shot, as the published scripts take it. Every step needs the same float maps.
    frames = dataclasses.replace(config.frames, cuts=dataclasses.replace(config.frames.cuts, enabled=False))
    publish = dataclasses.replace(config.publish, encoding="float32")
    score = dataclasses.replace(config.score, name="nvds")
    return dataclasses.replace(config, frames=frames, publish=publish, score=score, keep="all")


def main_config(config: RunConfig, predictor: str, methods: Sequence[str]) -> RunConfig:
    """Settings of the run behind initial, stabilised results and controls of one predictor."""
    wanted = [method for method in STABILIZED if method in methods]
    stabilizer = config.stabilizer
    if not wanted:
        stabilizer = dataclasses.replace(stabilizer, name="none")
    else:
        stabilizer = dataclasses.replace(stabilizer, direction="forward" if wanted == ["forward"] else "both")
    named = dataclasses.replace(config.predictor, name=predictor)
    return dataclasses.replace(config, predictor=named, stabilizer=stabilizer, tto=None)


def tuned_config(config: RunConfig, predictor: str, method: str, poses: Path | None) -> RunConfig:
    """Settings of a run of test-time optimisation; without `poses` COLMAP looks for them."""
    tto = config.tto or TtoConfig()
    tune = dataclasses.replace(tto.tune, method=TUNE_METHODS[method])
    given = dataclasses.replace(tto.poses, path=str(poses) if poses else None)
    return dataclasses.replace(
        config,
        predictor=dataclasses.replace(config.predictor, name=predictor),
        stabilizer=dataclasses.replace(config.stabilizer, name="none"),
        tto=dataclasses.replace(tto, tune=tune, poses=given),
    )


def run_main(out: Path, config: RunConfig, videos: Sequence[BenchVideo]) -> dict[Path, Ran]:
    """Run what is missing of all sets with one predictor; by the folder of each video.

    Runs of different passes have stores of their own, or each would replace the volumes of the other.
    """
    kept = {2: "", 1: "-forward", 0: "-initial"}[len(config.stabilizer.passes)]
    return _run(out, f"{safe_name(config.predictor.name, 60)}{kept}", config, videos)


def run_tuned(
    out: Path, config: RunConfig, predictor: str, method: str, videos: Sequence[BenchVideo]
) -> dict[Path, Ran]:
    """Run what is missing of test-time optimisation, with the sets' own poses where there are any."""
    name = f"{safe_name(predictor, 60)}-{method}"
    ran: dict[Path, Ran] = {}
    for dataset in dict.fromkeys(video.dataset.name for video in videos):
        members = [video for video in videos if video.dataset.name == dataset]
        posed = [video for video in members if video.poses is not None]
        if posed:
            settings = tuned_config(config, predictor, method, out / "poses" / dataset)
            ran |= _run(out, name, settings, posed)
        unposed = [video for video in members if video.poses is None]
        if unposed:
            ran |= _run(out, name, tuned_config(config, predictor, method, None), unposed)
    return ran


def peak_memory() -> tuple[float, float | None]:
    """Most memory of this process and of its GPU so far, megabytes; None without a GPU."""
    gpu = torch.cuda.max_memory_reserved() / 1e6 if torch.cuda.is_available() else None
    return memory.peak_memory(), gpu


def _run(out: Path, store: str, config: RunConfig, videos: Sequence[BenchVideo]) -> dict[Path, Ran]:
    """Outcomes by folder. All stores share `out/.work`, so that frames and flow are made once for all predictors."""
    workspace = dataclasses.replace(make_workspace(str(out / "stores" / store)), work=str(out.absolute() / WORK_FOLDER))
    present = [video for video in videos if video.problem is None]
    if not present:
        return {}
    plan = plan_run([str(video.folder) for video in present], workspace, config)
    outcomes = _Outcomes(current_reporter())
    with reporting(outcomes):
        execute(Job(plan, workspace, config))
    return dict(_ran(workspace, plan, outcomes.by_video))


def _ran(workspace: Workspace, plan: Plan, outcomes: Mapping[str, Outcome]) -> Iterable[tuple[Path, Ran]]:
    references = [*plan.videos, *plan.duplicates, *(bad.video for bad in plan.unreadable)]
    for reference in references:
        outcome = outcomes[reference.video_id]
        ran = Ran(workspace, reference.video_id, None, outcome.reason, outcome.step, outcome.message)
        if outcome.status == "done":
            ran = dataclasses.replace(ran, record=read_record(ran.volume))
        yield Path(reference.uri), ran


class _Outcomes:
    """Keeps the outcome of every video and passes it on to whoever watches."""

    def __init__(self, reporter: Reporter) -> None:
        self.by_video: dict[str, Outcome] = {}
        self._reporter = reporter

    def start(self, plan: Plan) -> None:
        self._reporter.start(plan)

    def video(self, outcome: Outcome) -> None:
        self.by_video[outcome.video.video_id] = outcome.slim
        self._reporter.video(outcome)

    def finish(self) -> None:
        self._reporter.finish()
