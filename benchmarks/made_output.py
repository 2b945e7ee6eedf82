"""Output folders as ``nvds run`` leaves them, written straight: thousands of videos in seconds, without any network."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from nvds_core.synthetic import make_scene, render_frame
from nvds_core.video import content_digest, write_h264
from storage import VolumeWriter, artifact_key, write_json_atomic, write_record
from storage.settled import STORE_FILE
from storage.tables import append
from tasks.workspace import STORE_FORMAT

START = datetime(2026, 1, 1, tzinfo=UTC)
RUN, FPS = "20260101T000000-made", 12
PASSES = ("initial", "forward", "backward", "mix")


class MadeOutput:
    """An output folder that is filled video by video; every video of it shares one clip of two scenes.

    Args:
        out: a new folder.
        frames: of the clip, half of them in each scene.
        size: (width, height) of clip and volumes.
    """

    def __init__(self, out: Path, *, frames: int = 12, size: tuple[int, int] = (64, 48)) -> None:
        self.out, self.frames, self.size, self.cut = out, frames, size, frames // 2
        self._rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("catalog", "outcomes", "scores", "timings")
        }
        out.mkdir(parents=True)
        self.clip = out.parent / "clip.mp4"
        scenes = [
            make_scene(seed, frames=self.cut, size=size, kind=kind) for seed, kind in ((1, "tabletop"), (2, "room"))
        ]
        rendered = [render_frame(scene, index) for scene in scenes for index in range(self.cut)]
        write_h264(self.clip, [frame.rgb for frame in rendered], fps=FPS)
        self.digest = content_digest(self.clip)
        truth = np.stack([1.0 / np.asarray(frame.depth, np.float32) for frame in rendered])
        shake = np.random.default_rng(0).normal(1.0, 0.1, (frames, 1, 1)).astype(np.float32)
        self._maps = {"initial": truth * shake, "forward": truth, "backward": truth, "mix": truth, "optimized": truth}
        write_json_atomic(out / STORE_FILE, STORE_FORMAT)
        (out / "runs" / RUN).mkdir(parents=True)
        (out / "runs" / RUN / "config.yaml").write_text("predictor:\n  name: tiny\n")
        write_json_atomic(out / "runs" / RUN / "summary.json", {"videos": 1, "done": 1, "failed": 0, "cached": 0})

    def add(
        self,
        video_id: str,
        *,
        uri: str | None = None,
        opw: Mapping[str, float] | None = None,
        results: tuple[str, ...] = PASSES,
        volume_of: str | None = None,
        seconds: float = 10.0,
    ) -> None:
        """A finished video.

        Args:
            video_id: its id.
            uri: where its source is; the clip by default, anything else is not there.
            opw: mean OPW by result, None for a video that was not scored.
            results: arrays of its volume.
            volume_of: another video whose volume is copied, which is quicker than to write it again.
            seconds: of work.
        """
        folder, record = self.out / "videos" / video_id, self._record(video_id, uri or str(self.clip), opw)
        if volume_of is not None:
            shutil.copytree(self.out / "videos" / volume_of, folder)
        else:
            with VolumeWriter(
                folder,
                results=results,
                frames=self.frames,
                height=self.size[1],
                width=self.size[0],
                attributes={"cuts": [self.cut]},
            ) as volume:
                for name in results:
                    volume.write(name, 0, self._maps[name])
        write_record(folder, record)
        row = self._outcome(video_id, uri or str(self.clip), seconds)
        self._rows["outcomes"].append(row | {"status": "done", "key": record["key"], "frames": self.frames})
        at = row["finished_at"]
        self._rows["catalog"].append({"video_id": video_id, "fps": float(FPS), "scenes": 2, "at": at})
        for name, value in (opw or {}).items():
            measured = {"metric": "opw", "protocol": "nvds", "flow": "dis", "value": value, "mean_pairs": value}
            scored = {"video_id": video_id, "result": name, "pairs": self.frames - 2, "finished_at": at}
            self._rows["scores"].append(measured | scored)
        for step, share in (("frames", 0.1), ("initial", 0.2), ("stabilized", 0.6)):
            timed = {"video_id": video_id, "step": step, "seconds": seconds * share, "cached": False, "finished_at": at}
            self._rows["timings"].append(timed)

    def fail(self, video_id: str, *, uri: str, reason: str = "decode", message: str = "cut off") -> None:
        """A video that failed while it was decoded."""
        row = self._outcome(video_id, uri, 1.0)
        self._rows["outcomes"].append(
            row | {"status": "failed", "reason": reason, "step": "frames", "message": message}
        )

    def write_tables(self) -> None:
        """Append what was added since the last time."""
        for name, rows in self._rows.items():
            append(self.out, name, rows, run_id=RUN, part=len(list((self.out / "tables").rglob("*.parquet"))))
            rows.clear()

    def _outcome(self, video_id: str, uri: str, seconds: float) -> dict[str, Any]:
        at = START + timedelta(seconds=10 * len(self._rows["outcomes"]))
        sizes = {"width": self.size[0], "height": self.size[1]}
        told = {"video_id": video_id, "uri": uri, "cached": False, "seconds": seconds, "finished_at": at}
        return told | sizes

    def _record(self, video_id: str, uri: str, opw: Mapping[str, float] | None) -> dict[str, Any]:
        pairs = self.frames - 2
        steady = {"total": 1.0, "pairs": [1.0] * pairs}
        return {
            "key": artifact_key("made", 1, video_id),
            "video_id": video_id,
            "status": "done",
            "source": {"name": uri, "uri": uri, "digest": self.digest, "fps": FPS, "width": 64, "height": 48},
            "frames": self.frames,
            "height": self.size[1],
            "width": self.size[0],
            "cuts": [self.cut],
            "warnings": [],
            "mix_choices": ["mean", "mean"],
            "opw_protocol": "nvds" if opw else None,
            "weights": {"predictor": "tiny:0", "flow": "dis", "stabilizer": "0"},
            "artifacts": {"frames": "0"},
            "opw": {name: steady | {"mean": value} | self._pairs(value) for name, value in opw.items()}
            if opw
            else None,
        }

    def _pairs(self, mean: float) -> dict[str, Any]:
        """Values per pair of which the one before last is the largest."""
        values = np.full(self.frames - 2, mean)
        values[-2] *= 2
        return {"pairs": values.tolist(), "total": float(values.sum())}
