"""The report's page of one video: player, time slices, curves, why it failed, and what it was made with."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from flows.preview import TITLES
from flows.report_data import Row, name_of, opw_of
from flows.report_html import Html, filled, number, page, table, tag
from flows.report_html import join as joined
from flows.report_index import TITLE
from flows.report_media import CURVES, PLAYER, Media, slice_name
from storage import join
from tasks.workspace import public_text

HINT = "Mend or remove the source, then run 'nvds run' again: finished videos are not computed again."


def video_page(
    out: str,
    row: Row,
    record: Row | None,
    media: Media,
    neighbours: Sequence[Row | None],
    config: str,
    group: str | None,
) -> str:
    """The page as HTML.

    Args:
        out: the output folder.
        row: of `read_overview`.
        record: of the published volume, None for a failed video.
        media: what its media folder holds.
        neighbours: the rows before and after it, None at the ends.
        config: of its run, as text.
        group: link from the page to its Zarr group, None where that is on no disk.
    """
    name, place = name_of(row), f"../media/{quote(str(row['video_id']))}/"
    links = [
        tag("a", f"{title} {name_of(other)}", rel=rel, href=f"{quote(str(other['video_id']))}.html")
        for rel, title, other in zip(("prev", "next"), ("Previous:", "Next:"), neighbours, strict=True)
        if other is not None
    ]
    navigation = tag("nav", tag("a", "All videos", href="../index.html"), *links, aria_label="Pages")
    shown = [_note(media.note), _unoptimized(row)] if row["status"] == "done" else [_failure(row)]
    if media.playable:
        shown += [_player(place, media, name), _slices(place, media, name), _curves(row)]
    main = tag("main", *shown, _facts(out, row, record, config, group))
    header = tag("header", navigation, tag("h1", name), _summary(row))
    scripts = (f"{place}{CURVES}", "../assets/common.js", "../assets/video.js") if media.playable else ()
    return page(f"{name} – {TITLE.lower()}", joined([header, main]), scripts, "../assets/")


def _summary(row: Row) -> Html:
    opw = opw_of(row)
    parts = [tag("span", row["status"], class_=f"status {row['status']}")]
    if row["frames"]:
        parts.append(tag("span", f"{number(row['frames'])} frames of {row['width']}×{row['height']}"))
    if opw["final"] is not None:
        text = f"OPW {number(opw['initial'])} → {number(opw['final'])}, ratio {number(opw['ratio'], 3)}"
        parts.append(tag("span", text))
    return tag("p", *parts, class_="summary")


def _note(note: str) -> Html:
    return tag("p", note, class_="note", role="note") if note else Html()


def _failure(row: Row) -> Html:
    title = tag("h2", f"Failed at step {row['step']}: {row['reason']}", id="why")
    return tag(
        "section",
        title,
        tag("p", row["message"]),
        tag("p", HINT, class_="small"),
        class_="failure",
        aria_labelledby="why",
    )


def _unoptimized(row: Row) -> Html:
    """A finished video with a reason is one that test-time optimisation could not help."""
    return _note(f"Not {row['step']} ({row['reason']}): {row['message']}") if row["reason"] else Html()


def _title(panel: str) -> str:
    return "RGB" if panel == "rgb" else TITLES[panel]


def _player(place: str, media: Media, name: str) -> Html:
    panels = [
        tag(
            "figure",
            tag("canvas", role="img", data_panel=index, aria_label=f"{_title(panel)} of {name}"),
            tag("figcaption", _title(panel)),
        )
        for index, panel in enumerate(media.panels)
    ]
    return filled("player.html", source=place + PLAYER, name=name, count=len(panels), panels=joined(panels))


def _slices(place: str, media: Media, name: str) -> Html:
    figures = []
    for panel in media.panels:
        text = f"One pixel column of {name} over time: {_title(panel)}"
        picture = tag("img", src=place + slice_name(panel), alt=text)
        figures.append(
            tag("figure", tag("div", picture, class_="slice", data_slice=""), tag("figcaption", _title(panel)))
        )
    return filled("slices.html", figures=joined(figures))


def _curves(row: Row) -> Html:
    opw = opw_of(row)
    if opw["result"] is None:
        return filled("curves.html", opw=Html(), about="Nothing was scored.")
    means = f"Mean {number(opw['initial'])} before, {number(opw['final'])} after."
    drawn = tag("div", class_="chart wide", id="opw", role="img")
    return filled("curves.html", opw=drawn, about=f"{means} Dashed lines are cuts. Click to go there.")


def _facts(out: str, row: Row, record: Row | None, config: str, group: str | None) -> Html:
    facts: dict[str, object] = {"video id": row["video_id"], "source": public_text(row["uri"])}
    if record is not None:
        source = record["source"]
        place = public_text(join(out, "videos", str(row["video_id"])))
        size = f"{source.get('width')}×{source.get('height')}, {number(source.get('fps'))} frames/s"
        facts |= {
            "Zarr group": tag("a", place, href=group) if group else place,
            "source digest": source["digest"],
            "source size": size,
            "cuts (first frames)": ", ".join(map(str, record["cuts"])) or "none",
            "warnings": "; ".join(record["warnings"]) or "none",
            "mix, by scene": ", ".join(filter(None, record["mix_choices"])) or "none",
            "key": record["key"],
        }
        facts |= {f"weights of the {part}": digest for part, digest in record["weights"].items() if digest}
        facts |= {f"artifact {part}": key for part, key in record["artifacts"].items()}
    facts |= {"run": row["run_id"], "finished": f"{row['finished_at']:%Y-%m-%d %H:%M:%S} UTC"}
    items = [piece for title, value in facts.items() for piece in (tag("dt", title), tag("dd", value))]
    steps = table(("step", "seconds"), list(row["steps"].items())) if row["steps"] else Html()
    settings = tag("details", tag("summary", "Configuration of the run"), tag("pre", config)) if config else Html()
    title = tag("h2", "Made with", id="facts")
    return tag(
        "section", title, tag("dl", *items, class_="facts"), _scores(row), steps, settings, aria_labelledby="facts"
    )


def _scores(row: Row) -> Html:
    if not row["opw"]:
        return Html()
    scores = [(name, row["opw"][name]) for name in TITLES if name in row["opw"]]
    lines = [(name, score["value"], score["mean_pairs"], score["pairs"]) for name, score in scores]
    return table(("result", "OPW (sum / frames)", "OPW (mean of pairs)", "pairs"), lines)
