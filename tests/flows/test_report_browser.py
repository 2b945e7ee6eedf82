"""The report in a real, headless Chromium, opened from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.browser import MISSING, chromium, find_chromium
from benchmarks.made_output import MadeOutput
from flows.report import build_report
from nvds_core.video import open_video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason=MISSING),
]
FAILED, MANY = 3, 250  # more videos than a page of the table holds
HOSTILE = "<img src=x onerror=window.hacked=1> & 'q\".mp4"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report of many videos, of which one has a player."""
    root = tmp_path_factory.mktemp("browser")
    out = MadeOutput(root / "out")
    opw = {"initial": 0.9, "forward": 0.6, "backward": 0.6, "mix": 0.5}
    out.add("clip-000", opw={**opw, "mix": 0.8})
    for index in range(1, MANY - 1):
        out.add(f"clip-{index:03d}", opw={**opw, "mix": 0.001 * index}, volume_of="clip-000")
    out.add("hostile-999", uri=f"/nowhere/{HOSTILE}", volume_of="clip-000")
    for index in range(FAILED):
        out.fail(f"bad-{index}", uri=f"/nowhere/bad {index}.mp4", reason="decode" if index else "disk_full")
    out.write_tables()
    build_report(str(out.out), root / "report", players=1)
    return root / "report"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Page:
    """A page and everything its console complained about."""

    def __init__(self, page: Any) -> None:
        self.page, self.complaints = page, []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", self._failed)

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in request.failure:  # the page was left while it still loaded
            self.complaints.append(f"{request.url}: {request.failure}")

    def open(self, path: Path, fragment: str = "") -> Any:
        self.page.goto(path.as_uri() + fragment)
        return self.page


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """A fresh page; nothing may have gone wrong in it at the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = Page(context.new_page())
    yield opened
    assert opened.complaints == []
    context.close()


def drawn(page: Any) -> Any:
    """Wait until all is drawn."""
    page.wait_for_selector("html[data-charts], html[data-interactive]", state="attached")
    return page


def names(page: Any) -> list[str]:
    return list(page.eval_on_selector_all("#body a", "links => links.map((link) => link.textContent)"))


def column(page: Any, index: int) -> list[str]:
    return list(page.eval_on_selector_all(f"#body td:nth-child({index})", "cells => cells.map((c) => c.textContent)"))


def test_the_overview_draws_its_charts_without_a_complaint(page, report):
    index = drawn(page.open(report / "index.html"))
    assert index.locator(".charts .card").count() == 4
    for part in (".bars .bar", "svg rect", "svg polyline", ".bars .c-rest"):
        box = index.locator(f".charts {part}").first.bounding_box()
        assert min(box["width"], box["height"]) > 1, part
    assert "253 of 253 videos" in index.text_content("#count")
    assert index.locator("#body tr").count() == 100
    assert "Page 1 of 3" in index.text_content("#pager")


def test_headers_sort_both_ways_and_missing_values_come_last(page, report):
    index = page.open(report / "index.html")
    index.click("th[data-column=final] button")
    after = [float(value) for value in column(index, 9)]
    assert after == sorted(after, reverse=True)
    assert after[0] == 0.8
    assert index.get_attribute("th[data-column=final]", "aria-sort") == "descending"
    index.click("th[data-column=final] button")
    assert float(column(index, 9)[0]) == 0.001
    index.click("#page-ahead")
    index.click("#page-ahead")
    assert column(index, 9)[-4:] == ["–"] * 4  # the unscored video and the failed ones
    assert "sort=final%3Aup" in index.url
    index.reload()
    assert "Page 3 of 3" in index.text_content("#pager")


def test_the_table_filters_by_words_status_and_reason(page, report):
    index = page.open(report / "index.html")
    index.fill("#query", "nowhere BAD")
    assert index.text_content("#count") == "3 of 253 videos"
    index.select_option("#reason", "decode")
    assert names(index) == ["bad 1.mp4", "bad 2.mp4"]
    index.click("button[type=reset]")
    index.select_option("#status", "failed")
    assert index.locator("#body tr").count() == FAILED
    index.fill("#query", "onerror")
    assert names(index) == []
    index.select_option("#status", "")
    assert names(index) == [HOSTILE]
    assert index.evaluate("window.hacked") is None


def test_an_address_that_was_mistyped_shows_the_nearest_page(page, report):
    index = page.open(report / "index.html", "#sort=toString:up&page=2.5&status=lost")
    assert index.text_content("#count") == "0 of 253 videos"
    index = page.open(report / "index.html", "#sort=toString:up&page=2.5")
    assert "Page 2 of 3" in index.text_content("#pager")
    assert index.locator("th[aria-sort=ascending]").count() == 0


def test_a_bar_of_the_failures_filters_the_table(page, report):
    index = drawn(page.open(report / "index.html"))
    index.click(".bars a:has-text('decode')")
    index.wait_for_function("document.getElementById('reason').value === 'decode'")
    assert len(names(index)) == 2


def test_the_table_works_with_the_keyboard_alone(page, report):
    index = page.open(report / "index.html")
    index.keyboard.press("/")
    assert index.evaluate("document.activeElement.id") == "query"
    index.keyboard.type("clip-24")
    index.keyboard.press("ArrowDown")
    index.keyboard.press("ArrowDown")
    assert "clip-241" in index.evaluate("document.activeElement.href")
    index.keyboard.press("Enter")
    index.wait_for_url("**/clip-241.html")
    index.keyboard.press("Tab")
    assert index.evaluate("document.activeElement.textContent") == "All videos"


def player(page: Page, report: Path) -> Any:
    opened = drawn(page.open(report / "videos" / "clip-000.html"))
    opened.wait_for_function("document.getElementById('video').readyState >= 2")
    return opened


def frame(page: Any) -> int:
    return int(page.get_attribute("html", "data-frame"))


def on_screen(page: Any, report: Path) -> int:
    """The frame that is on the screen, by comparison of what is seen of the panel with every frame of the mp4."""
    width, height = page.evaluate("window.NVDS_VIDEO.size")
    seen = cv2.imdecode(np.frombuffer(page.locator("canvas").nth(1).screenshot(), np.uint8), cv2.IMREAD_COLOR)[
        ..., ::-1
    ]
    with open_video(report / "media" / "clip-000" / "player.mp4") as reader:
        wanted = [cv2.resize(frame.rgb[:height, width : 2 * width], seen.shape[1::-1]) for frame in reader]
    return int(np.argmin([np.abs(picture.astype(float) - seen).mean() for picture in wanted]))


def test_the_player_plays_to_its_end(page, report):
    video = player(page, report)
    video.keyboard.press(" ")
    video.wait_for_function("document.getElementById('video').ended")
    assert frame(video) == 11
    video.wait_for_selector("#play[aria-label=Play]")
    assert on_screen(video, report) == 11
    video.select_option("#speed", "0.1")
    video.click("#play")
    video.wait_for_selector("#play[aria-label=Pause]")


def test_keys_step_through_frames_and_cuts(page, report):
    video = player(page, report)
    for _ in range(3):
        video.keyboard.press("ArrowRight")
    video.wait_for_function("!document.getElementById('video').seeking")
    assert frame(video) == 3
    assert "frame 3 of 11" in video.text_content("#where")
    assert on_screen(video, report) == 3
    video.keyboard.press("ArrowLeft")
    assert frame(video) == 2
    video.keyboard.press("n")
    assert frame(video) == 6
    video.keyboard.press("p")
    assert frame(video) == 0
    video.focus("#seek")
    video.keyboard.press("End")
    assert frame(video) == 11


def test_curves_slices_and_worst_moments_seek(page, report):
    video = player(page, report)
    assert video.locator("#worst button").count() >= 1
    video.click("#worst button")
    assert frame(video) == 10  # the pair that was made the worst
    slice_ = video.locator("[data-slice]").first.bounding_box()
    video.mouse.click(slice_["x"] + slice_["width"] * 0.45, slice_["y"] + 10)
    assert frame(video) == 5
    video.locator("#opw").scroll_into_view_if_needed()
    curve = video.locator("#opw .nsewdrag").first.bounding_box()
    for step in range(3):
        video.mouse.move(curve["x"] + curve["width"] * 0.71 + step, curve["y"] + 40)
    video.wait_for_selector("#opw .hoverlayer .legend")
    video.mouse.click(curve["x"] + curve["width"] * 0.71, curve["y"] + 40)
    video.wait_for_function("document.documentElement.dataset.frame === '8'")
    assert "largest" in video.get_attribute("#opw", "aria-label")


def test_a_failed_video_and_one_without_a_player_have_quiet_pages(page, report):
    assert "Failed at step frames" in page.open(report / "videos" / "bad-0.html").text_content("main")
    assert "No player" in page.open(report / "videos" / "clip-100.html").text_content("main")
    assert HOSTILE in page.open(report / "videos" / "hostile-999.html").text_content("h1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page, report, scheme):
    page.page.emulate_media(color_scheme=scheme)
    index = drawn(page.open(report / "index.html"))
    code = """() => {
        const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const weights = [0.2126, 0.7152, 0.0722];
        const light = (text) => rgb(text).reduce((sum, c, i) => sum + weights[i] * linear(c / 255), 0);
        const paper = light(getComputedStyle(document.body).backgroundColor);
        const of = (element) => {
            const style = getComputedStyle(element);
            const ink = light(element.matches('svg text') ? style.fill : style.color);
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        };
        return [...document.querySelectorAll('h1, h2, p, dt, dd, td, a, .status, figcaption, svg text')].map(of);
    }"""
    assert min(index.evaluate(code)) >= 4.5  # WCAG 2, level AA


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_take_the_colours_of_the_page_and_change_with_them(page, report, scheme):
    page.page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    video = player(page, report)
    page.page.emulate_media(color_scheme=scheme)
    ink = video.evaluate("getComputedStyle(document.body).color")
    video.wait_for_function("ink => getComputedStyle(document.querySelector('#opw .xtick text')).fill === ink", arg=ink)
