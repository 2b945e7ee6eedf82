"""HTML of the report: templates from ``flows/assets``, filled with escaped text, as file names may hold markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape as _escape
from importlib.resources import files
from string import Template
from typing import Any

VOID = {"img"}  # elements without an end


class Html(str):
    """Text that is HTML already and must not be escaped again."""


def escape(value: object) -> Html:
    """Text for HTML, in and out of attributes; nothing for None."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else _escape(str(value), quote=True))


def filled(template: str, **values: object) -> Html:
    """A template of ``flows/assets`` with its ``$names`` filled; whatever is no `Html` is escaped."""
    return Html(_template(template).substitute({name: escape(value) for name, value in values.items()}))


def join(pieces: Iterable[object]) -> Html:
    """Pieces of HTML one after the other; plain text among them is escaped."""
    return Html("".join(escape(piece) for piece in pieces))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """One element; attributes that are None are left out, ``class_`` stands for ``class``."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opened = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    if name in VOID:
        return Html(f"<{name}{opened}>")
    return Html(f"<{name}{opened}>{''.join(escape(piece) for piece in content)}</{name}>")


def page(title: str, body: Html, scripts: Iterable[str], assets: str) -> str:
    """A whole page; scripts run in their order once it is read."""
    tags = [tag("script", defer="", src=source) for source in scripts]
    return filled("page.html", title=title, body=body, scripts=join(tags), assets=assets)


def script(name: str, value: Any) -> str:
    """A JSON value as a script that sets ``window[name]``: pages opened from a disk may load scripts, but no JSON."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"window.{name}={text};\n"


def number(value: float | int | None, digits: int = 4) -> str:
    """A figure as people read it, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A plain table; figures are aligned to the right."""
    lines = list(rows)
    kinds = (
        ["figure" if isinstance(value, int | float) else None for value in lines[0]] if lines else [None] * len(titles)
    )
    headers = (tag("th", title, scope="col", class_=kind) for title, kind in zip(titles, kinds, strict=True))
    head = tag("tr", *headers)
    return tag("table", tag("thead", head), tag("tbody", *(tag("tr", *map(_cell, row)) for row in lines)))


def _cell(value: object) -> Html:
    if isinstance(value, int | float):
        return tag("td", number(value), class_="figure")
    return tag("td", value)


@cache
def _template(name: str) -> Template:
    return Template((files("flows") / "assets" / name).read_text(encoding="utf-8"))
