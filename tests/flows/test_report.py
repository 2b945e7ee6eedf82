"""The folder that ``nvds report`` writes, without a browser; test_report_browser.py opens it in one."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np
import pytest

from benchmarks.made_output import MadeOutput
from flows.report import build_report
from flows.report_charts import histogram, ticks
from flows.report_data import read_overview
from flows.report_media import Media, mosaic, opw_series, rounded
from flows.report_video import video_page
from nvds_core.types import ConfigError
from nvds_core.video import open_video
from storage import StorageError, read_record
from tests.flows.finished import finished_run, nvds

HOSTILE = "<script>alert(1)</script> & \"q'.mp4"
OPW = {"initial": 0.8, "forward": 0.5, "backward": 0.5, "mix": 0.2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = MadeOutput(tmp_path_factory.mktemp("made") / "out")
    out.add("a-1", opw=OPW, seconds=30.0)
    out.add("gone-2", uri=f"/nowhere/{HOSTILE}", opw={**OPW, "mix": 0.4})
    out.add("unscored-3", results=("initial", "optimized"))
    out.fail("bad-4", uri=f"/nowhere/{HOSTILE}", message="</script><img src=x onerror=alert(2)>")
    out.write_tables()
    return out


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "report"
    built = build_report(str(made.out), folder)
    assert (built.videos, built.encoded, built.kept, built.without) == (4, 3, 0, 0)
    return folder


class Elements(HTMLParser):
    """Start tags with their attributes, and all text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def script(path: Path) -> dict:
    """The value that a data script sets."""
    return dict(json.loads(path.read_text().partition("=")[2].rstrip(";\n")))


def test_everything_a_page_loads_is_in_the_folder(report):
    for page in [report / "index.html", *(report / "videos").glob("*.html")]:
        loaded = [attributes.get("src") for tag, attributes in Elements(page).tags if tag in ("script", "img", "video")]
        styles = [attributes["href"] for tag, attributes in Elements(page).tags if tag == "link"]
        for name in filter(lambda name: name != "data:,", [*loaded, *styles]):
            target = (page.parent / name).resolve()
            assert target.is_file(), (page, name)
            assert target.is_relative_to(report.resolve())
    own = [path for path in (report / "assets").iterdir() if path.name != "plotly.min.js"]
    pages = [report / "index.html", *(report / "videos").glob("*.html")]
    assert [path for path in [*own, *pages] if re.search(r"(src|href)=.https?:|url\(|fetch\(", path.read_text())] == []


def test_hostile_names_are_text_everywhere(report):
    for page in [report / "index.html", *(report / "videos").glob("*.html")]:
        elements = Elements(page)
        assert all("src" in attributes for tag, attributes in elements.tags if tag == "script"), page
        assert not any("onerror" in attributes for _, attributes in elements.tags), page
    assert HOSTILE in Elements(report / "videos" / "gone-2.html").text
    assert "</script><img src=x" in Elements(report / "videos" / "bad-4.html").text
    assert "<" not in (report / "data.js").read_text()


def test_every_picture_and_control_has_a_text_alternative(report):
    for page in [report / "index.html", *(report / "videos").glob("*.html")]:
        for tag, attributes in Elements(page).tags:
            if tag == "img":
                assert attributes["alt"], page
            if tag in ("canvas", "video") or (
                attributes.get("role") == "img" and attributes.get("id") not in ("opw", "drift")
            ):
                assert attributes["aria-label"], (page, attributes)  # the curves' labels are told by the script


def test_the_overview_counts_and_the_table_has_every_video(report):
    table = script(report / "data.js")
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert set(rows) == {"a-1", "bad-4", "gone-2", "unscored-3"}
    assert (rows["a-1"]["initial"], rows["a-1"]["final"], rows["a-1"]["ratio"]) == (0.8, 0.2, 0.25)
    assert rows["unscored-3"]["final"] is None
    assert (rows["bad-4"]["status"], rows["bad-4"]["reason"], rows["bad-4"]["thumb"]) == ("failed", "decode", False)
    text = Elements(report / "index.html").text
    assert "1 failed, most often: decode (1)" in text
    assert "2 videos: mean 0.8 before, 0.3 after" in text


def test_the_player_shows_the_volumes_in_the_colours_of_one_scale(report):
    about = script(report / "media" / "a-1" / "curves.js")
    assert [panel["name"] for panel in about["panels"]] == ["rgb", "initial", "mix"]
    width, height = about["size"]
    with open_video(report / "media" / "a-1" / "player.mp4") as reader:
        frames = [frame.rgb for frame in reader]
    assert len(frames) == about["frames"] == 12
    assert frames[0].shape == (2 * height, 2 * width, 3)
    # initial is the mix, shaken in brightness from frame to frame: so are its colours, whose scale is fixed
    initial, mix = ([frame[y : y + height, x : x + width] for frame in frames] for y, x in ((0, width), (height, 0)))
    brightness = [np.array([picture.mean() for picture in panel[:6]]) for panel in (initial, mix)]
    assert np.abs(np.diff(brightness[0])).max() > 4 * np.abs(np.diff(brightness[1])).max()


def test_without_its_source_a_video_has_no_rgb_panel_and_says_why(report):
    about = script(report / "media" / "gone-2" / "curves.js")
    assert [panel["name"] for panel in about["panels"]] == ["initial", "mix"]
    assert "is no longer there, and RGB is taken from it" in Elements(report / "videos" / "gone-2.html").text


def test_optimised_and_unscored_videos_have_players_too(report):
    about = script(report / "media" / "unscored-3" / "curves.js")
    assert [panel["name"] for panel in about["panels"]] == ["rgb", "initial", "optimized"]
    assert about["opw"] == {}
    assert "Nothing was scored." in Elements(report / "videos" / "unscored-3.html").text


def test_a_failed_video_has_a_page_with_its_reason(report):
    text = Elements(report / "videos" / "bad-4.html").text
    assert "Failed at step frames: decode" in text
    assert "run 'nvds run' again" in text


def test_pages_link_to_the_zarr_group_beside_the_config_and_the_digests(made, report):
    page = report / "videos" / "a-1.html"
    elements = Elements(page)
    groups = [attributes["href"] for _, attributes in elements.tags if "a-1" in (attributes.get("href") or "")]
    assert (page.parent / groups[0] / "zarr.json").is_file()
    assert made.digest in elements.text
    assert "predictor:\n  name: tiny" in elements.text


def test_a_video_that_could_not_be_optimised_says_why(made):
    [row] = [row for row in read_overview(str(made.out)).rows if row["video_id"] == "a-1"]
    told = row | {"step": "optimized", "reason": "no_poses", "message": "the camera stands still"}
    page = video_page(str(made.out), told, read_record(made.out / "videos" / "a-1"), Media(()), (None, None), "", None)
    assert "Not optimized (no_poses): the camera stands still" in page


def test_opw_is_missing_where_a_scene_begins():
    record = {"cuts": [3], "frames": 5, "opw": {"mix": {"pairs": [0.1, float("nan"), 0.3]}}}
    assert opw_series(record) == {"mix": [None, 0.1, None, None, 0.3]}
    assert rounded(np.array([1 / 3, np.inf])) == [0.333333, None]


@pytest.mark.parametrize(("count", "shape"), [(1, (4, 6)), (2, (4, 12)), (3, (8, 12)), (4, (8, 12))])
def test_panels_lie_in_rows_of_two(count, shape):
    panels = [np.full((4, 6, 3), index + 1, np.uint8) for index in range(count)]
    whole = mosaic(panels)
    assert whole.shape[:2] == shape
    assert [int(whole[4 * (i // 2), 6 * (i % 2), 0]) for i in range(count)] == list(range(1, count + 1))


def copied(made, report, tmp_path):
    out, folder = tmp_path / "out", tmp_path / "report"
    shutil.copytree(made.out, out)
    shutil.copytree(report, folder)
    return out, folder


def test_an_unchanged_video_is_not_encoded_again(made, report, tmp_path):
    out, folder = copied(made, report, tmp_path)
    build_report(str(out), folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    built = build_report(str(out), folder)
    assert (built.encoded, built.kept) == (0, 3)
    changed = {path.name for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed <= {"nvds-report.json"}
    record = read_record(out / "videos" / "a-1")
    (out / "videos" / "a-1" / "record.json").write_text(json.dumps({**record, "key": "another"}))
    built = build_report(str(out), folder)
    assert (built.encoded, built.kept) == (1, 2)


def test_a_source_that_came_back_brings_its_rgb_panel(made, report, tmp_path):
    out, folder = copied(made, report, tmp_path)
    record = read_record(out / "videos" / "gone-2")
    record["source"]["uri"] = str(made.clip)
    (out / "videos" / "gone-2" / "record.json").write_text(json.dumps(record))
    assert build_report(str(out), folder).encoded == 1
    assert script(folder / "media" / "gone-2" / "curves.js")["panels"][0]["name"] == "rgb"


def test_videos_that_are_gone_leave_the_report(made, report, tmp_path):
    _, folder = copied(made, report, tmp_path)
    other = MadeOutput(tmp_path / "other" / "out")
    other.add("b-9", opw=OPW)
    other.write_tables()
    (folder / "media" / ".DS_Store").write_bytes(b"of a desktop")
    build_report(str(other.out), folder, players=0)
    assert [path.name for path in (folder / "videos").iterdir()] == ["b-9.html"]
    assert list((folder / "media").iterdir()) == []
    assert "No player was asked for" in (folder / "videos" / "b-9.html").read_text()


def test_an_output_folder_of_any_name_has_a_report_with_links_into_it(made, tmp_path):
    out = tmp_path / os.fsdecode(b"d\xffpth # 1%")
    shutil.copytree(made.out, out)
    build_report(str(out), out / "report", players=0)
    page = out / "report" / "videos" / "a-1.html"
    [group] = [a["href"] for tag, a in Elements(page).tags if tag == "a" and (a["href"] or "").endswith("/videos/a-1")]
    assert (page.parent / os.fsdecode(unquote_to_bytes(group)) / "zarr.json").is_file()
    assert "d\\udcffpth # 1%" in Elements(out / "report" / "index.html").text


def test_a_damaged_marker_costs_one_encoding(made, report, tmp_path):
    out, folder = copied(made, report, tmp_path)
    for video, text in {"a-1": "[]", "gone-2": "{", "unscored-3": "{}"}.items():
        (folder / "media" / video / "media.json").write_text(text)
    assert build_report(str(out), folder).encoded == 3


def test_players_goes_by_flicker(made, tmp_path):
    told = []
    build_report(str(made.out), tmp_path / "report", players=1, tell=told.append)
    assert told == ["player 1/1 gone-2"]


def test_a_damaged_volume_costs_its_player_only(made, report, tmp_path):
    out, folder = copied(made, report, tmp_path)
    shutil.rmtree(folder / "media" / "a-1")
    for part in (out / "videos" / "a-1" / "mix" / "c").rglob("*"):
        if part.is_file():
            part.write_bytes(b"nonsense")
    built = build_report(str(out), folder)
    assert (built.kept, built.without) == (2, 1)
    assert "No player: " in Elements(folder / "videos" / "a-1.html").text


def test_a_folder_that_holds_something_else_is_left_alone(made, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="is no report"):
        build_report(str(made.out), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_is_written_about_a_folder_without_runs(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="no output of nvds"):
        build_report(str(tmp_path / "empty"), tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("most", "whole", "wanted"),
    [
        (1, True, [0, 1]),
        (3, True, [0, 1, 2, 3]),
        (47, True, [0, 10, 20, 30, 40]),
        (0.5, False, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_axes_have_round_figures(most, whole, wanted):
    assert ticks(most, whole=whole) == pytest.approx(wanted)


def test_a_histogram_draws_as_many_videos_before_as_after():
    series = {"before": ("initial", [0, 4]), "after": ("final", [3, 1])}
    drawn = histogram([0.0, 1.0, 2.0], series, "label", "OPW")
    boxes = re.findall(r'<rect class="half c-(\w+)" height="([\d.]+)" x="([\d.]+)"', drawn)
    found = {kind: [float(height) for name, height, _ in boxes if name == kind] for kind in ("initial", "final")}
    assert [len(heights) for heights in found.values()] == [1, 2]
    assert sum(found["initial"]) == pytest.approx(sum(found["final"]), abs=0.2)
    assert "after: 3 from 0 to 1" in drawn


def test_throughput_counts_every_frame_once(made):
    [run] = read_overview(str(made.out)).throughput()
    assert run["frames"] == 36
    width = 60 * (run["minutes"][0])
    assert sum(run["rate"]) * width == pytest.approx(36, rel=1e-4)


def test_the_command_reports_a_real_run(tmp_path):
    run = finished_run()
    result = nvds("report", run.out, "--to", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "2 videos; players: 1 new, 0 kept, 0 without" in result.stderr
    curves = script(tmp_path / "report" / "media" / run.video_id / "curves.js")
    record = read_record(run.out / "videos" / run.video_id)
    assert curves["cuts"] == record["cuts"]
    assert [value for value in curves["opw"]["mix"] if value is not None] == rounded(
        np.array(record["opw"]["mix"]["pairs"])
    )
    strip = cv2.imread(str(tmp_path / "report" / "media" / run.video_id / "slice-rgb.jpg"))
    assert strip.shape == (64, record["frames"], 3)


def test_a_remote_output_needs_a_place_for_its_report():
    result = nvds("report", "memory://bucket/out")
    assert result.exit_code == 2
    assert "--to FOLDER" in result.stderr
