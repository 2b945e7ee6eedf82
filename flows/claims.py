"""Several runs on one output: each video is worked on by one of them at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from flows.failures import explain
from flows.ledger import Outcome
from storage import StorageError, VideoRef
from storage.leases import Leases
from tasks.workspace import Workspace

LOOK_S = 1.0  # between looks at videos that another run holds


class Claims:
    """What one run holds of its output: itself, by name, and the videos it works on; a context manager.

    A video is held by its content, as two videos of the same content share their intermediates.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._run_id = workspace.run_id
        self._leases = Leases(workspace.out, workspace.run_id)

    def __enter__(self) -> Claims:
        self._leases.claim(f"run-{self._run_id}", {"run": True})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leases.close()

    def take(self, video: VideoRef) -> bool | Outcome:
        """Whether this run has the video now; a failed outcome if that cannot be written down."""
        try:
            return self._leases.claim(video.digest, {"video_id": video.video_id})
        except StorageError as error:
            return Outcome(video, "failed", **explain(video.video_id, "plan", error))

    def give_back(self, video: VideoRef) -> None:
        """Let others have the video."""
        self._leases.release(video.digest)

    def wait_for_any(self, videos: Sequence[VideoRef]) -> None:
        """Return once one of the videos, which others hold, is free."""
        while not any(self._leases.is_free(video.digest) for video in videos):
            time.sleep(LOOK_S)
