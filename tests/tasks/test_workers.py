"""How many videos a process takes at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tasks.memory import LimitsConfig
from tasks.workers import device, videos_at_once


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(device().type != "cpu", reason="networks run on an accelerator here")
@pytest.mark.parametrize(("count", "expected"), [(1, 3), (2, 1)])
def test_networks_on_several_threads_of_a_cpu_have_them_alone(threads: None, count: int, expected: int) -> None:
    torch.set_num_threads(count)
    assert videos_at_once(LimitsConfig()) == expected
    assert videos_at_once(LimitsConfig(videos=2)) == 2
