"""Numbers of papers, to be set beside ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flows.bench_sections import Cell, Line

FILE = Path(__file__).parent / "assets" / "published.json"


@dataclass(frozen=True)
class Paper:
    """One published row: method, the set it was measured on (its kind), values, and the number of its source."""

    method: str
    set: str | None
    variant: str | None
    values: Mapping[str, Any]
    source: int

    def line(self) -> Line:
        """As a row of a table."""
        named = {"predictor": Cell(self.method), "method": Cell(self.variant)}
        values = {name: Cell(float(value) if isinstance(value, int) else value) for name, value in self.values.items()}
        return Line(named | values, self.source)


def papers_rows(layout: str) -> tuple[list[Paper], list[str]]:
    """The rows that belong into a layout, and the list of their sources, the first of which is number 1."""
    rows, sources = [], []
    for table in _tables():
        if table["layout"] != layout:
            continue
        sources.append(f"{table['source']}; evidence: {table['evidence']}; protocol: {table['protocol']}")
        for row in table["rows"]:
            values = {name: value for name, value in row.items() if name not in ("set", "method", "variant")}
            rows.append(Paper(row["method"], row.get("set"), row.get("variant"), values, len(sources)))
    return rows, sources


@cache
def _tables() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["tables"]
    return tables
