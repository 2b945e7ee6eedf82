from __future__ import annotations

import numpy as np
import pytest

from nvds_core.stabilization.mixing import Choice, choose_mix, mix_passes


@pytest.mark.parametrize(
    ("initial", "forward", "backward", "expected"),
    [
        (0.5, 0.2, 0.3, "mean"),
        (0.5, 0.2, 0.5, "forward"),  # equal to the initial one is no improvement
        (0.5, 0.6, 0.3, "backward"),
        (0.1, 0.3, 0.2, "backward"),  # the initial disparity is never chosen
        (0.1, 0.2, 0.3, "forward"),
        (0.1, 0.2, 0.2, "backward"),  # forward only if strictly lower
    ],
)
def test_the_mix_follows_the_published_rule(initial: float, forward: float, backward: float, expected: str) -> None:
    assert choose_mix(initial, forward, backward) == expected


@pytest.mark.parametrize(("choice", "value"), [("mean", 2.0), ("forward", 1.0), ("backward", 3.0)])
def test_a_choice_gives_the_mean_or_one_of_the_passes(choice: Choice, value: float) -> None:
    mixed = mix_passes(choice, np.full((2, 3), 1, np.float32), np.full((2, 3), 3, np.float32))
    assert mixed.dtype == np.float32
    assert (mixed == value).all()
