from __future__ import annotations

import numpy as np
import pytest

from nvds_core.types import ShapeError
from nvds_core.viz import (
    CAPTION_HEIGHT,
    GAP,
    INVALID,
    DisparityRange,
    flickering_column,
    frame_range,
    inferno,
    robust_range,
    side_by_side,
    strip_image,
    time_slice,
)


def test_inferno_is_matplotlibs_within_one_level():
    from matplotlib import colormaps

    unit = np.linspace(0, 1, 1000)
    theirs = colormaps["inferno"](unit, bytes=True)[:, :3]
    assert np.abs(inferno(unit).astype(int) - theirs.astype(int)).max() <= 1


def test_colours_match_the_golden_export(golden):
    exported = golden("midas/golden_export.npz")
    bgr, codes = exported["c1__inferno_bgr"], exported["c1__png16"]
    # the golden picture was made from 8 bits cut off, so the colours are those of the same 8 bits
    ours = inferno((codes.astype(np.float64) / 65535 * 255).astype(np.uint8) / 255)
    assert (np.abs(ours[..., ::-1].astype(int) - bgr).max(axis=2) > 12).mean() < 0.001


def test_values_beyond_the_range_take_the_end_colours_and_invalid_ones_are_grey():
    colours = DisparityRange(2.0, 4.0).colours(np.array([[0.0, 2.0, 4.0, 9.0, np.nan, np.inf]]))[0]
    assert (colours[0] == colours[1]).all()
    assert (colours[2] == colours[3]).all()
    assert tuple(colours[4]) == tuple(colours[5]) == INVALID


def test_one_range_gives_equal_values_equal_colours_in_all_frames():
    span = robust_range([np.array([0.0, 1.0]), np.array([5.0])], (0, 100))
    assert (span.low, span.high) == (0.0, 5.0)
    first, second = np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]])
    assert (span.colours(first)[0, 0] == span.colours(second)[0, 0]).all()
    assert not (frame_range(first).colours(first)[0, 1] == span.colours(second)[0, 1]).all()


def test_a_few_wild_pixels_do_not_widen_the_range():
    values = np.concatenate([np.linspace(0, 1, 10_000), [1e6]])
    assert robust_range([values]).high < 1.0


def test_a_range_without_any_finite_value_still_gives_colours():
    assert (robust_range([np.full((2, 2), np.nan)]).colours(np.full((2, 2), np.nan)) == INVALID).all()
    assert robust_range([]) == DisparityRange(0.0, 1.0)
    constant = np.full((2, 2), 3.0)
    assert (frame_range(constant).colours(constant) == inferno(np.zeros(1))[0]).all()


def test_a_time_slice_runs_from_left_to_right():
    volume = np.arange(4)[:, None, None] + np.zeros((4, 3, 5))
    assert time_slice(volume, 2).tolist() == [[0, 1, 2, 3]] * 3
    assert time_slice(np.zeros((4, 3, 5, 3), np.uint8), 0).shape == (3, 4, 3)
    with pytest.raises(ShapeError, match="column 5"):
        time_slice(volume, 5)


def test_the_flickering_column_is_where_values_jump_and_not_where_they_drift():
    volume = np.zeros((20, 8, 64))
    volume[:, :, 10:20] += np.arange(20)[:, None, None]  # steady change
    volume[::2, :, 40:48] += 0.5
    assert 40 <= flickering_column(volume) < 48
    assert flickering_column(volume[:2]) == 32


def test_panels_stand_side_by_side_under_their_labels():
    red, blue = np.zeros((10, 20, 3), np.uint8), np.zeros((10, 30, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    row = side_by_side([red, blue], ["a", "b"])
    assert row.shape == (10 + CAPTION_HEIGHT, 20 + GAP + 30, 3)
    assert (row[CAPTION_HEIGHT:, :20] == red).all()
    assert (row[CAPTION_HEIGHT:, 20 + GAP :] == blue).all()
    with pytest.raises(ShapeError, match="do not fit"):
        side_by_side([red, blue[:5]], ["a", "b"])


def test_a_strip_marks_the_column_and_stretches_the_slices():
    picture, piece = np.zeros((12, 20, 3), np.uint8), np.zeros((12, 5, 3), np.uint8)
    piece[:, 4] = 200
    strip = strip_image([picture, picture], [piece, piece], ["a", "b"], 7, scale=2)
    assert strip.shape == (2 * (24 + CAPTION_HEIGHT), 2 * 40 + GAP, 3)
    assert (strip[CAPTION_HEIGHT + 3, 14:16] == 255).all()
    lower = strip[24 + 2 * CAPTION_HEIGHT + 5, :40, 0]
    assert lower.tolist() == [0] * 32 + [200] * 8
