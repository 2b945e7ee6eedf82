"""The overview's charts as HTML and SVG: no script, the colours of the page, and bars that are links."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from flows.report_html import Html, join, number, tag

WIDTH, HEIGHT = 600, 230  # user units of an SVG, about a pixel each
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 8, 38
COLOURS = ("final", "initial", "optimized", "forward", "backward", "bad", "good")
TICKS = 5


def colour(index: int) -> str:
    """The class of a series, again from the first after the last."""
    return f"c-{COLOURS[index % len(COLOURS)]}"


def bars(items: Sequence[tuple[str, float, str]]) -> Html:
    """(label, value, link) as bars, each a link."""
    most = max(value for _, value, _ in items)
    lines = []
    for label, value, link in items:
        bar = tag("span", class_="bar c-bad", style=_share(value, most))
        lines.append(_line(label, link, bar, number(value)))
    return tag("ul", *lines, class_="bars")


def stacked_bars(items: Sequence[tuple[str, str, Mapping[str, float]]], parts: Sequence[str], unit: str) -> Html:
    """(label, link, value by part) as bars of parts, with a legend."""
    most = max(sum(values.values()) for _, _, values in items)
    classes = {part: "c-rest" if part == "other" else colour(index) for index, part in enumerate(parts)}
    lines = []
    for label, link, values in items:
        pieces = [
            tag(
                "span",
                class_=f"bar {classes[part]}",
                style=_share(values[part], most),
                title=f"{part} {values[part]:.3g} {unit}",
            )
            for part in parts
            if values.get(part)
        ]
        lines.append(_line(label, link, join(pieces), f"{sum(values.values()):.3g} {unit}"))
    return join([legend([(part, classes[part]) for part in parts]), tag("ul", *lines, class_="bars")])


def histogram(edges: Sequence[float], series: Mapping[str, tuple[str, Sequence[int]]], label: str, axis: str) -> Html:
    """Counts per bin of several series (name: colour, counts), one over the other."""
    most = max(1, max(max(counts) for _, counts in series.values()))
    frame = _Frame(edges[-1], most)
    drawn = []
    for name, (kind, counts) in series.items():
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                told = tag("title", f"{name}: {number(count)} from {number(low, 3)} to {number(high, 3)}")
                left, top = frame.x(low), frame.y(count)
                box = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{max(1.0, frame.x(high) - left - 1):.1f}"}
                drawn.append(tag("rect", told, class_=f"half c-{kind}", height=f"{frame.y(0) - top:.1f}", **box))
    names = legend([(name, f"c-{kind}") for name, (kind, _) in series.items()])
    return join([names, frame.picture(drawn, label, axis, whole=True)])


def steps(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str, axis: str) -> Html:
    """Several series (name: ends of bins, value of each bin) as stairs; the last one has the first colour."""
    frame = _Frame(max(ends[-1] for ends, _ in series.values()), max(max(values) for _, values in series.values()))
    drawn, names = [], []
    for index, (name, (ends, values)) in enumerate(series.items()):
        kind = colour(len(series) - 1 - index)
        corners = [
            (x, value) for low, high, value in zip([0.0, *ends], ends, values, strict=False) for x in (low, high)
        ]
        line = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in corners)
        drawn.append(tag("polyline", tag("title", name), points=line, class_=f"line {kind}"))
        names.append((name, kind))
    return join([legend(names) if len(names) > 1 else "", frame.picture(drawn, label, axis, whole=False)])


def legend(names: Iterable[tuple[str, str]]) -> Html:
    """(name, class) of each series."""
    return tag("p", *(tag("span", tag("i", class_=kind), name) for name, kind in names), class_="legend")


def ticks(most: float, *, whole: bool = False) -> list[float]:
    """About five round values from 0 to at most `most`; whole numbers if asked."""
    rough = most / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    return [index * step for index in range(math.floor(most / step * (1 + 1e-9)) + 1)]


class _Frame:
    """The axes of a chart, both from 0."""

    def __init__(self, most_x: float, most_y: float) -> None:
        self._most = (most_x if most_x > 0 else 1.0, most_y if most_y > 0 else 1.0)

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self._most[0]

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self._most[1]

    def picture(self, drawn: Iterable[Html], label: str, axis: str, *, whole: bool) -> Html:
        """The whole SVG with lines and figures of both axes."""
        grid = []
        for value in ticks(self._most[1], whole=whole):
            y = f"{self.y(value):.1f}"
            grid.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
            grid.append(tag("text", f"{value:,.6g}", x=LEFT - 6, y=y, dy="0.35em", text_anchor="end"))
        for value in ticks(self._most[0]):
            x = f"{self.x(value):.1f}"
            grid.append(tag("text", f"{value:,.6g}", x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        title = tag("text", axis, x=middle, y=HEIGHT - 4, text_anchor="middle")
        return tag(
            "svg",
            *grid,
            *drawn,
            title,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=label,
            class_="chart-svg",
        )


def _line(label: str, link: str, bar: Html, value: str) -> Html:
    texts = (tag("span", label, class_="label", title=label), tag("span", bar, class_="bar-room"), tag("span", value))
    return tag("li", tag("a", *texts, href=link))


def _share(value: float, most: float) -> str:
    return f"width:{100 * value / most if most else 0:.2f}%"
