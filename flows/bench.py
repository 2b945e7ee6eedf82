"""Benchmarks: data sets through the main job, scored against their truth, one row per video and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.bench_inputs import BenchVideo, open_sets, write_inputs
from flows.bench_maps import Box, Constant, Published, Source
from flows.bench_rows import (
    CONTROLS,
    IDENTITY,
    METHODS,
    RESULTS_FILE,
    RUNTIME_FILE,
    STABILIZED,
    TUNED,
    Row,
    claim,
    is_bench,
    precision_used,
    read_rows,
    write_rows,
)
from flows.bench_runs import Ran, main_config, run_main, run_tuned
from flows.bench_runtime import runtime_rows
from flows.bench_score import accuracy_figures, opw_figures
from flows.config import RunConfig
from flows.failures import explain
from flows.tto import TtoConfig
from nvds_core.metrics.alignment import Align
from nvds_core.tto.network import check_tunable
from nvds_core.types import ConfigError
from nvds_core.weights_cache import require_checkpoints
from storage import ArtifactRef, artifact_key, open_arrays, open_volume
from tasks import workers
from tasks.frames import FrameArtifact
from tasks.poses import check_poses

VERSION = 3  # of the scores: raise it when a figure changes its meaning
Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchConfig:
    """What is compared: sets, predictors, methods, how predictions are aligned to the truth; `run` is the rest."""

    sets: tuple[str, ...]
    predictors: tuple[str, ...]
    methods: tuple[str, ...]
    run: RunConfig
    align: Align = "video"
    frames: int | None = None

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods:
            raise ConfigError(f"methods {', '.join(unknown) or '(none)'}; choose from {', '.join(METHODS)}")
        if not self.predictors or len(set(self.predictors)) != len(self.predictors):
            raise ConfigError(f"predictors {', '.join(self.predictors) or '(none)'}; name each once")
        if self.run.stabilizer.name == "none" and set(self.methods) & set(STABILIZED):
            raise ConfigError("stabilizer none gives no forward, backward or mix; leave these methods out")

    @property
    def scored(self) -> tuple[str, ...]:
        """All methods in order; the controls are always there."""
        return tuple(method for method in METHODS if method in self.methods or method in CONTROLS)


def run_bench(config: BenchConfig, out: Path, say: Say = lambda text: None) -> list[Row]:
    """Run and score what is missing; returns the rows of this benchmark, which are written after each set.

    Raises:
        ConfigError: sets or settings that cannot be used.
        WeightsError: weights that are missing.
        StorageError: the output cannot be read or written.
    """
    before = read_rows(out, RESULTS_FILE) if is_bench(out) else []
    sets = open_sets(config.sets, config.frames, {row["set"]: row.get("place") for row in before})
    stabilizer, flow = config.run.stabilizer.name, config.run.flow.name
    require_checkpoints([*config.predictors, flow, *([stabilizer] if stabilizer != "none" else [])])
    tuned = bool(set(TUNED) & set(config.methods))
    for predictor in config.predictors:  # find out now what would fail for all videos
        network = workers.predictor(predictor)
        if tuned:
            check_tunable(network, predictor)
    claim(out)
    videos = [video for dataset in sets for video in write_inputs(out, dataset)]
    if tuned and any(video.poses is None for video in videos):
        check_poses((config.run.tto or TtoConfig()).poses)
    made: list[Row] = []
    for predictor in config.predictors:
        say(f"predictor {predictor}: {len(videos)} videos")
        runs = _runs(config, out, predictor, videos)
        known = {_identity(row): row for row in read_rows(out, RESULTS_FILE)}
        for dataset in sets:
            members = [video for video in videos if video.dataset is dataset]
            rows = [row for video in members for row in _score(config, out, predictor, video, runs, known)]
            _merge(out, RESULTS_FILE, rows)
            made += rows
        _merge(out, RUNTIME_FILE, runtime_rows(config.scored, predictor, videos, runs, read_rows(out, RUNTIME_FILE)))
    return made


def _runs(config: BenchConfig, out: Path, predictor: str, videos: Sequence[BenchVideo]) -> dict[str, dict[Path, Ran]]:
    """Outcomes by kind of run (``main`` or a tuned method) and folder."""
    runs = {"main": run_main(out, main_config(config.run, predictor, config.methods), videos)}
    for method in TUNED:
        if method in config.methods:
            runs[method] = run_tuned(out, config.run, predictor, method, videos)
    return runs


def _score(
    config: BenchConfig,
    out: Path,
    predictor: str,
    bench: BenchVideo,
    runs: Mapping[str, Mapping[Path, Ran]],
    known: Mapping[tuple[Any, ...], Row],
) -> list[Row]:
    """The rows of one video; those that were computed before from the same volumes and truth are taken as they are."""
    rans = {method: runs[method if method in TUNED else "main"].get(bench.folder) for method in config.scored}
    rows = {method: _described(config, predictor, bench, method, ran, out) for method, ran in rans.items()}
    done = {method: row for method, row in rows.items() if row["status"] == "done"}
    before = {method: known.get(_identity(row)) for method, row in done.items()}
    if all(row is not None and row["key"] == done[method]["key"] for method, row in before.items()):
        return [before.get(method) or row for method, row in rows.items()]
    try:
        _add_figures(config, bench, {method: ran for method, ran in rans.items() if ran is not None}, done)
    except Exception as error:  # truth that cannot be used costs one video
        failure = explain(bench.video.name, "truth", error)
        for row in done.values():
            row |= {"status": "failed", "key": None, **failure, "message": _public(failure["message"], out)}
    return list(rows.values())


def _add_figures(config: BenchConfig, bench: BenchVideo, rans: Mapping[str, Ran], done: Mapping[str, Row]) -> None:
    """Complete the rows of one video with its figures."""
    if not done:
        return
    ran = rans[next(iter(done))]  # any: all share the frames and the flow
    assert ran.record is not None, "a method is done only with a record"
    sources = {method: _source(method, rans[method]) for method in done}
    store, artifacts = ran.workspace.store, ran.record["artifacts"]
    pictures = FrameArtifact(store, ArtifactRef("frames", artifacts["frames"]))
    flow = open_arrays(store.path(ArtifactRef("flow", artifacts["flow"])) / "arrays")
    accuracy = accuracy_figures(sources, bench, config.align)
    for method, figures in opw_figures(sources, pictures, flow).items():
        done[method].update(figures, **accuracy[method])


def _source(method: str, ran: Ran) -> Source:
    volume = open_volume(ran.volume)
    if method == "constant":
        return Constant(volume.shape)
    if method == "box":
        return Box(Published(volume, "initial"))
    return Published(volume, "optimized" if method in TUNED else method)


def _described(config: BenchConfig, predictor: str, bench: BenchVideo, method: str, ran: Ran | None, out: Path) -> Row:
    """A row without figures: what it is about, what it was made with, or why there is nothing to score."""
    dataset = bench.dataset
    row: Row = {
        **dict(zip(IDENTITY, (dataset.name, bench.video.name, predictor, method), strict=True)),
        **{name: getattr(dataset, name) for name in ("kind", "place", "split", "quantity", "cap", "crop", "published")},
        "area": str(dataset.area) if dataset.area else None,
        "align": config.align if dataset.quantity == "depth" else None,
        "frame_digest": bench.frame_digest,
        "frames": len(bench.video.frame_names),
        "status": "done",
    }
    record = ran.record if ran is not None else None
    if record is None:
        return row | _failure(bench, ran, out)
    assert ran is not None, "a record comes from a run"
    if ran.untouched is not None:
        reason, words = ran.untouched
        row |= {"status": "failed", "step": "optimized", "reason": reason, "message": _public(words, out)}
    weights, stabilized = record["weights"], method in STABILIZED
    return row | {
        **{name: record[name] for name in ("video_id", "frames", "width", "height")},
        "pairs": record["frames"] - len(record["cuts"]) - 1,
        "precision": precision_used(record["config"], tuned=method in TUNED, stabilized=stabilized),
        "stabilizer": config.run.stabilizer.name if stabilized else None,
        "flow": config.run.flow.name,
        "predictor_digest": weights["predictor"],
        "stabilizer_digest": weights["stabilizer"] if stabilized else None,
        "flow_digest": weights["flow"],
        "choice": ",".join(map(str, record["mix_choices"])) if method == "mix" else None,
        "key": artifact_key(
            *("bench", VERSION, record["key"], method, bench.video.stamp(), config.align),
            *(dataset.cap, str(dataset.area), dataset.published),
        ),
    }


def _failure(bench: BenchVideo, ran: Ran | None, out: Path) -> Row:
    if bench.problem is not None:
        message, reason, step = str(bench.problem), bench.problem.reason, "frames"
    else:
        assert ran is not None, "a video whose frames are there is run"
        message, reason, step = ran.message or "", str(ran.reason), str(ran.step)
    return {"status": "failed", "step": step, "reason": reason, "message": _public(message, out)}


def _public(message: str, out: Path) -> str:
    """A message without the place of the output, so that tables do not depend on it."""
    return message.replace(str(out.absolute()), "OUT")


def _merge(out: Path, file: str, rows: list[Row]) -> None:
    """Write rows in the place of those of the same set, predictor and method; all others stay."""
    written = {(row["set"], row["predictor"], row["method"]) for row in rows}
    kept = [row for row in read_rows(out, file) if (row["set"], row["predictor"], row["method"]) not in written]
    write_rows(out, file, kept + rows)


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in IDENTITY)
