"""How fast is the whole pipeline, what does the device do meanwhile, and how does it compare with the published order?

    python -m benchmarks.pipeline [--quick] [--models tiny published] [--sizes 448x192 896x384] [--json FILE]

Both orders of work (`benchmarks.pipelines`) run on the same clip, in the same process, with the same modules and random
weights (speed does not depend on weights). Per stage: seconds it was busy and its share of the wall time, which add up
to more than 1 where stages overlap. ``device`` is the share of the networks: all there is to gain by more overlap is
what it lacks to 1. Peak memory is that of the process so far on a CPU, that of the row on a GPU; there also tf32,
several batch sizes, and frames/s against the target.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.pipelines import Clock, Floats, Networks, overlapped, published_order
from nvds_core.flow.base import FlowEstimator, create_flow
from nvds_core.memory import keep_freed_memory, peak_memory
from nvds_core.models import create_model
from nvds_core.predictors.base import create_predictor
from tasks.precision import Precision

NETWORKS = {"tiny": ("tiny", "nvds-tiny", "dis"), "published": ("dpt-large", "nvds", "gmflow")}
SIZES = ("448x192", "896x384")
SOURCE = (1280, 544)  # of the clip, larger than both sizes, as sources are
# frames per clip: (models, size) -> count on a CPU; a GPU takes GPU_FRAMES
FRAMES = {("tiny", "448x192"): 48, ("tiny", "896x384"): 16, ("published", "448x192"): 8, ("published", "896x384"): 4}
QUICK_FRAMES, GPU_FRAMES = 4, 200
TARGET_FPS, TARGET_SIZE = 52.0, "896x384"  # 2,237,320 frames of VDW in 12 hours on one GPU
TARGET_RATIO: dict[str, float] = {"fp32": 2.0, "bf16": 4.0}


class RandomPredictor:
    """A published predictor with random weights, run as `nvds_core.predictors.published` runs it."""

    short_side, multiple, digest = 384, 32, "random"

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.model = create_model(name, pretrained=False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def predict(self, unit_rgb: NDArray[np.float64]) -> Floats:
        x = torch.from_numpy(((unit_rgb - 0.5) / 0.5).astype(np.float32)).permute(0, 3, 1, 2)
        disparity: Floats = self.model(x.to(self.device, memory_format=torch.channels_last)).float().cpu().numpy()
        return disparity


def make_networks(models: str, device: torch.device) -> Networks:
    """The networks of one column of the table."""
    predictor, stabilizer, flow = NETWORKS[models]
    bundled = models == "tiny"
    made_flow: FlowEstimator
    if bundled:
        made_flow = create_flow(flow)
    else:
        from nvds_core.flow.network_flow import NetworkFlow

        made_flow = NetworkFlow(create_model(flow, pretrained=False), name=flow, device=device)  # type: ignore[arg-type]
    return Networks(
        create_predictor(predictor, device) if bundled else RandomPredictor(predictor, device),
        create_model(stabilizer, pretrained=bundled).to(device),  # type: ignore[arg-type]
        made_flow,
        device,
    )


def textures(count: int) -> Iterator[NDArray[np.uint8]]:
    """RGB frames of a seeded random texture that moves two pixels per frame."""
    width, height = SOURCE
    coarse = np.random.default_rng(0).integers(0, 256, (height // 16, (width + 2 * count) // 16 + 1, 3), dtype=np.uint8)
    texture = coarse.repeat(16, axis=0).repeat(16, axis=1)
    for index in range(count):
        yield texture[:, 2 * index : 2 * index + width]


def clip_reader(folder: Path, count: int) -> Callable[[], Iterator[NDArray[np.uint8]]]:
    """A function that decodes the clip; where PyAV is missing it hands out the pictures themselves."""
    try:
        from nvds_core.video import open_video, write_h264
    except ImportError:
        return lambda: textures(count)
    path = folder / f"{count}.mp4"
    if not path.exists():
        write_h264(path, textures(count), fps=24)

    def read() -> Iterator[NDArray[np.uint8]]:
        with open_video(path) as reader:
            for frame in reader:
                yield frame.rgb

    return read


def measure(
    work: Callable[[], tuple[dict[str, Floats], Clock]], frames: int, networks: Networks
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Run `work` once and account for its time and memory."""
    cuda = networks.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    maps, clock = work()
    if cuda:
        torch.cuda.synchronize()
    wall = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if cuda else 1e6 * peak_memory()
    row = {
        "frames_per_s": frames / wall,
        "seconds_per_frame": wall / frames,
        "stages": {name: {"seconds": s, "share": s / wall} for name, s in clock.seconds.items()},
        "device": sum(clock.seconds.get(name, 0.0) for name in networks.device_stages) / wall,
        "peak_gb": peak / 1e9,
    }
    return row, maps


def compare(models: str, size: str, frames: int, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All rows of one model set at one size: the published order, then ours at every precision and batch."""
    device = torch.device(arguments.device)
    networks = make_networks(models, device)
    width, height = (int(side) for side in size.split("x"))
    read, scratch = clip_reader(folder, frames), folder / "results.bin"
    common = {"models": models, "size": size, "frames": frames}
    overlapped(clip_reader(folder, QUICK_FRAMES)(), networks, (width, height), scratch)  # first calls are slow
    rows, baseline, expected = [], 0.0, None
    if not arguments.no_published_order:
        row, expected = measure(lambda: published_order(read(), networks, (width, height), scratch), frames, networks)
        baseline = row["seconds_per_frame"]
        rows.append({**common, "order": "published", "precision": "fp32", "batch": 1, **row})
        say(rows[-1])
    for precision in arguments.precisions:
        for batch in arguments.batches:

            def work(precision: Precision = precision, batch: int = batch) -> tuple[dict[str, Floats], Clock]:
                together = batch if device.type == "cuda" else 1  # a CPU gains nothing from windows in batches
                return overlapped(
                    read(),
                    networks,
                    (width, height),
                    scratch,
                    precision=precision,
                    batch=batch,
                    stabilizer_batch=together,
                )

            row, maps = measure(work, frames, networks)
            row |= {"order": "ours", "precision": precision, "batch": batch}
            if expected is not None:
                row["ratio"] = baseline / row["seconds_per_frame"]
                row["difference"] = max(difference(maps[name], expected[name]) for name in ("initial", "forward"))
            rows.append({**common, **row})
            say(rows[-1])
    return rows


def difference(found: Floats, expected: Floats) -> float:
    """Largest difference as a share of the range of the expected values."""
    return float(np.abs(found - expected).max() / max(float(np.ptp(expected)), 1e-12))


def say(row: dict[str, Any]) -> None:
    """One measurement in a few lines."""
    head = f"{row['models']} {row['size']} {row['order']} order, {row['precision']}, batch {row['batch']}"
    text = f"{head}: {row['frames_per_s']:.3f} frames/s, device {row['device']:.0%}, peak {row['peak_gb']:.2f} GB"
    if "ratio" in row:
        target = TARGET_RATIO.get(row["precision"])
        text += f", {row['ratio']:.2f} x the published order" + (f" (target {target:.0f})" if target else "")
        text += f", largest difference {row['difference']:.1e} of the range"
    if row["size"] == TARGET_SIZE and row["models"] == "published" and row["order"] == "ours":
        text += f", {row['frames_per_s'] / TARGET_FPS:.3f} of the target of {TARGET_FPS:.0f} frames/s on a GPU"
    stages = ", ".join(f"{name} {stage['share']:.0%}" for name, stage in sorted(row["stages"].items()))
    print(f"{text}\n    {stages}", flush=True)


def hardware(device: torch.device) -> dict[str, Any]:
    """Names and numbers of what was measured on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    named: dict[str, Any] = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    named["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        named |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return named


def parse() -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FRAMES} frames, small size only")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=None)
    parser.add_argument("--frames", type=int, help="frames per clip")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 8, 16] if cuda else [4])
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--no-published-order", action="store_true", help="measure ours alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and the hardware's names")
    arguments = parser.parse_args()
    default = ["fp32", "tf32", "bf16"] if arguments.device.startswith("cuda") else ["fp32", "bf16"]
    arguments.precisions = arguments.precisions or default
    arguments.sizes = arguments.sizes or (SIZES[:1] if arguments.quick else SIZES)
    return arguments


def main() -> None:
    arguments = parse()
    keep_freed_memory()  # as workers do
    machine = hardware(torch.device(arguments.device))
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for models in arguments.models:
            for size in arguments.sizes:
                count = GPU_FRAMES if arguments.device.startswith("cuda") else FRAMES[models, size]
                count = arguments.frames or (QUICK_FRAMES if arguments.quick else count)
                rows += compare(models, size, count, arguments, Path(folder))
    if arguments.json:
        target = {"frames_per_s": TARGET_FPS, "size": TARGET_SIZE, "ratio": TARGET_RATIO}
        arguments.json.write_text(json.dumps({"hardware": machine, "target": target, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
