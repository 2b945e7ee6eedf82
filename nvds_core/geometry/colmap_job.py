"""One run of COLMAP: its settings, its files, and the process that does it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nvds_core.geometry.poses_lens import COLMAP_PIXEL_CENTRE
from nvds_core.types import ConfigError

WORKER = Path(__file__).with_name("colmap_worker.py")
LOG_LINES = 12
EXHAUSTIVE_FRAMES = 24
LEAST_FRAMES = 3
"""Two views of unknown scale and focal length can be explained by almost any motion."""

LEAST_POINTS = 20
"""Triangulated points a frame must see to count as registered; fewer do not fix its scale either."""

MAPPER = {
    "abs_pose_min_inlier_ratio": 0.5,
    "abs_pose_min_num_inliers": 50,
    "init_max_forward_motion": 1.0,
    "ba_local_num_images": 15,
}
"""Mapper thresholds of the released code of pseudo reference depth (libingzeng/video_depth)."""


@dataclass(frozen=True)
class ColmapConfig:
    """How COLMAP looks for poses.

    Attributes:
        matching: pairs of near frames, all pairs, or "auto": all pairs up to `EXHAUSTIVE_FRAMES` frames.
        overlap: near means this many frames to either side, and powers of two beyond.
        guided: match a second time along the epipolar lines; more matches for about twice the time.
        max_side: longer frames are reduced to it before features are sought.
        features: most features per frame.
        intrinsics: fx, fy, cx, cy in pixels of the frames where known (pixel centres at integers); None estimates one
            focal length, with the principal point in the middle.
        refine_intrinsics: improve a known focal length as well.
        threads: 1 makes the result repeatable; more are faster.
        time_limit: seconds after which COLMAP is stopped.
    """

    matching: Literal["auto", "sequential", "exhaustive"] = "auto"
    overlap: int = 10
    guided: bool = True
    max_side: int = 1600
    features: int = 4096
    intrinsics: tuple[float, float, float, float] | None = None
    refine_intrinsics: bool = False
    threads: int = 1
    time_limit: float = 3600.0

    def __post_init__(self) -> None:
        if self.matching not in ("auto", "sequential", "exhaustive"):
            raise ConfigError(f"matching {self.matching!r} is unknown; take auto, sequential or exhaustive")
        least = {"overlap": 1, "max_side": 64, "features": 64, "threads": 1, "time_limit": 0.1}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise ConfigError(f"COLMAP's {name} is {getattr(self, name)}; it must be at least {value:g}")


@dataclass(frozen=True)
class Run:
    """A finished process: its exit code (None when it ran out of time), its log, the arrays it left (or none)."""

    code: int | None
    log: str
    result: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def write_job(
    folder: Path, paths: Sequence[Path], masks: Mapping[str, Path], size: tuple[int, int], config: ColmapConfig
) -> Path:
    """Links to the pictures under numbers, since COLMAP orders by name, and the settings; returns the job's file."""
    pictures, mask_folder = folder / "pictures", folder / "masks"
    pictures.mkdir()
    mask_folder.mkdir()
    for index, path in enumerate(paths):
        number = f"{index:06d}{path.suffix.lower()}"
        (pictures / number).symlink_to(path.resolve())
        if path.name in masks:
            (mask_folder / f"{number}.png").symlink_to(Path(masks[path.name]).resolve())
    exhaustive = config.matching == "exhaustive" or (config.matching == "auto" and len(paths) <= EXHAUSTIVE_FRAMES)
    known = config.intrinsics
    job = {
        "folder": str(folder),
        "camera_model": "SIMPLE_PINHOLE" if known is None else "PINHOLE",
        "camera_params": [] if known is None else [*known[:2], *(value + COLMAP_PIXEL_CENTRE for value in known[2:])],
        "refine": known is None or config.refine_intrinsics,
        "masks": bool(masks),
        "matching": "exhaustive" if exhaustive else "sequential",
        "overlap": config.overlap,
        "guided": config.guided,
        "max_side": min(config.max_side, max(size)),
        "features": config.features,
        "threads": config.threads,
        "images": len(paths),
        "least_points": LEAST_POINTS,
        "smallest_model": LEAST_FRAMES,
        "mapper": MAPPER,
    }
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    return file


def run_job(job: Path, config: ColmapConfig) -> Run:
    """Run the worker on a job to its end, or to the time limit; stopped early, its process group goes with it."""
    log = job.with_name("log.txt")
    environment = {**os.environ, "OMP_NUM_THREADS": str(config.threads), "OPENBLAS_NUM_THREADS": str(config.threads)}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(job)],
            stdin=subprocess.PIPE,  # never written to: its end tells the worker that this process is gone
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env=environment,
        )
        try:
            code: int | None = process.wait(config.time_limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    result = job.with_name("result.npz")
    arrays: dict[str, NDArray[Any]] = {}
    if code == 0 and result.is_file():
        with np.load(result) as stored:
            arrays = dict(stored)
    return Run(code, log.read_text(encoding="utf-8", errors="replace"), arrays)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:  # not reaped yet, so its number still belongs to it
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def log_tail(log: str, lines: int = LOG_LINES) -> str:
    """The last lines of a log of COLMAP, without time stamps, stack traces and rules."""
    kept = [re.sub(r"^[IWEF]\d{8} [\d:.]+ +\d+ ", "", line).strip() for line in log.splitlines()]
    return "\n".join([line for line in kept if re.search(r"\w", line) and not line.startswith("@ ")][-lines:])
