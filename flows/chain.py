"""The chain of one video: all steps in their order, and what became of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from flows.config import RunConfig
from flows.failures import explain
from flows.lanes import beside, lane
from flows.ledger import Outcome, peak_rss_mb
from flows.planning import VideoRefs, refs_of
from flows.tto import STEPS as TTO_STEPS
from flows.tto import optimize
from storage import StorageError, VideoRef
from tasks.caching import StepReturn, result_of
from tasks.flow_fields import estimate_flow
from tasks.frames import extract_frames
from tasks.initial import predict_initial
from tasks.publish import find_published, publish_video
from tasks.score import score_video
from tasks.stabilize import stabilize
from tasks.workers import flow_on_device, predictor
from tasks.workspace import StepResult, Workspace

STEPS = ("frames", "initial", *TTO_STEPS, "flow", "stabilized", "scores", "published")
DAMAGED = ("format", "incomplete")  # an intermediate that cannot be read: made anew by the next run
log = logging.getLogger("nvds")


def process_video(workspace: Workspace, video: VideoRef, config: RunConfig) -> Outcome:
    """Run one video through all steps; whatever goes wrong becomes a failed outcome that names the step."""
    started = time.perf_counter()
    refs, record, before = None, None, False
    steps = _Steps()
    failure: dict[str, Any] = {}
    try:
        refs = refs_of(video, config)
        record = find_published(workspace.out, video, refs.published)
        before = record is not None  # since the plan was made: another run, or this one in a process that died
        if record is None:
            _take_all(steps, workspace, video, refs, config)
            steps.raise_first()
            record = find_published(workspace.out, video, refs.published)
        if record is None:
            raise StorageError(f"{video.video_id}: published, but its record is not there", reason="storage")
    except Exception as error:
        failure = explain(video.video_id, steps.failed or steps.last or "plan", error)
    if refs is not None and (failure.get("reason") in DAMAGED or (not failure and config.keep == "results")):
        _discard(workspace, video, refs)
    return Outcome(
        video,
        "failed" if failure else "done",
        cached=before,
        key=refs.published.key if refs else None,
        seconds=time.perf_counter() - started,
        record=record,
        steps=steps.results,
        peak_rss_mb=peak_rss_mb(),
        **failure,
    )


def _take_all(steps: _Steps, workspace: Workspace, video: VideoRef, refs: VideoRefs, config: RunConfig) -> None:
    """All steps of one video. DIS runs beside the networks, a flow network before them; others use other lanes."""
    model, limits = predictor(config.predictor.name), config.limits
    described = {"config": {name: branch for name, branch in config.to_dict().items() if name != "workers"}}

    flow_is_network = refs.flow is not None and flow_on_device(config.flow.name)

    def flow() -> None:
        if refs.flow is not None:
            with lane("device" if flow_is_network else "flow"):
                steps.take("flow", lambda: estimate_flow(workspace, refs.frames, config.flow, limits))

    with lane("decode"):
        steps.take("frames", lambda: extract_frames(workspace, video, config.frames, model.short_side, model.multiple))
    if flow_is_network:
        flow()
    with nullcontext() if flow_is_network else beside(flow):
        with lane("device"):
            steps.take("initial", lambda: predict_initial(workspace, refs.frames, config.predictor, limits, video))
            if refs.tto is None:
                _stabilize(steps, workspace, refs, config)
        if refs.tto is not None and config.tto is not None:
            branches: Any = {"frames": config.frames, "predictor": config.predictor, "flow": config.flow}
            optimize(steps, workspace, video, refs.tto, config.tto, **branches)
            with lane("device"):
                _stabilize(steps, workspace, refs, config)
    with lane("finish"):
        if refs.scores is not None:
            steps.take("scores", lambda: score_video(workspace, refs.inputs))
        steps.take(
            "published", lambda: publish_video(workspace, video, refs.inputs, refs.scores, config.publish, described)
        )


def _stabilize(steps: _Steps, workspace: Workspace, refs: VideoRefs, config: RunConfig) -> None:
    def call() -> StepReturn:
        return stabilize(workspace, refs.frames, refs.disparity, config.stabilizer, config.limits)

    if refs.stabilized is not None:
        steps.take("stabilized", call)


class _Steps:
    """What became of the steps of one video, from whichever thread.

    A step does not begin after an error of an earlier one, so that the first failed step does not depend on timing.
    """

    def __init__(self) -> None:
        self._done: dict[str, StepResult] = {}
        self._errors: dict[str, Exception] = {}

    def take(self, step: str, call: Callable[[], StepReturn]) -> None:
        if any(earlier in self._errors for earlier in STEPS[: STEPS.index(step)]):
            return
        try:
            self._done[step] = result_of(call())
        except Exception as error:
            self._errors[step] = error

    @property
    def failed(self) -> str | None:
        """The first failed step in the order of the pipeline, whatever happened first."""
        return next((step for step in STEPS if step in self._errors), None)

    @property
    def last(self) -> str | None:
        return next((step for step in reversed(STEPS) if step in self._done), None)

    @property
    def results(self) -> tuple[tuple[str, StepResult], ...]:
        """Steps that came to their end, in the order of the pipeline."""
        return tuple((step, self._done[step]) for step in STEPS if step in self._done)

    def raise_first(self) -> None:
        if self.failed is not None:
            raise self._errors[self.failed]


def _discard(workspace: Workspace, video: VideoRef, refs: VideoRefs) -> None:
    try:
        for ref in refs.intermediates:
            for part, _, _ in workspace.store.parts(ref):
                workspace.store.discard(part)
            workspace.store.discard(ref)
        if refs.tto is not None:
            refs.tto.forget_progress(workspace)
    except StorageError as error:
        log.warning("%s: its intermediates were not removed: %s", video.video_id, error)
