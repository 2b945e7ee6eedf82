"""Does bfloat16 change how steady the result is? OPW of both precisions with nvds-tiny; a part of `stabilizer`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np

from benchmarks.tiny_models import Footage, real, synthetic
from nvds_core.flow.base import create_flow
from nvds_core.metrics import opw_video
from nvds_core.models import create_model
from nvds_core.predictors.base import create_predictor
from nvds_core.stabilization import NvdsNetwork, prepare_frame, quantize_disparity, stabilize_stream

FRAMES = 16  # of each video
OPW_LIMIT = 0.01  # relative


def videos() -> Iterator[Footage]:
    """Two held-out synthetic scenes and the real footage, where that is present."""
    yield from islice(synthetic(), 2)
    yield from real()


def precision_opw() -> list[dict[str, Any]]:
    """Print OPW of the mean of both passes in fp32 and bf16 for each video; return the rows."""
    model, predictor, flow = create_model("nvds-tiny").eval(), create_predictor("tiny"), create_flow("dis")
    assert isinstance(model, NvdsNetwork)
    rows = []
    print(f"\nOPW of the trained nvds-tiny: mean of both passes, flow dis, {FRAMES} frames per video")
    for footage in videos():
        pictures = footage.pictures[:FRAMES]
        initial = predictor.predict(pictures)
        frames = [prepare_frame(p, quantize_disparity(d)) for p, d in zip(pictures, initial, strict=True)]
        rgb = pictures * 255.0
        backward_flow = np.stack([flow.estimate_to_previous(a, b) for a, b in pairwise(rgb)])
        row: dict[str, Any] = {"video": f"{footage.group} {footage.name}"}
        maps = {}
        for precision in ("fp32", "bf16"):
            results = list(stabilize_stream(model, frames, precision=precision))  # type: ignore[arg-type]
            maps[precision] = np.stack([(r.forward + r.backward) / 2 for r in results if r.backward is not None])
            row[precision] = opw_video(rgb, maps[precision], backward_flow).mean
        row["relative"] = row["bf16"] / row["fp32"] - 1
        row["difference"] = float(np.abs(maps["bf16"] - maps["fp32"]).max() / np.ptp(maps["fp32"]))
        rows.append(row)
        print(
            f"  {row['video']:28s} fp32 {row['fp32']:.5f}  bf16 {row['bf16']:.5f}  {100 * row['relative']:+.2f} %"
            f"   largest difference {100 * row['difference']:.2f} % of the range"
        )
    worst = max(abs(row["relative"]) for row in rows)
    print(f"  {'reached    ' if worst <= OPW_LIMIT else 'NOT REACHED'} {100 * worst:.2f} % <= {100 * OPW_LIMIT:.0f} %")
    return rows
