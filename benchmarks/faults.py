"""Is anything lost, done twice or left behind when processes of a run are killed at any moment?

    python -m benchmarks.faults [main] [worker] [server] [disk] [--moments 20] [--seed 0]

For every victim and every seeded random moment: `nvds run` with two workers on a few clips and a file that is no video;
kill -9 of the main process, of a worker or of the built-in Prefect server in the middle of it; the same command once
more; `nvds clean`. The disk instead has a seeded random size, too small, and room for the second run (a tmpfs, by root
on Linux). Then must hold: the decoded values of all results are those of an undisturbed run, every good video is
published once, the bad one has its reason, no process of the run is left, and no half-written file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from storage.tables import latest
from tests.flows.helpers import digests, leftovers

KILLED = ("main", "worker", "server")
VICTIMS = (*KILLED, "disk")
ROOM = "512m"
CLIPS, FRAMES, SIZE, FPS = 4, 8, (96, 64), 12
PATIENCE_S = 30.0  # for processes to notice that the run they belong to is gone


def make_inputs(folder: Path) -> Path:
    """Clips of different length, and a file that is no video."""
    from nvds_core.synthetic import make_scene, render_frame
    from nvds_core.video import write_h264

    folder.mkdir()
    for number in range(CLIPS):
        scene = make_scene(20 + number, frames=FRAMES + 4 * number, size=SIZE)
        pictures = [render_frame(scene, index).rgb for index in range(scene.frames)]
        write_h264(folder / f"clip{number}.mp4", pictures, fps=FPS)
    (folder / "broken.mp4").write_bytes(b"nonsense" * 500)
    return folder


def command(inputs: Path, out: Path) -> list[str]:
    size = f"{SIZE[0]}x{SIZE[1]}"
    nvds = [sys.executable, "-c", "from flows.cli import main; main()"]
    return [*nvds, "run", str(inputs), "--out", str(out), "--size", size, "--workers", "2", "--json"]


def finished(inputs: Path, out: Path) -> tuple[dict[str, Any], float]:
    """An undisturbed run: its summary and its seconds."""
    started = time.monotonic()
    done = subprocess.run(command(inputs, out), capture_output=True, text=True, timeout=600, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1])), time.monotonic() - started


def mount(folder: Path, size: str, *options: str) -> None:
    """A file system of its own, or another size for the one that is there.

    Raises:
        CalledProcessError, FileNotFoundError: this takes root on Linux.
    """
    folder.mkdir(exist_ok=True)
    flags = ",".join(("rw", *options, f"size={size}"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", flags, "tmpfs", str(folder)], check=True, capture_output=True)


def used_kb(inputs: Path, folder: Path) -> float:
    """The most that an undisturbed run takes of a disk, in KB."""
    mount(folder, ROOM)
    try:
        run = subprocess.Popen(command(inputs, folder / "out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        most = 0.0
        while run.poll() is None:
            most = max(most, psutil.disk_usage(str(folder)).used / 1e3)
            time.sleep(0.05)
        return most
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def too_small(inputs: Path, disk: Path, size_kb: float) -> str:
    """A run on a disk of that size, which then gets room: how it ended."""
    mount(disk, f"{size_kb:.0f}k")
    ended = subprocess.run(command(inputs, disk / "out"), capture_output=True, text=True, timeout=600, check=False)
    mount(disk, ROOM, "remount")
    if "Traceback" in ended.stderr:
        return "with a traceback"
    summary = json.loads(ended.stdout.splitlines()[-1]) if ended.returncode in (0, 1) else {"done": 0}
    return f"exit code {ended.returncode}, {summary['done']} done"


def disturbed(inputs: Path, out: Path, victim: str, after_s: float) -> tuple[str, list[psutil.Process]]:
    """Begin a run and kill the victim after some seconds; what was hit, and all processes that there were."""
    run = subprocess.Popen(command(inputs, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    main = psutil.Process(run.pid)
    family: dict[int, psutil.Process] = {run.pid: main}
    deadline, hit = time.monotonic() + after_s, ""
    while run.poll() is None:
        family |= {child.pid: child for child in main.children(recursive=True)} if main.is_running() else {}
        if time.monotonic() >= deadline and not hit:
            targets = [main] if victim == "main" else list(_named(victim, family.values()))
            if targets:  # a worker or a server that has not begun yet is waited for
                hit = f"pid {targets[0].pid}"
                targets[0].send_signal(signal.SIGKILL)
        time.sleep(0.05)
    return hit or "run was over", list(family.values())


def _named(victim: str, processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if ("server_process" in line) if victim == "server" else ("spawn_main" in line):
            yield process


def problems(out: Path, expected: dict[str, str], family: list[psutil.Process]) -> list[str]:
    """What does not hold after the second run and `nvds clean`."""
    found = []
    if digests(out) != expected:
        found.append("other values")
    rows = {row["video_id"]: row["reason"] for row in latest(str(out), "outcomes") if row["status"] != "done"}
    if list(rows.values()) != ["not_a_video"]:
        found.append(f"failures {sorted(rows.values())}")
    found += [f"left {name}" for name in leftovers(out)]
    deadline = time.monotonic() + PATIENCE_S
    while (alive := [one for one in family if _alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found + [f"process {one.pid} is left" for one in alive]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def matrix(scratch: Path, options: argparse.Namespace) -> int:
    """Print one line per disturbance; returns how many cost more than time."""
    moments, bad = random.Random(options.seed), 0
    inputs = make_inputs(scratch / "in")
    summary, seconds = finished(inputs, scratch / "undisturbed")
    expected = digests(scratch / "undisturbed")
    print(f"undisturbed: {summary['done']} done, {summary['failed']} failed, {seconds:.1f} s, {len(expected)} results")
    for victim in options.victims or VICTIMS:
        most = used_kb(inputs, scratch / "disk") if victim == "disk" else seconds
        for number in range(options.moments):
            amount = moments.uniform(0.0, most)
            folder = scratch / f"{victim}-{number}"
            if victim == "disk":
                what, family = f"disk of {amount:5.0f} KB ({too_small(inputs, folder, amount)})", []
            else:
                folder.mkdir()
                hit, family = disturbed(inputs, folder / "out", victim, amount)
                what = f"kill -9 {victim:6s} after {amount:5.1f} s ({hit})"
            again, _ = finished(inputs, folder / "out")
            nvds = [sys.executable, "-c", "from flows.cli import main; main()"]
            subprocess.run([*nvds, "clean", str(folder / "out")], check=True, capture_output=True)
            wrong = problems(folder / "out", expected, family) + ["traceback"] * ("traceback" in what)
            bad += bool(wrong)
            state = "; ".join(wrong) or f"same values, {again['cached']} of {again['done']} were done before"
            print(f"{what}: {state}", flush=True)
            if victim == "disk":
                subprocess.run(["umount", str(folder)], check=True)
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("victims", nargs="*", default=[], help=f"some of {', '.join(VICTIMS)}; all if none is named")
    parser.add_argument("--moments", type=int, default=20, help="random moments per victim")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.victims) - set(VICTIMS):
        parser.error(f"no such victim: {', '.join(sorted(unknown))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        bad = matrix(Path(scratch), options)
    count = options.moments * len(options.victims or VICTIMS)
    print(f"{'reached    ' if not bad else 'NOT REACHED'} {count - bad} of {count} cost nothing but time")


if __name__ == "__main__":
    main()
