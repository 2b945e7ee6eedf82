from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nvds_core.synthetic import make_scene, render
from nvds_core.training import data as data_module
from nvds_core.training.data import SetConfig, open_set, render_set

SMALL = SetConfig(first_seed=40, scenes=3, frames=2, width=32, height=24)


@pytest.fixture(autouse=True)
def short_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "CHUNK", 2)


def test_a_set_holds_the_pictures_and_the_truth_of_its_seeds(tmp_path: Path) -> None:
    arrays = open_set(render_set(SMALL, tmp_path))
    clip = render(make_scene(41, frames=2, size=(32, 24)))
    expected = {
        "rgb": clip.rgb,
        "disparity": (1 / clip.depth).astype(np.float16),
        "flow_to_previous": clip.flow_to_previous.astype(np.float16),
        "flow_to_next": clip.flow_to_next.astype(np.float16),
        "visible_previous": ~clip.occluded_previous,
        "visible_next": ~clip.occluded_next,
    }
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert len(arrays[name]) == 3
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name][1], array, err_msg=name)


def test_a_set_without_flow_brings_pictures_and_disparity_only(tmp_path: Path) -> None:
    config = SetConfig(first_seed=40, scenes=1, frames=1, width=32, height=24, flow=False)
    arrays = open_set(render_set(config, tmp_path))
    assert {name: array.shape for name, array in arrays.items()} == {
        "rgb": (1, 1, 24, 32, 3),
        "disparity": (1, 1, 24, 32),
    }


def test_two_workers_render_the_bits_of_one(tmp_path: Path) -> None:
    one = open_set(render_set(SMALL, tmp_path / "one", workers=1))
    two = open_set(render_set(SMALL, tmp_path / "two", workers=2))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_set_appears_only_when_complete_and_a_broken_attempt_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / SMALL.name
    whole = data_module.render_chunk

    def breaking(config: SetConfig, start: int, stop: int) -> dict[str, np.ndarray]:
        assert not target.exists()
        if start > 0:
            raise OSError("interrupted")
        return whole(config, start, stop)

    monkeypatch.setattr(data_module, "render_chunk", breaking)
    with pytest.raises(OSError, match="interrupted"):
        render_set(SMALL, tmp_path)
    assert not target.exists()
    monkeypatch.setattr(data_module, "render_chunk", whole)
    assert render_set(SMALL, tmp_path) == target
    assert [path.name for path in tmp_path.iterdir()] == [SMALL.name]


def test_a_set_that_is_there_is_not_rendered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = render_set(SMALL, tmp_path)

    def never(config: SetConfig, start: int, stop: int) -> dict[str, np.ndarray]:
        raise AssertionError("rendered again")

    monkeypatch.setattr(data_module, "render_chunk", never)
    assert render_set(SMALL, tmp_path) == folder


def test_rendering_reports_how_far_it_is(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    render_set(SMALL, tmp_path, report=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_sets_that_differ_have_different_names() -> None:
    configs = [
        SMALL,
        SetConfig(41, 3, 2, 32, 24),
        SetConfig(40, 4, 2, 32, 24),
        SetConfig(40, 3, 1, 32, 24),
        SetConfig(40, 3, 2, 36, 24),
        SetConfig(40, 3, 2, 32, 28),
        SetConfig(40, 3, 2, 32, 24, flow=False),
    ]
    assert len({config.name for config in configs}) == len(configs)
