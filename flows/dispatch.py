"""How the main process of a run leads its workers: deals out jobs, hears of every video, draws the line after deaths.

Prefect and Dask carry messages; what became of a video is decided here. A shard whose worker died is taken apart: its
unfinished videos go last, each as a shard of its own, so that the one that kills workers is found. A long video is
decoded by one worker, goes through the networks in blocks on all of them, and ends as a shard of its own, whose steps
find the blocks; whatever became of these, that shard decides.
"""

from __future__ import annotations

import logging
import pickle
import queue
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flows.claims import Claims
from flows.cluster import WorkersConfig
from flows.config import RunConfig
from flows.crew import JOB, Crew
from flows.failures import explain
from flows.ledger import Outcome
from flows.manifest import Manifest
from flows.pieces import Piece, limit_of
from flows.runs import UNTOLD_FRAMES
from flows.shards import BEGAN, ENDED, TIMED_OUT
from storage import ShardSpec, VideoRef
from tasks.parts import Span
from tasks.workspace import public_text

WORKER_DIED = "worker_died"
IN_FLIGHT = 2  # jobs per worker: one at work, one waiting, so that no worker waits for us
MOST_ATTEMPTS = 10  # at one video alone, for deaths that leave no trace of what was being worked on
LOOK_S = 1.0
log = logging.getLogger("nvds")


def work_with(crew: Crew, manifest: Manifest, config: RunConfig, claims: Claims) -> Generator[Outcome]:
    """Outcomes of all videos of a manifest, as they come."""
    long = manifest.long(config.workers.block_frames) if crew.shares_videos else []
    return _Dispatch(crew, claims, config, clip_limits(manifest, config)).run(manifest.shards, long)


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
    waiting: deque[ShardSpec | Piece] = field(default_factory=deque)
    flying: dict[Any, ShardSpec | Piece] = field(default_factory=dict)
    held: list[VideoRef] = field(default_factory=list)
    shared: dict[str, float] = field(default_factory=dict)  # long videos that are ours, since when
    blocks: Counter[str] = field(default_factory=Counter)  # of each that are to be done
    began: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    timed_out: set[str] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    shards: int = 0

    def run(self, shards: Sequence[ShardSpec], long: Sequence[VideoRef] = ()) -> Generator[Outcome]:
        self.waiting.extend(Piece(video) for video in long)
        for shard in shards:
            videos = tuple(video for video in shard.videos if video not in long)
            if videos:
                self.waiting.append(replace(shard, videos=videos))
        self.shards = len(shards)
        if long:
            log.info("%d long videos are shared among the workers", len(long))
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
            job = self.waiting.popleft()
            videos = (job.video,) if isinstance(job, Piece) else job.videos
            ours = []
            for video in videos:
                taken = video.video_id in self.shared or self.claims.take(video)
                if isinstance(taken, Outcome):
                    yield from self._settle(taken)
                elif taken:
                    ours.append(video)
                else:
                    self.held.append(video)
            if not ours:
                continue
            limits_s = {name: self.limits_s[name] for video in ours if (name := video.video_id) in self.limits_s}
            if isinstance(job, Piece):
                self.shared.setdefault(job.video.video_id, time.monotonic())
                limits_s = {name: limit_of(job, limit, self.config) for name, limit in limits_s.items()}
            else:
                job = replace(job, videos=tuple(ours))
            self.flying[self.crew.submit(job, limits_s)] = job

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
        elif what == JOB and about in self.flying:
            job = self.flying.pop(about)
            returned, failure = _ending_of(about)
            if isinstance(job, Piece):
                yield from self._end_piece(job, returned or [], failure)
            else:
                yield from self._end_shard(job, returned or [], failure)

    def _end_shard(self, shard: ShardSpec, outcomes: Sequence[Outcome], failure: Exception | None) -> Iterator[Outcome]:
        for outcome in outcomes:
            yield from self._settle(outcome)  # those whose message was lost
        left = [video for video in shard.videos if video.video_id not in self.settled]
        if left and failure is not None:
            why = "its worker died" if _is_death(failure) else f"lost by its worker ({public_text(failure)[:200]})"
            log.warning("shard %d: %s; %d videos to go", shard.index, why, len(left))
        again = []
        for video in left:
            self._give_back(video)
            verdict = None
            if video.video_id in self.timed_out or (failure is not None and len(shard.videos) == 1):
                verdict = self._verdict(video, video.video_id, self.limits_s.get(video.video_id, 0.0), failure)
            if verdict is None:
                again.append(video)
            else:
                yield from self._settle(verdict)
        self._apart(again)

    def _end_piece(self, piece: Piece, spans: Sequence[Span], failure: Exception | None) -> Iterator[Outcome]:
        """Go on with a long video. An error of a piece is nothing yet: the last job meets it again, if it is one."""
        video, name = piece.video, piece.video.video_id
        if name in self.settled:
            return
        if name in self.timed_out or _is_death(failure):
            limit_s = limit_of(piece, self.limits_s.get(name, 0.0), self.config)
            verdict = self._verdict(video, piece.name, limit_s, failure)
            if verdict is not None:
                yield from self._settle(verdict)
            else:
                log.warning("%s: its worker died; again", piece.name)
                self.waiting.append(piece)
            return
        if piece.span is None and len(spans) > 1:
            self.blocks[name] = len(spans)
            self.waiting.extendleft(Piece(video, span) for span in reversed(spans))
            return
        if piece.span is not None:
            self.blocks[name] -= 1
        if self.blocks[name] == 0:
            self.waiting.appendleft(self._alone(video))

    def _verdict(self, video: VideoRef, job: str, limit_s: float, failure: Exception | None) -> Outcome | None:
        """A failed outcome for a video that is to be given up, as a job on it alone has failed."""
        name = video.video_id
        if name in self.timed_out:
            message = f"{job}: not done after {limit_s:.0f} s (workers.clip_s, workers.frame_s); its worker was ended"
            return Outcome(video, "failed", reason=TIMED_OUT, step="worker", message=message)
        self.attempts[job] += 1
        # a job that waits behind another one dies with their worker: that says nothing about its video
        self.deaths[job] += job in self.began
        self.began.discard(job)
        if self.deaths[job] < self.config.workers.deaths and self.attempts[job] < MOST_ATTEMPTS:
            return None
        if failure is not None and not _is_death(failure):
            return Outcome(video, "failed", **explain(name, "worker", failure))
        message = f"{name}: {self.deaths[job]} workers died while they worked on it alone (out of memory, or a crash)"
        return Outcome(video, "failed", reason=WORKER_DIED, step="worker", message=message)

    def _settle(self, outcome: Outcome) -> Iterator[Outcome]:
        name = outcome.video.video_id
        if name not in self.settled:
            self.settled.add(name)
            if name in self.shared:
                outcome = replace(outcome, seconds=time.monotonic() - self.shared[name])
                self.waiting = deque(job for job in self.waiting if not _is_of(job, name))
            self._give_back(outcome.video)
            yield outcome

    def _give_back(self, video: VideoRef) -> None:
        self.claims.give_back(video)
        self.shared.pop(video.video_id, None)

    def _apart(self, videos: Sequence[VideoRef]) -> None:
        """Queue videos one by one, behind all others."""
        self.waiting.extend(self._alone(video) for video in videos)

    def _alone(self, video: VideoRef) -> ShardSpec:
        self.began.discard(video.video_id)
        self.shards += 1
        return ShardSpec(self.shards - 1, (video,), 0.0)


def _ending_of(future: Any) -> tuple[Any, Exception | None]:
    """What a job returned, or what went wrong: a dead worker, or whatever there is beneath our own code."""
    try:
        return future.result().result(), None
    except Exception as error:
        return None, error
    finally:
        future.release()


def _is_death(failure: Exception | None) -> bool:
    return type(failure).__name__ == "KilledWorker"


def _is_of(job: ShardSpec | Piece, video_id: str) -> bool:
    return isinstance(job, Piece) and job.video.video_id == video_id
