"""What a worker process does with a shard: all of its videos, telling of each as it goes, and watched for hanging."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.chain import process_video
from flows.config import RunConfig
from flows.lanes import side_by_side
from flows.ledger import Outcome
from storage import ShardSpec, VideoRef
from tasks import workers
from tasks.caching import plain_steps
from tasks.workspace import Workspace

BEGAN, ENDED, TIMED_OUT = "began", "ended", "timed_out"
LOOK_S, FLUSH_S = 0.5, 1.0
HUNG = 87  # exit code of a worker that ends itself
Tell = Callable[[str, str | bytes], None]


def topic_of(run_id: str) -> str:
    """Where the workers of a run tell of their videos: (BEGAN, id), (ENDED, pickled outcome), (TIMED_OUT, id)."""
    return f"nvds-{run_id}"


@task(name="process-shard", task_run_name="shard-{shard.index}", cache_policy=NO_CACHE, persist_result=False)
def process_shard(
    workspace: Workspace, shard: ShardSpec, config: RunConfig, limits_s: Mapping[str, float]
) -> list[Outcome]:
    """Take every video of one shard to a stable volume; a bad one never stops its neighbours.

    The unit that Dask sees: its price per task (tens of milliseconds) is shared by the videos of the shard.

    Args:
        workspace: where to read and write.
        shard: the videos.
        config: settings of the run.
        limits_s: seconds that a video may take, by id; a video without an entry may take for ever.
    """
    tell = begin_work(workspace.run_id)

    def work(video: VideoRef) -> Outcome:
        tell(BEGAN, video.video_id)
        return process_clip(workspace, video, config)

    outcomes = []
    with watched(shard.videos, limits_s, lambda video: end_process(tell, video)) as settled:
        for outcome in side_by_side(work, shard.videos, workers.videos_at_once(config.limits)):
            settled()
            outcomes.append(outcome)
            tell(ENDED, pickle.dumps(outcome))
    return outcomes


@task(name="process-video", task_run_name="{video.video_id}", cache_policy=NO_CACHE, persist_result=False)
def process_clip(workspace: Workspace, video: VideoRef, config: RunConfig) -> Outcome:
    """Take one video of a shard through all steps, as one task: short clips are many."""
    with plain_steps():
        return process_video(workspace, video, config)


@contextmanager
def watched(
    videos: Sequence[VideoRef], limits_s: Mapping[str, float], hangs: Callable[[VideoRef], None]
) -> Iterator[Callable[[], None]]:
    """Call ``hangs(video)`` if the first of the videos that is not settled takes longer than its limit.

    The block calls what it is given whenever the next video in order is settled. Only the first is judged, from when it
    became the first: it has right of way in every lane, while the others may wait for it.
    """
    state = {"first": 0, "since": time.monotonic()}
    over = threading.Event()

    def settled() -> None:
        state.update(first=state["first"] + 1, since=time.monotonic())

    def watch() -> None:
        while not over.wait(LOOK_S):
            first, since = int(state["first"]), state["since"]
            if first >= len(videos):
                return
            limit = limits_s.get(videos[first].video_id)
            if limit is not None and time.monotonic() - since > limit and first == state["first"]:
                hangs(videos[first])
                return

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield settled
    finally:
        over.set()
        thread.join()


def begin_work(run_id: str) -> Tell:
    """Prepare this worker, and how it tells the main process of a run what happens."""
    from distributed import get_worker

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # Prefect would have it say everything
    workers.share_cores()
    worker, topic = get_worker(), topic_of(run_id)
    return lambda what, about: worker.log_event(topic, (what, about))


def end_process(tell: Tell, video: VideoRef) -> None:
    """End this process, as nothing else ends a thread that hangs; its nanny starts another."""
    tell(TIMED_OUT, video.video_id)
    time.sleep(FLUSH_S)  # the message leaves with the next beat of the worker's loop
    os._exit(HUNG)
