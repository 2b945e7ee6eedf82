"""How long does a report take to build, and how soon does its first page answer?

    python -m benchmarks.report [--videos 1000] [--rows 10000] [--loads 5] [--json FILE]

The output folder is made up (`benchmarks.made_output`). ``pages`` is a build without any player, ``again`` one in which
every video has a player that is kept: both are what a build costs beside encoding (target 60 s). ``encoding`` is one
player of 448x192, RGB decoded again included. In headless Chromium, medians over cold loads: ``table`` is when the
table is filled, ``interactive`` when the page has nothing left to do but to answer (target 2 s), ``player`` and
``curves`` when those of a video's page are there; ``sort`` and ``filter`` are one step on a table of ``--rows`` videos.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import chromium
from benchmarks.made_output import MadeOutput
from flows.report import build_report
from flows.report_media import MARKER, media_key
from storage import read_json, read_record, write_json_atomic

FAILED_SHARE = 0.03
PLAYER_SIZE, PLAYER_FRAMES = (448, 192), 48
MEASURED = ("table", "interactive", "player", "curves", "sort", "filter")
STEP = """(run) => new Promise((resolve) => {
    const begun = performance.now();
    new Function(run)();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begun), 0));
})"""
SORT = "document.querySelector('th[data-column=name] button').click()"
FILTER = "const q = document.getElementById('query'); q.value = '77'; q.dispatchEvent(new Event('input'))"


def made_run(out: Path, videos: int) -> MadeOutput:
    """Videos with random OPW, some of them failed."""
    made, rng = MadeOutput(out), np.random.default_rng(0)
    failed = round(videos * FAILED_SHARE)
    for index in range(videos - failed):
        before = (
            float(rng.lognormal(-1.0, 0.6)) if index else 9.0
        )  # the first flickers most, and so gets the one player
        opw = {
            "initial": before,
            "forward": before / 2,
            "backward": before / 2,
            "mix": before * float(rng.uniform(0.3, 0.8)),
        }
        first = "clip-00000" if index else None
        made.add(f"clip-{index:05d}", opw=opw, volume_of=first, seconds=float(rng.lognormal(2.5, 0.5)))
    for index in range(failed):
        reason = str(rng.choice(["decode", "not_a_video", "memory"], p=[0.6, 0.3, 0.1]))
        made.fail(f"bad-{index:05d}", uri=f"/videos/bad {index}.mp4", reason=reason)
    made.write_tables()
    return made


def built(out: Path, folder: Path, players: int | None = None) -> float:
    """Seconds of a build."""
    begun = time.perf_counter()
    build_report(str(out), folder, players=players)
    return time.perf_counter() - begun


def share_media(out: Path, folder: Path) -> None:
    """Give every finished video a copy of the first one's media, as if they had been encoded."""
    first = folder / "media" / "clip-00000"
    marker = read_json(first / MARKER)
    for volume in (out / "videos").iterdir():
        place = folder / "media" / volume.name
        if place != first:
            shutil.copytree(first, place)
            record = read_record(volume)
            assert record is not None
            write_json_atomic(place / MARKER, {**marker, "key": media_key(record)})


def encoding(root: Path) -> dict[str, Any]:
    """One player of a usual size."""
    made = MadeOutput(root / "out", frames=PLAYER_FRAMES, size=PLAYER_SIZE)
    made.add("clip", opw={"initial": 1.0, "mix": 0.5})
    made.write_tables()
    without = built(made.out, root / "report", players=0)
    seconds = built(made.out, root / "report") - without
    size = f"{PLAYER_SIZE[0]}x{PLAYER_SIZE[1]}"
    return {"size": size, "frames": PLAYER_FRAMES, "ms_per_frame": 1e3 * seconds / PLAYER_FRAMES}


def timed_pages(index: Path, large: Path, loads: int) -> dict[str, float]:
    """Milliseconds in Chromium, medians."""
    found: dict[str, list[float]] = {name: [] for name in MEASURED}
    with chromium() as browser:
        for _ in range(loads):
            page = browser.new_context(offline=True).new_page()
            page.goto(index.as_uri())
            page.wait_for_selector("html[data-interactive]", state="attached")
            marks = page.evaluate("({...document.documentElement.dataset})")
            found["table"].append(float(marks["table"]))
            found["interactive"].append(float(marks["interactive"]))
            page.goto((index.parent / "videos" / "clip-00000.html").as_uri())
            page.wait_for_selector("html[data-charts]", state="attached")
            marks = page.evaluate("({...document.documentElement.dataset})")
            found["player"].append(float(marks["player"]))
            found["curves"].append(float(marks["charts"]))
            page.goto(large.as_uri())
            page.wait_for_selector("html[data-interactive]", state="attached")
            found["sort"].append(page.evaluate(STEP, SORT))
            found["filter"].append(page.evaluate(STEP, FILTER))
            page.context.close()
    return {name: statistics.median(values) for name, values in found.items()}


def measured(videos: int, rows: int, loads: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="nvds-benchmark-") as scratch:
        root = Path(scratch)
        player = encoding(root / "one")
        made = made_run(root / "many" / "out", videos)
        folder = root / "many" / "report"
        pages = built(made.out, folder, players=0)
        built(made.out, folder, players=1)
        share_media(made.out, folder)
        again = built(made.out, folder)
        large = MadeOutput(root / "large" / "out")
        for index in range(rows):
            large.fail(f"bad-{index:06d}", uri=f"/videos/some folder/a long name of a video {index}.mp4")
        large.write_tables()
        build_report(str(large.out), root / "large" / "report")
        browser = timed_pages(folder / "index.html", root / "large" / "report" / "index.html", loads)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "videos": videos,
        "pages_s": pages,
        "again_s": again,
        "encoding": player,
        "rows": rows,
        "browser_ms": browser,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The figures as a table."""
    player, browser = result["encoding"], result["browser_ms"]
    return [
        f"machine: {result['machine']}",
        f"report of {result['videos']} videos, pages without players: {result['pages_s']:.1f} s (target 60 s)",
        f"report of {result['videos']} videos, all players kept: {result['again_s']:.1f} s (target 60 s)",
        f"encoding a player of {player['frames']} frames, {player['size']}: {player['ms_per_frame']:.1f} ms/frame",
        f"index of {result['videos']} videos in Chromium: table {browser['table']:.0f} ms, "
        f"interactive {browser['interactive']:.0f} ms (target 2000 ms)",
        f"page of a video: player {browser['player']:.0f} ms, curves {browser['curves']:.0f} ms",
        f"table of {result['rows']} videos: sort {browser['sort']:.0f} ms, filter {browser['filter']:.0f} ms",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measured(arguments.videos, arguments.rows, arguments.loads)
    print("\n".join(lines(result)))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
