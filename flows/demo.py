"""The demonstration: a video we render ourselves (and any others) through the whole main job, with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from flows.exports import open_export
from flows.launch import execute, prepare
from flows.preview import export_mp4, export_strip
from nvds_core.synthetic import make_scene, render_frame
from nvds_core.video import write_h264
from nvds_core.viz import Picture

SCENES = (("people", 102), ("tabletop", 102))  # family and seed; the join of the two is a hard cut
SCENE_FRAMES, FPS, SIZE = 28, 24.0, (448, 256)
CLIP_NAME = "synthetic.mp4"
REAL_CLIPS = Path("..") / "shared" / "data" / "clips"  # real footage that may lie beside a checkout


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the run's summary, the comparison videos and the strip pictures."""

    summary: dict[str, Any]
    comparisons: tuple[Path, ...]
    strips: tuple[Path, ...]


def run_demo(videos: Sequence[str], out: str) -> DemoResult:
    """Render a clip into `out`, run the main job on it and on `videos`, and make pictures of all that is done."""
    folder = Path(out)
    clip = folder / "input" / CLIP_NAME
    if not clip.exists():
        clip.parent.mkdir(parents=True, exist_ok=True)
        render_clip(clip)
    inputs = [str(clip), *videos]
    job = prepare(inputs, out, RunConfig())
    summary = execute(job)
    comparisons, strips = [], []
    for video in job.plan.videos:
        if not (folder / "videos" / video.video_id / "record.json").exists():
            continue
        source = open_export(out, video.video_id)
        own = Path(video.uri).absolute() == clip.absolute()
        name = "" if own else f"-{video.video_id}"
        comparisons.append(export_mp4(source, folder / f"comparison{name}.mp4"))
        strips.append(export_strip(source, folder / f"strip{name}.png"))
    return DemoResult(summary, tuple(comparisons), tuple(strips))


def render_clip(path: Path) -> None:
    """Write two rendered scenes with a cut between them as an h264 mp4."""

    def frames() -> Any:
        for kind, seed in SCENES:
            scene = make_scene(seed, frames=SCENE_FRAMES, size=SIZE, kind=kind)
            for index in range(SCENE_FRAMES):
                picture: Picture = render_frame(scene, index).rgb
                yield picture

    write_h264(path, frames(), fps=FPS, crf=16)


def real_clips() -> list[str]:
    """Real footage beside the checkout, if there is any."""
    return [str(REAL_CLIPS)] if REAL_CLIPS.is_dir() and any(REAL_CLIPS.iterdir()) else []
