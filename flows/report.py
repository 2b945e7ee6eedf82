"""The report of an output folder: one folder of pages that open from a disk, without server or network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from flows.report_data import Overview, Row, flickering_first, read_overview
from flows.report_html import script
from flows.report_index import index_page
from flows.report_media import GONE, Media, kept_media, make_media
from flows.report_video import video_page
from nvds_core.types import ConfigError
from storage import StorageError, is_local, join, local_path, read_bytes, read_record, remove_tree, write_json_atomic
from storage.errors import redact

REPORT_FILE, REPORT_FORMAT = "nvds-report.json", {"format": "nvds-report", "format_version": 1}
ASSETS = ("report.css", "common.js", "index.js", "video.js")
READERS = 8


@dataclass(frozen=True)
class Report:
    """What was built: the page to open, and how many players were encoded, kept from before, or could not be made."""

    index: Path
    videos: int
    encoded: int
    kept: int
    without: int


def build_report(
    out: str, folder: Path, *, players: int | None = None, tell: Callable[[str], None] = lambda line: None
) -> Report:
    """Build the report of an output folder, or bring an earlier one up to date.

    Args:
        out: output folder or URL of ``nvds run``.
        folder: where to; new, empty, or an earlier report.
        players: encode the players of so many videos at most, those that flicker most first; None for all. Players of
            an earlier report stay in any case while their volume is the same.
        tell: gets a line of progress per encoded player.

    Raises:
        StorageError: nothing was ever run into `out`, or the folder cannot be written.
        ConfigError: the folder holds something else.
    """
    overview = read_overview(out)
    _prepare(folder)
    records = _records(out, [str(row["video_id"]) for row in overview.done])
    media = dict(_media(out, folder, overview, records, players, tell))
    configs = _configs(out, overview)
    videos = folder / "videos"
    for index, row in enumerate(overview.rows):
        neighbours = [overview.rows[i] if 0 <= i < len(overview.rows) else None for i in (index - 1, index + 1)]
        record, shown = records.get(row["video_id"]), media.get(row["video_id"], Media(()))
        page = video_page(out, row, record, shown, neighbours, configs.get(row["run_id"], ""), _group(out, row, videos))
        _write(videos / f"{row['video_id']}.html", page)
    _remove_gone(folder, {str(row["video_id"]) for row in overview.rows})
    thumbs = [video for video, shown in media.items() if shown.playable]
    _write(folder / "data.js", script("NVDS_TABLE", overview.table(thumbs)))
    _write(folder / "index.html", index_page(out, overview))
    fresh = sum(shown.fresh for shown in media.values())
    return Report(folder / "index.html", len(overview.rows), fresh, len(thumbs) - fresh, len(media) - len(thumbs))


def _records(out: str, videos: list[str]) -> dict[str, Row | None]:
    """The records without their scores of every pair, which would fill the memory in a run of thousands."""

    def read(video: str) -> Row | None:
        record = read_record(join(out, "videos", video))
        return None if record is None else record | {"opw": None}

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(videos, pool.map(read, videos), strict=True))


def _group(out: str, row: Row, pages: Path) -> str | None:
    """The relative link from a page to the Zarr group of its video: it holds when both are moved together."""
    if not is_local(out):
        return None
    group = local_path(out).absolute() / "videos" / str(row["video_id"])
    return quote(os.fsencode(os.path.relpath(group, pages.absolute())))  # names of folders need not be valid text


def _prepare(folder: Path) -> None:
    """The folder with its marker and its assets."""
    if folder.exists() and not (folder / REPORT_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is no report; give another folder with --to")
    for part in ("assets", "videos", "media"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / REPORT_FILE, REPORT_FORMAT)
    own = files("flows") / "assets"
    for name in ASSETS:
        _write(folder / "assets" / name, (own / name).read_text(encoding="utf-8"))
    # the whole library with its licence text, as its package ships it: the report needs no network
    with (files("plotly") / "package_data" / "plotly.min.js").open("rb") as library:
        target = folder / "assets" / "plotly.min.js"
        content = library.read()
        if not target.is_file() or target.read_bytes() != content:
            target.write_bytes(content)


def _media(
    out: str,
    folder: Path,
    overview: Overview,
    records: dict[str, Row | None],
    players: int | None,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, Media]]:
    """(video id, its media), the videos that flicker most first."""
    wanted = flickering_first(overview.done)
    count = len(wanted) if players is None else min(players, len(wanted))
    for index, row in enumerate(wanted):
        video = str(row["video_id"])
        record, place = records[video], folder / "media" / video
        if record is None:
            yield video, Media((), GONE)
        elif index >= count:
            yield video, kept_media(record, place) or Media((), "No player was asked for; leave out --players.")
        else:
            shown = make_media(join(out, "videos", video), place, kept=kept_media(record, place))
            if shown.fresh:
                tell(f"player {index + 1}/{count} {video}")
            yield video, shown


def _configs(out: str, overview: Overview) -> dict[str, str]:
    """The configuration of each run, as it was written."""
    found = {}
    for run in sorted({str(row["run_id"]) for row in overview.rows}):
        try:
            found[run] = redact(read_bytes(join(out, "runs", run, "config.yaml")).decode("utf-8", "replace"))
        except StorageError as error:
            if error.reason != "absent":
                raise
    return found


def _remove_gone(folder: Path, videos: set[str]) -> None:
    """Pages and media of videos that are no longer there, and what a killed build left behind."""
    for page in (folder / "videos").glob("*.html"):
        if page.stem not in videos:
            page.unlink()
    for place in (folder / "media").iterdir():
        if place.name not in videos:
            remove_tree(place)  # a file too: desktops leave theirs in folders that were looked at


def _write(path: Path, text: str) -> None:
    """Leave a file alone that says the same already, so that copies of the report stay quick."""
    content = text.encode("utf-8")
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)
