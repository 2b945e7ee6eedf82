"""Why a video was or was not optimised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

TuneStatus = Literal["ok", "no_poses", "no_pairs", "no_parallax", "diverged"]

FEWEST_VALID = 0.05  # share of the references' pixels


def material_status(kept_pairs: Sequence[tuple[int, int]], valid_shares: Sequence[float]) -> TuneStatus:
    """Whether there is enough to train on.

    Args:
        kept_pairs: see `keep_pairs`.
        valid_shares: of each frame, the share of its pixels that have a reference depth; 0 for frames without any.

    Returns:
        ``no_pairs`` where no pair overlaps enough, ``no_parallax`` where less than 5 % of all pixels have a reference,
        as for a camera that only turns or stands still; ``ok`` otherwise.
    """
    if not kept_pairs:
        return "no_pairs"
    share = sum(valid_shares) / len(valid_shares) if valid_shares else 0.0
    return "ok" if share >= FEWEST_VALID else "no_parallax"
