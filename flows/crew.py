"""The workers of one run as its main process sees them: jobs go out, messages come in."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from flows.cluster import cluster_address, visible_gpus
from flows.config import RunConfig
from flows.pieces import Piece, can_be_shared, process_piece
from flows.shards import process_shard, topic_of
from storage import ShardSpec
from tasks.memory import USABLE, free_memory
from tasks.workspace import Workspace

JOB = "job"
KEPT_MESSAGES = 10  # by Dask for developers; by default it keeps 1000, and Prefect puts its whole context into each


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

    @property
    def shares_videos(self) -> bool:
        """Whether several workers can, and are there to, work on one video."""
        return self.size > 1 and can_be_shared(self._workspace, self._config)

    def submit(self, job: ShardSpec | Piece, limits_s: Mapping[str, float]) -> Any:
        """Hand a job to whichever worker is free; its end comes into the inbox as ``(JOB, future)``."""
        process, name = (process_piece, "piece") if isinstance(job, Piece) else (process_shard, "shard")
        parameters = {"workspace": self._workspace, name: job, "config": self._config, "limits_s": limits_s}
        future = self._client.submit(process, parameters=parameters, return_type="state")
        future.add_done_callback(lambda done: self.inbox.put((JOB, done)))
        return future


@contextlib.contextmanager
def open_crew(workspace: Workspace, config: RunConfig) -> Iterator[Crew]:
    """Workers for the length of the block."""
    import dask
    from prefect_dask.client import PrefectDaskClient

    with (
        dask.config.set({"distributed.admin.low-level-log-length": KEPT_MESSAGES}),
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
