"""The main process of a run with workers: deals out shards, hears of every video, and draws the line after deaths.

Prefect and Dask carry messages; what became of a video is decided here. A shard whose worker died is taken apart: its
unfinished videos go last, each as a shard of its own, so that the one that kills workers is found.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import queue
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from flows.claims import Claims
from flows.cluster import WorkersConfig, cluster_address, visible_gpus
from flows.config import RunConfig
from flows.failures import explain
from flows.ledger import Outcome
from flows.manifest import Manifest
from flows.runs import UNTOLD_FRAMES
from flows.shards import BEGAN, ENDED, TIMED_OUT, process_shard, topic_of
from storage import ShardSpec, VideoRef
from tasks.memory import USABLE, free_memory
from tasks.workspace import Workspace

WORKER_DIED = "worker_died"
IN_FLIGHT = 2  # shards per worker: one at work, one waiting, so that no worker waits for us
MOST_ATTEMPTS = 10  # at one video alone, for deaths that leave no trace of what was being worked on
LOOK_S = 1.0
log = logging.getLogger("nvds")


class Crew:
    """The connection to the workers of one run."""

    def __init__(self, client: Any, workspace: Workspace, config: RunConfig) -> None:
        self._client, self._workspace, self._config = client, workspace, config
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        client.subscribe_topic(topic_of(workspace.run_id), lambda event: self.inbox.put(tuple(event[1])))

    @property
    def size(self) -> int:
        """How many workers there are."""
        return self._config.workers.count or max(1, len(self._client.nthreads()))

    def submit(self, shard: ShardSpec, limits_s: Mapping[str, float]) -> Any:
        """Hand a shard to whichever worker is free; its end comes into the inbox as ``("shard", future)``."""
        parameters = {"workspace": self._workspace, "shard": shard, "config": self._config, "limits_s": limits_s}
        future = self._client.submit(process_shard, parameters=parameters, return_type="state")
        future.add_done_callback(lambda done: self.inbox.put(("shard", done)))
        return future


@contextlib.contextmanager
def open_crew(workspace: Workspace, config: RunConfig) -> Iterator[Crew]:
    """Workers for the length of the block."""
    from prefect_dask.client import PrefectDaskClient

    with (
        cluster_address(config.workers) as address,
        PrefectDaskClient(address, set_as_default=False) as client,
    ):
        yield Crew(client, workspace, _with_shares(config))


def _with_shares(config: RunConfig) -> RunConfig:
    """Workers of this machine that compute on its processor share its memory."""
    count = config.workers.count
    if count < 2 or config.limits.max_memory is not None or visible_gpus():
        return config
    share = int(free_memory(torch.device("cpu")) * USABLE / count) >> 20
    return replace(config, limits=replace(config.limits, max_memory=f"{max(1, share)}M"))


def work_with(crew: Crew, manifest: Manifest, config: RunConfig, claims: Claims) -> Generator[Outcome]:
    """Outcomes of all videos of a manifest, as they come."""
    return _Dispatch(crew, claims, config, clip_limits(manifest, config)).run(manifest.shards)


def clip_limits(manifest: Manifest, config: RunConfig) -> dict[str, float]:
    """Seconds that a worker may spend on each video; none where videos are optimised."""
    if config.tto is not None:
        return {}
    allowed: WorkersConfig = config.workers
    return {
        row["video_id"]: allowed.clip_s + allowed.frame_s * (row.get("frames") or UNTOLD_FRAMES)
        for row in manifest.rows
    }


@dataclass
class _Dispatch:
    """What is waiting, what is in flight, and what is known of each video."""

    crew: Crew
    claims: Claims
    config: RunConfig
    limits_s: Mapping[str, float]
    waiting: deque[ShardSpec] = field(default_factory=deque)
    flying: dict[Any, ShardSpec] = field(default_factory=dict)
    held: list[VideoRef] = field(default_factory=list)
    began: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    timed_out: set[str] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    shards: int = 0

    def run(self, shards: Sequence[ShardSpec]) -> Generator[Outcome]:
        self.waiting.extend(shards)
        self.shards = len(shards)
        while self.waiting or self.flying or self.held:
            yield from self._submit()
            if self.flying:
                yield from self._hear()
            elif self.held:
                log.info("%d videos are held by another run; waiting for it", len(self.held))
                self.claims.wait_for_any(self.held)
                self._apart(self.held)
                self.held = []

    def _submit(self) -> Iterator[Outcome]:
        while self.waiting and len(self.flying) < IN_FLIGHT * self.crew.size:
            shard = self.waiting.popleft()
            ours = []
            for video in shard.videos:
                taken = self.claims.take(video)
                if isinstance(taken, Outcome):
                    yield from self._settle(taken)
                elif taken:
                    ours.append(video)
                else:
                    self.held.append(video)
            if ours:
                shard = replace(shard, videos=tuple(ours))
                limits_s = {name: self.limits_s[name] for video in ours if (name := video.video_id) in self.limits_s}
                self.flying[self.crew.submit(shard, limits_s)] = shard

    def _hear(self) -> Iterator[Outcome]:
        """Take the next message, if one comes."""
        try:
            what, about = self.crew.inbox.get(timeout=LOOK_S)
        except queue.Empty:
            return
        if what == BEGAN:
            self.began.add(about)
        elif what == TIMED_OUT:
            self.timed_out.add(about)
        elif what == ENDED:
            yield from self._settle(pickle.loads(about))
        elif about in self.flying:
            yield from self._end(about, self.flying.pop(about))

    def _end(self, future: Any, shard: ShardSpec) -> Iterator[Outcome]:
        failure: Exception | None = None
        try:
            for outcome in future.result().result():
                yield from self._settle(outcome)  # those whose message was lost
        except Exception as error:  # a dead worker, or whatever went wrong beneath our own code
            failure = error
        future.release()
        left = [video for video in shard.videos if video.video_id not in self.settled]
        if left and failure is not None:
            log.warning("shard %d: its worker died or lost the shard; %d videos to go", shard.index, len(left))
        again = []
        for video in left:
            self.claims.give_back(video)
            verdict = self._verdict(video, shard, failure)
            if verdict is None:
                again.append(video)
            else:
                yield from self._settle(verdict)
        self._apart(again)

    def _verdict(self, video: VideoRef, shard: ShardSpec, failure: Exception | None) -> Outcome | None:
        """A failed outcome for a video that is to be given up."""
        name = video.video_id
        if name in self.timed_out:
            limit = self.limits_s.get(name, 0.0)
            message = f"{name}: not done after {limit:.0f} s (workers.clip_s, workers.frame_s); its worker was ended"
            return Outcome(video, "failed", reason=TIMED_OUT, step="worker", message=message)
        if failure is None or len(shard.videos) > 1:
            return None
        self.attempts[name] += 1
        # a shard that waits behind another one dies with their worker: that says nothing about its video
        self.deaths[name] += name in self.began
        self.began.discard(name)
        if self.deaths[name] < self.config.workers.deaths and self.attempts[name] < MOST_ATTEMPTS:
            return None
        if type(failure).__name__ != "KilledWorker":
            return Outcome(video, "failed", **explain(name, "worker", failure))
        message = f"{name}: {self.deaths[name]} workers died while they worked on it alone (out of memory, or a crash)"
        return Outcome(video, "failed", reason=WORKER_DIED, step="worker", message=message)

    def _settle(self, outcome: Outcome) -> Iterator[Outcome]:
        name = outcome.video.video_id
        if name not in self.settled:
            self.settled.add(name)
            self.claims.give_back(outcome.video)
            yield outcome

    def _apart(self, videos: Sequence[VideoRef]) -> None:
        """Queue videos one by one, behind all others."""
        for video in videos:
            self.began.discard(video.video_id)
            self.waiting.append(ShardSpec(self.shards, (video,), 0.0))
            self.shards += 1
