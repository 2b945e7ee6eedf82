"""Fine-tuning figures: AbsRel, OPW and time of the initial depth, CVD and the pseudo reference method in one run.

Part `tuning` of `python -m benchmarks.tto`. Flow is DIS and poses are given; both methods start from the same network,
alignment, flow and masks, and train for the same number of epochs on the pairs that each of them defines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.poses import SCENE
from benchmarks.tto_footage import Footage, Material, PairFlow, rgbd_footage, synthetic_footage
from nvds_core import tto
from nvds_core.metrics import opw_video, video_errors
from nvds_core.models import create_model
from nvds_core.tto.network import learning_rate_of

SIZE = (192, 144)
SYNTHETIC = ((900, "sideways"), (901, "diagonal"), (902, "forward"))  # the first seeds that are held out for tables
METHODS = ("initial", "cvd", "pseudo")
Row = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tuning")
    group.add_argument("--epochs", type=int, default=tto.TuneConfig.epochs, help="of each fine-tuning")
    group.add_argument("--learning-rate", type=float, default=learning_rate_of("tiny"))
    group.add_argument("--point-weight", type=float, default=tto.TuneConfig.point_weight)
    group.add_argument("--frames", type=int, default=16, help="of each synthetic video")
    group.add_argument("--real-frames", type=int, default=24, help="of rgbd_scene, 40 at most")
    group.add_argument("--video", default="", help="only the one of this name")


def scores(footage: Footage, depth: NDArray[np.float32], to_previous: NDArray[np.float32]) -> dict[str, float]:
    """AbsRel and delta1 after one scale per video; OPW of the inverse depth."""
    errors = video_errors(depth, footage.depth, align="median", space="depth", floor=None)
    opw = opw_video(footage.rgb, 1 / depth, to_previous).mean
    return {"abs_rel": errors.abs_rel, "delta1": errors.delta1, "opw": opw}


def reference_error(material: Material) -> dict[str, float]:
    """How good the references are after one scale."""
    truth, found = material.footage.depth, material.references
    ratio, confidence = [], []
    for frame, reference in found.items():
        known = reference.valid.numpy() & (truth[frame] > 0)
        ratio.append(reference.depth.numpy()[known] / truth[frame][known])
        confidence.append(reference.confidence.numpy()[known])
    error = np.abs(np.concatenate(ratio) / np.median(np.concatenate(ratio)) - 1)
    sure = np.concatenate(confidence) >= 3
    share = float(np.mean([float(reference.valid.float().mean()) for reference in found.values()]))
    return {"valid": share, "median": float(np.median(error)), "sure": float(np.median(error[sure]))}


def tune(footage: Footage, options: argparse.Namespace) -> Row:
    """All methods on one video. Seconds are those of the processor, the making of the references included."""
    material = Material(footage, PairFlow(footage.rgb, "dis"))
    to_previous = np.stack([material.pairs.flow[k + 1, k].numpy() for k in range(len(footage.rgb) - 1)])
    row: Row = {"video": footage.name, "frames": len(footage.rgb), "kept_pairs": len(material.pairs.kept) // 2}
    row |= {"references": reference_error(material), "methods": {}}
    for method in METHODS:
        model = create_model("tiny").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        video = material.video(method)
        alignment = tto.align_network(model, video)
        about: Row = {}
        if method != "initial":
            start = time.process_time()
            result = tto.finetune(model, video, alignment, _config(method, options))
            seconds = time.process_time() - start + (material.reference_seconds if method == "pseudo" else 0.0)
            losses = {"loss_before": result.validation[0], "loss_after": result.validation[result.best_epoch]}
            about = {"seconds": seconds, "pairs": len(video.pairs), "best_epoch": result.best_epoch, **losses}
        maps = torch.stack(list(tto.disparities(model, video, batch=4, device=torch.device("cpu"))))
        depth = (alignment.depth(maps) * alignment.unit).numpy()
        row["methods"][method] = {**scores(footage, depth, to_previous), **about}
    return row


def _config(method: str, options: argparse.Namespace) -> tto.TuneConfig:
    return tto.TuneConfig(
        method="cvd" if method == "cvd" else "pseudo",
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        point_weight=options.point_weight,
    )


def measure(options: argparse.Namespace, *, quiet: bool) -> list[Row]:
    """One row per video, shown as soon as it is there."""
    makers: dict[str, Callable[[], Footage]] = {
        f"synthetic-{motion}": partial(synthetic_footage, seed, motion, options.frames, SIZE)
        for seed, motion in SYNTHETIC
    }
    if SCENE.is_dir():
        makers["rgbd_scene"] = partial(rgbd_footage, options.real_frames, SIZE)
    elif not quiet:
        print("\nrgbd_scene: ../shared/data is not beside this checkout, left out")
    if options.video and options.video not in makers:
        raise SystemExit(f"--video {options.video}: no such video here; take one of {', '.join(makers)}")
    rows = []
    if not quiet:
        print(
            f"\nFine-tuning of tiny at {SIZE[0]}x{SIZE[1]}: {options.epochs} epochs, learning rate "
            f"{options.learning_rate:g}, weight of points {options.point_weight:g}, flow dis, given poses, one core\n"
            "| video | method | AbsRel | delta1 | OPW | training pairs | best epoch | loss | CPU s |\n"
            "|---|---|---|---|---|---|---|---|---|",
            flush=True,
        )
    for name, maker in makers.items():
        if options.video in ("", name):
            rows.append(tune(maker(), options))
            if not quiet:
                print("\n".join(lines_of(rows[-1])), flush=True)
    if not quiet:
        print("\n".join(summary(rows)))
    return rows


def lines_of(row: Row) -> list[str]:
    """Rows of the table, one per method."""
    lines = []
    for method, found in row["methods"].items():
        cells = [row["video"], method, f"{found['abs_rel']:.4f}", f"{found['delta1']:.3f}", f"{found['opw']:.3f}"]
        if method == "initial":
            cells += [""] * 4
        else:
            loss = f"{found['loss_before']:.4f} to {found['loss_after']:.4f}"
            cells += [str(found["pairs"]), str(found["best_epoch"]), loss, f"{found['seconds']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def summary(rows: list[Row]) -> list[str]:
    """What the table says, per video and on the whole."""
    lines = [""]
    for row in rows:
        initial, cvd, pseudo = (row["methods"][method] for method in METHODS)
        about = row["references"]
        change = {m: row["methods"][m]["abs_rel"] / initial["abs_rel"] - 1 for m in METHODS}
        lines.append(
            f"{row['video']}: {row['frames']} frames, {row['kept_pairs']} pairs; references on {about['valid']:.0%} of "
            f"the pixels, median error {about['median']:.3f}, {about['sure']:.3f} where 3 or more agree; AbsRel of "
            f"pseudo {change['pseudo']:+.0%}, of CVD {change['cvd']:+.0%}; "
            f"time CVD / pseudo {cvd['seconds'] / pseudo['seconds']:.2f}"
        )
    total = {m: [row["methods"][m] for row in rows] for m in METHODS}
    mean = {m: float(np.mean([found["abs_rel"] for found in total[m]])) for m in METHODS}
    seconds = {m: sum(found["seconds"] for found in total[m]) for m in METHODS[1:]}
    lines.append(
        f"mean of {len(rows)} videos: AbsRel {mean['initial']:.4f} initial, {mean['cvd']:.4f} CVD, "
        f"{mean['pseudo']:.4f} pseudo "
        f"({mean['pseudo'] / mean['initial'] - 1:+.0%}); time CVD / pseudo {seconds['cvd'] / seconds['pseudo']:.2f}"
    )
    return lines
