"""The first page of the report: counts, charts, and the frame of the table that ``data.js`` fills."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from flows.report_charts import bars, histogram, stacked_bars, steps
from flows.report_data import Overview, Row
from flows.report_html import Html, filled, number, page, table, tag
from flows.report_html import join as joined
from flows.results import measured_with, row_of
from tasks.workspace import public_text

TITLE = "Video depth report"


def index_page(out: str, overview: Overview) -> str:
    """The page as HTML."""
    figures = overview.figures()
    charts = (
        _failures(overview.failures()),
        _distribution(overview.distribution(), figures),
        _throughput(overview.throughput()),
        _slowest(overview.slowest()),
    )
    main = tag(
        "main",
        _tiles(figures),
        _measured(overview),
        tag(
            "section",
            tag("h2", "Overview", id="charts"),
            tag("div", *charts, class_="charts"),
            aria_labelledby="charts",
        ),
        filled("table.html"),
    )
    header = tag("header", tag("h1", TITLE), tag("p", public_text(out), class_="path"))
    return page(TITLE, joined([header, main]), ("data.js", "assets/common.js", "assets/index.js"), "assets/")


def _tiles(figures: Row) -> Html:
    ratio = figures["final"] / figures["initial"] if figures["initial"] else None
    tiles = {
        "Videos": number(figures["videos"]),
        "Done": number(figures["done"]),
        "Failed": number(figures["failed"]),
        "Frames": number(figures["frames"]),
        "OPW before": number(figures["initial"]),
        "OPW after": number(figures["final"]),
        "After / before": number(ratio, 3),
    }
    bad = {"Failed"} if figures["failed"] else set()
    made = [
        tag("div", tag("dt", name), tag("dd", value), class_="tile bad" if name in bad else "tile")
        for name, value in tiles.items()
    ]
    return tag("dl", *made, class_="tiles")


def _measured(overview: Overview) -> Html:
    facts = measured_with([row_of(row) for row in overview.rows])
    if not facts["protocol"]:
        return tag("p", "Nothing was scored (--score none), so there is no OPW.", class_="note")
    text = "; ".join(f"{title} {', '.join(values)}" for title, values in facts.items())
    mixed = any(len(values) > 1 for values in facts.values())
    warning = " Figures of different protocols, flows or sizes must not be compared." if mixed else ""
    meaning = "OPW is flicker along the optical flow, lower is steadier; means over the scored videos."
    return tag("p", f"{meaning} Measured with {text}.{warning}", class_="note")


def _chart(title: str, text: str, drawn: Html, shown: Html) -> Html:
    """A chart with its meaning as text and its values as a table."""
    return filled("chart.html", title=title, text=text, drawn=drawn, table=shown)


def _empty(title: str, text: str) -> Html:
    return tag("figure", tag("figcaption", title), tag("p", text, class_="empty"), class_="card")


def _failures(failures: list[tuple[str, int, str]]) -> Html:
    title = "Failures by reason"
    if not failures:
        return _empty(title, "No video failed.")
    reason, count, _ = failures[0]
    text = f"{sum(n for _, n, _ in failures)} failed, most often: {reason} ({count}). A bar filters the table."
    drawn = bars([(reason, count, f"#{urlencode({'reason': reason})}") for reason, count, _ in failures])
    return _chart(title, text, drawn, table(("reason", "videos", "for example"), failures))


def _distribution(data: Row | None, figures: Row) -> Html:
    title = "OPW before and after"
    if data is None:
        return _empty(title, "Nothing was scored.")
    means = f"mean {number(figures['initial'])} before, {number(figures['final'])} after"
    text = f"{figures['scored']} videos: {means}. The last bin holds all above it."
    spans = [f"{number(a, 3)} to {number(b, 3)}" for a, b in zip(data["edges"], data["edges"][1:], strict=False)]
    rows = zip(spans, data["initial"], data["final"], strict=True)
    drawn = histogram(
        data["edges"],
        {"before": ("initial", data["initial"]), "after": ("final", data["final"])},
        f"{title}. {text}",
        "OPW, videos per bin",
    )
    return _chart(title, text, drawn, table(("OPW", "videos before", "videos after"), list(rows)))


def _throughput(runs: list[Row]) -> Html:
    title = "Throughput over time"
    if not runs:
        return _empty(title, "No run computed a video.")
    text = "; ".join(
        f"{run['run']}: {number(run['frames'])} frames at {number(run['frames'] / run['seconds'], 3)} frames/s"
        for run in runs
    )
    rows = [
        (run["run"], minutes, rate) for run in runs for minutes, rate in zip(run["minutes"], run["rate"], strict=True)
    ]
    series = {run["run"]: (run["minutes"], run["rate"]) for run in runs}
    drawn = steps(series, f"{title}. {text}", "minutes since the run began, frames/s")
    return _chart(title, f"{text}.", drawn, table(("run", "minutes up to", "frames/s"), rows))


def _slowest(videos: list[Row]) -> Html:
    title = "Slowest videos"
    if not videos:
        return _empty(title, "Nothing was timed.")
    parts = list(dict.fromkeys(step for video in videos for step in video["steps"]))
    slowest = f"{videos[0]['id']} took {number(videos[0]['seconds'], 3)} s."
    text = f"{slowest} Seconds by step; “other” is waiting for its turn. A bar opens the video."
    drawn = stacked_bars(
        [(video["id"], f"videos/{quote(str(video['id']))}.html", video["steps"]) for video in videos], parts, "s"
    )
    rows = [(v["id"], v["frames"], v["seconds"], *(v["steps"].get(part, 0.0) for part in parts)) for v in videos]
    return _chart(title, text, drawn, table(("video", "frames", "seconds", *parts), rows))
