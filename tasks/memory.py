"""How much memory a step may use, and batches that fit into it: chosen beforehand, halved when it was too much."""

from __future__ import annotations

import gc
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch

from nvds_core.types import ConfigError

log = logging.getLogger("nvds")

MEMORY_WORDS = ("can't allocate memory", "out of memory", "insufficient memory")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_CGROUP = Path("/sys/fs/cgroup")

# Of what is free: other steps of the same and of neighbouring videos are at work, and allocators round up.
USABLE = 0.5

R = TypeVar("R")


@dataclass(frozen=True)
class LimitsConfig:
    """What a run may take of the machine. It never enters a key: results do not depend on it beyond rounding.

    Attributes:
        max_memory: bytes that batches are cut to fit in, as text such as ``8G`` or ``512M``; None takes a share of
            what is free when a step begins.
        batch: frames at once at most, whatever the memory; None leaves it to each step.
        videos: videos of one worker under way at the same time, in different steps; None leaves it to the machine
            (`tasks.workers.videos_at_once`).
    """

    max_memory: str | None = None
    batch: int | None = None
    videos: int | None = None

    def __post_init__(self) -> None:
        if self.max_memory is not None:
            parse_bytes(self.max_memory)
        for name, value in (("batch", self.batch), ("videos", self.videos)):
            if value is not None and value < 1:
                raise ConfigError(f"limits.{name} is {value}, must be 1 or more")

    def budget(self, device: torch.device) -> int:
        """Bytes that one batch may take on `device`."""
        free = int(free_memory(device) * USABLE)
        return free if self.max_memory is None else min(free, parse_bytes(self.max_memory))


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``8G``, ``1.5GiB``, ``512M`` (powers of 1024).

    Raises:
        ConfigError: no such size, or zero.
    """
    match = _SIZE.fullmatch(text.strip())
    number = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if number < 1:
        raise ConfigError(f"memory {text!r} is not a size; write it as 8G or 512M")
    return number


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated, counting what torch caches; on a CPU within the limits of the container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return min(_available(), _container_free())


def _available() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not Linux: half of all there is


def _container_free(root: Path = _CGROUP) -> int:
    """What a control group (version 2) leaves; page cache counts as used there but is given back."""
    with suppress(OSError, ValueError, IndexError):
        limit = int((root / "memory.max").read_text())
        fields = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        used = int((root / "memory.current").read_text()) - int(fields.get("inactive_file", 0))
        return max(0, limit - used)
    return 2**62


def is_memory_error(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # these two libraries report exhausted memory of the CPU by words only
    return isinstance(error, RuntimeError | cv2.error) and any(word in str(error).lower() for word in MEMORY_WORDS)


def release_memory() -> None:
    """Give back what a failed step held, so that the next one has the room."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Batches:
    """The batch size of one model at one picture size: chosen once from the budget, smaller after every exhaustion.

    Where memory is the limit sizes are powers of two, so that a little more or less of it does not change them. Not for
    several threads at once.
    """

    def __init__(self, what: str, *, most: int, item_bytes: int, budget: int) -> None:
        """`most` is the largest batch that pays; `item_bytes` what one item of it takes, by estimate."""
        self.what = what
        fitting = max(1, budget // max(1, item_bytes))
        self.size = most if fitting >= most else 1 << (fitting.bit_length() - 1)
        if self.size < most:
            log.info("%s: batches of %d, as %.2f GB of memory may be used", what, self.size, budget / 1e9)

    def map(self, compute: Callable[[Any], R], items: Any) -> Iterator[R]:
        """``compute`` of consecutive parts of `items` (array, tensor or list); one that does not fit is halved.

        Raises:
            MemoryError, torch.OutOfMemoryError: a single item does not fit.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            result = self._try(compute, part)
            if result is not None:
                start += len(part)
                yield result[0]

    def _try(self, compute: Callable[[Any], R], part: Any) -> tuple[R] | None:
        try:
            return (compute(part),)
        except Exception as error:
            if not is_memory_error(error) or len(part) == 1:
                raise
        # outside the handler: the error holds the frames of the failed attempt, and with them its memory
        self.shrink(len(part))
        return None

    def shrink(self, tried: int) -> None:
        """Go on with smaller batches, as one of `tried` items, which are several, did not fit."""
        release_memory()
        self.size = 1 << ((tried - 1).bit_length() - 1)
        log.warning("%s: memory ran out with batches of %d, going on with %d", self.what, tried, self.size)


_CHOSEN: dict[tuple[object, ...], Batches] = {}
_CHOOSING = threading.Lock()


def batches(what: str, *key: object, most: int, item_bytes: int, device: torch.device, limits: LimitsConfig) -> Batches:
    """The batch size of `what` for this process, as found so far: what ran out of memory once is not tried again."""
    most = most if limits.batch is None else min(most, limits.batch)
    wanted = (what, *key, str(device), limits, most)
    with _CHOOSING:
        if wanted not in _CHOSEN:
            _CHOSEN[wanted] = Batches(what, most=most, item_bytes=item_bytes, budget=limits.budget(device))
        return _CHOSEN[wanted]
