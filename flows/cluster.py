"""Worker processes of a run: on this machine, one per GPU, or those of a Dask cluster that is there already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nvds_core.types import ConfigError

LOOPBACK = "127.0.0.1"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class WorkersConfig:
    """Who does the work; without either of the first two it is this process. No result depends on it.

    Attributes:
        count: worker processes on this machine; each gets a GPU of its own as far as there are, and its share of the
            processor cores and of the memory.
        scheduler: address of a running Dask scheduler, as ``tcp://host:8786``, whose workers do the work.
        deaths: a video is given up after so many workers have died of it.
        clip_s, frame_s: a worker that spends more than ``clip_s + frame_s * frames`` seconds on a video, beyond the
            time its neighbours took, is taken to hang: it is killed and the video given up. Optimising a video takes
            longer and has no such limit.
        block_frames: a video of more frames, and with more work than a sixteenth of the whole run, is computed by
            several workers in blocks of at most so many frames.
    """

    count: int = 0
    scheduler: str | None = None
    deaths: int = 2
    clip_s: float = 900.0
    frame_s: float = 30.0
    block_frames: int = 512

    def __post_init__(self) -> None:
        if self.count < 0 or self.deaths < 1:
            raise ConfigError(f"workers.count is {self.count}, workers.deaths {self.deaths}; at least 0 and 1")
        if self.clip_s <= 0 or self.frame_s < 0:
            raise ConfigError(f"workers.clip_s is {self.clip_s}, workers.frame_s {self.frame_s}; they must be positive")
        if self.block_frames < 1:
            raise ConfigError(f"workers.block_frames is {self.block_frames}; at least 1")
        if self.count and self.scheduler:
            raise ConfigError(f"workers: {self.count} processes of this machine or {self.scheduler}, not both")

    @property
    def wanted(self) -> bool:
        """Whether other processes do the work."""
        return self.count > 0 or self.scheduler is not None


@contextmanager
def cluster_address(config: WorkersConfig) -> Iterator[str]:
    """The scheduler to connect to; workers of this machine live as long as the block, or as this process.

    They are spawned, so a script that gets here needs the usual ``if __name__ == "__main__":``.
    """
    if config.scheduler is not None:
        yield config.scheduler
        return
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    # Before numpy and torch are loaded, as these read it then; a GPU's process needs cores for decoding all the same.
    threads = {name: max(1, _cores() // config.count) for name in THREAD_VARIABLES}
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical"}
    before_start: dict[str, Any] = {
        "distributed.nanny.pre-spawn-environ": _pre_spawn() | threads | quiet,
        # it looks at the frames of all threads, which before Python 3.11.9 and 3.12.3 can hang a process in which a
        # thread ends at that moment (python/cpython#106883), and ours begin and end threads all the time
        "distributed.worker.profile.enabled": False,
    }
    scheduler = {"cls": Scheduler, "options": {"host": LOOPBACK, "port": 0, "dashboard_address": f"{LOOPBACK}:0"}}
    # we count deaths ourselves, by video
    scheduler["options"] |= {"allowed_failures": 0}  # type: ignore[operator]
    workers = {number: {"cls": Nanny, "options": _worker(config, number)} for number in range(config.count)}
    with (
        same_environment(before_start["distributed.nanny.pre-spawn-environ"]),
        quiet_dask(),
        dask.config.set(before_start),
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
    ):
        yield cluster.scheduler_address


@contextmanager
def same_environment(names: Iterable[str]) -> Iterator[None]:
    """Take back what nannies put into the environment of this process for their workers: it would go before the
    settings of the next cluster."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def quiet_dask() -> Iterator[None]:
    """Nothing of Dask in the log: we say ourselves what a worker's death means."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES of one process per GPU may say."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()] if torch.cuda.is_available() else []
    return [str(number) for number in range(torch.cuda.device_count())]


def _worker(config: WorkersConfig, number: int) -> dict[str, Any]:
    from distributed.system import MEMORY_LIMIT

    gpus = visible_gpus()
    environment = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
    return {
        "nthreads": 1,
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",
        "memory_limit": MEMORY_LIMIT // config.count,
        "env": environment,
    }


def _pre_spawn() -> dict[str, Any]:
    import dask

    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ"))
    # With a fixed threshold glibc gives every tensor of 128 kB and more pages of its own and takes them back at once;
    # left alone it learns the sizes.
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    return environment


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
