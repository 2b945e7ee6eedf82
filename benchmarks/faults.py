"""Is anything lost, done twice or left behind when processes of a run are killed at any moment?

    python -m benchmarks.faults [main] [worker] [server] [disk] [readonly] [--moments 20] [--seed 0]

For every victim and every seeded random moment: `nvds run` on a few clips and a file that is no video, with two workers
or none in turn (a worker as the victim: always two); kill -9 of the main process, of a worker or of the built-in
Prefect server in the middle of it; the same command once more; `nvds clean`. The disk instead has a seeded random size,
too small, and room for the second run; or it becomes read-only at the moment, the first time before the run begins, and
writable again for the second run (a tmpfs, by root on Linux). Then must hold: the decoded values of all results are
those of an undisturbed run, every good video is published once, the bad one has its reason, no process of the run is
left, and no half-written file.
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

VICTIMS = ("main", "worker", "server", "disk", "readonly")
ROOM, LEAST_KB = "512m", 40.0
LIMIT_S = 600.0
NVDS = (sys.executable, "-c", "from flows.cli import main; main()")
CLIPS, FRAMES, SIZE, FPS = 4, 8, (96, 64), 12
PATIENCE_S = 30.0  # for processes to notice that the run they belong to is gone


def make_inputs(folder: Path, clips: int = CLIPS) -> Path:
    """Clips of different length, and a file that is no video."""
    from nvds_core.synthetic import make_scene, render_frame
    from nvds_core.video import write_h264

    folder.mkdir()
    for number in range(clips):
        scene = make_scene(20 + number, frames=FRAMES + 4 * number, size=SIZE)
        pictures = [render_frame(scene, index).rgb for index in range(scene.frames)]
        write_h264(folder / f"clip{number}.mp4", pictures, fps=FPS)
    (folder / "broken.mp4").write_bytes(b"nonsense" * 500)
    return folder


def command(inputs: Path, out: Path, workers: int) -> list[str]:
    size = f"{SIZE[0]}x{SIZE[1]}"
    return [*NVDS, "run", str(inputs), "--out", str(out), "--size", size, "--workers", str(workers), "--json"]


def finished(inputs: Path, out: Path, workers: int) -> tuple[dict[str, Any], float]:
    """An undisturbed run: its summary and its seconds."""
    started = time.monotonic()
    done = subprocess.run(command(inputs, out, workers), capture_output=True, text=True, timeout=LIMIT_S, check=False)
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
        run = subprocess.Popen(command(inputs, folder / "out", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        most = 0.0
        while run.poll() is None:
            most = max(most, psutil.disk_usage(str(folder)).used / 1e3)
            time.sleep(0.05)
        return most
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def too_small(inputs: Path, disk: Path, size_kb: float, workers: int) -> str:
    """A run on a disk of that size, which then gets room: how it ended."""
    mount(disk, f"{size_kb:.0f}k")
    try:
        ended = subprocess.run(
            command(inputs, disk / "out", workers), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    finally:
        mount(disk, ROOM, "remount")
    return how_it_ended(ended)


def read_only(inputs: Path, disk: Path, after_s: float, workers: int) -> str:
    """A run whose disk becomes read-only after some seconds, and writable again after it: how it ended."""
    mount(disk, ROOM)
    words = command(inputs, disk / "out", workers)
    if after_s <= 0:
        make_read_only(disk)
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if after_s > 0:
            time.sleep(after_s)
            make_read_only(disk)
        stdout, stderr = run.communicate(timeout=LIMIT_S)
    finally:
        run.kill()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    return how_it_ended(subprocess.CompletedProcess(words, run.returncode, stdout, stderr))


def make_read_only(disk: Path) -> None:
    """Linux refuses that while a file is open for writing; runs close theirs soon."""
    while subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True, check=False).returncode:
        time.sleep(0.02)


def how_it_ended(ended: subprocess.CompletedProcess[str]) -> str:
    """Exit code and finished videos of a run, or that it showed a traceback."""
    if "Traceback" in ended.stderr:
        return "with a traceback"
    if not ended.stdout:  # the last line of a run that could sum up
        return f"exit code {ended.returncode}, stopped"
    return f"exit code {ended.returncode}, {json.loads(ended.stdout.splitlines()[-1])['done']} done"


def disturbed(inputs: Path, out: Path, victim: str, after_s: float, workers: int) -> tuple[str, list[psutil.Process]]:
    """Begin a run and kill the victim after some seconds; what was hit, and all processes that there were."""
    run = subprocess.Popen(command(inputs, out, workers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


def fault(
    inputs: Path, folder: Path, victim: str, amount: float, workers: int, expected: dict[str, str]
) -> tuple[str, list[str]]:
    """One disturbed run in an empty folder, the run after it and `nvds clean`: what happened, and what does not hold.

    Args:
        amount: seconds until the fault; of the ``disk`` its size in KB.
    """
    family = list[psutil.Process]()
    folder.mkdir()
    try:
        if victim == "disk":
            what = f"disk of {amount:5.0f} KB ({too_small(inputs, folder, amount, workers)})"
        elif victim == "readonly":
            what = f"read-only after {amount:4.1f} s ({read_only(inputs, folder, amount, workers)})"
        else:
            hit, family = disturbed(inputs, folder / "out", victim, amount, workers)
            what = f"kill -9 {victim:6s} after {amount:4.1f} s ({hit})"
        again, _ = finished(inputs, folder / "out", workers)
        subprocess.run([*NVDS, "clean", str(folder / "out")], check=True, capture_output=True)
        wrong = problems(folder / "out", expected, family) + ["traceback"] * ("traceback" in what)
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", str(folder)], check=True)
    what += f", {again['cached']} of {again['done']} were done before"
    return f"{workers} workers, {what}", wrong


def matrix(scratch: Path, options: argparse.Namespace) -> int:
    """Print one line per fault; returns how many cost more than time."""
    inputs, bad = make_inputs(scratch / "in"), 0
    seconds = {}
    for workers in (0, 2):
        summary, seconds[workers] = finished(inputs, scratch / f"undisturbed-{workers}", workers)
        told = f"{summary['done']} done, {summary['failed']} failed, {seconds[workers]:.1f} s"
        print(f"undisturbed, {workers} workers: {told}", flush=True)
    expected = digests(scratch / "undisturbed-0")
    assert digests(scratch / "undisturbed-2") == expected
    for victim in options.victims or VICTIMS:
        moments = random.Random(f"{options.seed} {victim}")
        most = used_kb(inputs, scratch / "disk") if victim == "disk" else 0.0
        for number in range(options.moments):
            workers = 2 if victim == "worker" or number % 2 else 0
            amount = moments.uniform(LEAST_KB, most) if most else moments.uniform(0.0, seconds[workers])
            if victim == "readonly" and not number:
                amount = 0.0
            what, wrong = fault(inputs, scratch / f"{victim}-{number}", victim, amount, workers, expected)
            bad += bool(wrong)
            print(f"{what}: {'; '.join(wrong) or 'same values'}", flush=True)
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
