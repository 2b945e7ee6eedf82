from __future__ import annotations

import pytest
from prefect import flow

from nvds_core.types import DecodeError
from storage import ArtifactRef, StorageError
from tasks import caching
from tasks.caching import StepReturn, plain_steps, produce, result_of, step
from tests.tasks.helpers import workspace_in

REF = ArtifactRef("step", "0" * 40)


def test_an_artifact_that_exists_is_not_made_again(tmp_path):
    workspace = workspace_in(tmp_path)
    first = result_of(produce(workspace, REF, lambda folder: (folder / "a").write_text("four")))
    assert (first.cached, first.frames) == (False, 4)
    second = produce(workspace, REF, lambda folder: pytest.fail("made again"))
    assert second.name == "Cached"
    assert result_of(second).cached


@pytest.mark.parametrize("error", [DecodeError("no"), MemoryError(), KeyboardInterrupt()])
def test_a_broken_off_step_leaves_nothing_and_keeps_its_error(tmp_path, error):
    workspace = workspace_in(tmp_path)

    def fails(folder):
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(type(error)):
        produce(workspace, REF, fails)
    assert workspace.store.find(REF) is None
    assert list((workspace.store.root / ".tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectionError("reset"), 3),
        (StorageError("503", reason="transient"), 3),
        (StorageError("no space", reason="disk_full"), 1),
        (DecodeError("damaged"), 1),
        (MemoryError("too large"), 1),
    ],
)
def test_only_errors_that_may_go_away_are_tried_again(prefect_api, monkeypatch, error, attempts):
    monkeypatch.setattr(caching, "RETRY_DELAYS_S", [0, 0])
    tried = []

    @step(retry_delay_seconds=0)
    def fails() -> None:
        tried.append(1)
        raise error

    @flow
    def alone() -> None:
        with pytest.raises(type(error)):
            fails()

    alone()
    assert len(tried) == attempts
    with plain_steps(), pytest.raises(type(error)):
        fails()
    assert len(tried) == 2 * attempts, "as an ordinary call"


def test_a_cached_step_gives_its_result_through_prefect_as_well(prefect_api, tmp_path):
    workspace = workspace_in(tmp_path)

    @step()
    def make() -> StepReturn:
        return produce(workspace, REF, lambda folder: 7)

    @flow
    def twice() -> list[object]:
        return [result_of(make()), result_of(make())]

    first, second = twice()
    assert (first.cached, second.cached) == (False, True)
    assert first.ref == second.ref == REF
