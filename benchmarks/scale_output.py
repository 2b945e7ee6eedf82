"""The records of a run over thousands of clips, half of them done, written without running it."""

from __future__ import annotations

from pathlib import Path

from flows.config import RunConfig
from flows.ledger import Ledger, Outcome
from flows.planning import Plan
from flows.runs import MANIFEST, begin_run
from storage import VideoRef
from storage.tables import append
from tasks.workspace import make_workspace

PARTS = 50  # that the outcomes lie in, as a run at work leaves them between two mergers
RESULT = {"mean": 0.5, "total": 3.5, "pairs": [0.5] * 7}
RECORD = {
    "frames": 8,
    "width": 96,
    "height": 64,
    "cuts": [],
    "mix_choices": ["mean"],
    "opw_protocol": "nvds",
    "weights": {"predictor": "p", "flow": "f", "stabilizer": "s"},
    "source": {"bytes": 5000, "width": 96, "height": 64, "fps": 12.0, "duration_s": 8 / 12},
    "opw": dict.fromkeys(("initial", "forward", "backward", "mix"), RESULT),
}


def pretend_run(out: Path, clips: int) -> str:
    """Write manifest, outcomes, catalog, timings and scores of half of the clips; returns the output folder."""
    workspace = make_workspace(str(out), "pretended")
    videos = [
        VideoRef(f"clip-{index:010x}", f"/clips/{index}.mp4", f"{index:064x}", "file", "clip") for index in range(clips)
    ]
    begin_run(Plan(tuple(videos), {}, (), (), inputs=("/clips",)), workspace, RunConfig(), devices=1)
    rows = [
        {"video_id": video.video_id, "uri": video.uri, "frames": 8, "width": 96, "height": 64, "state": "pending"}
        for video in videos
    ]
    append(workspace.out, MANIFEST, rows, run_id=workspace.run_id, part="plan")
    done = videos[: clips // 2]
    share = -(-len(done) // PARTS)
    ledger = Ledger(workspace)
    for first in range(0, len(done), share):
        for video in done[first : first + share]:
            ledger.add(Outcome(video, "done", key="k", seconds=1.0, record=RECORD))
        ledger.flush()
    return workspace.out
