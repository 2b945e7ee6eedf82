"""What a benchmark table is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

Value = float | int | str | None
Best = Literal["low", "high"]

RESAMPLES: Final = 2000
SEED: Final = 20230715  # of the bootstrap; any number, always the same
COVERAGE: Final = 0.95


@dataclass(frozen=True)
class Cell:
    """A value, the ends of its confidence interval, and whether it is the best of its column."""

    value: Value
    low: float | None = None
    high: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its key in files for machines, its head for people, digits, which way is better, whether it is text."""

    key: str
    head: str
    digits: int = 3
    best: Best | None = None
    text: bool = False

    @property
    def measured(self) -> bool:
        """Whether it has confidence intervals and a best."""
        return self.best is not None


@dataclass(frozen=True)
class Line:
    """A row; `source` is the number of the paper's entry in the list below the table, None for our own."""

    cells: Mapping[str, Cell]
    source: int | None = None


@dataclass(frozen=True)
class Section:
    """One table: what it is about, what it was measured with, and its rows."""

    title: str
    facts: Mapping[str, str]
    columns: Sequence[Column]
    lines: Sequence[Line]


@dataclass(frozen=True)
class Document:
    """The tables of one layout, notes that hold for all, and where published rows come from."""

    layout: str
    notes: Sequence[str]
    sections: Sequence[Section]
    sources: Sequence[str] = field(default_factory=tuple)


def mean_cell(values: Sequence[float]) -> Cell:
    """Mean over videos with its bootstrap interval; empty without values, without interval for a single one."""
    if not values:
        return Cell(None)
    sample = np.array(values, np.float64)
    if len(sample) < 2:
        return Cell(float(sample.mean()))
    # seeded by the number of videos alone: methods on the same videos are resampled alike
    chosen = np.random.Generator(np.random.PCG64([SEED, len(sample)])).integers(
        0, len(sample), (RESAMPLES, len(sample))
    )
    low, high = np.quantile(sample[chosen].mean(axis=1), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Cell(float(sample.mean()), float(low), float(high))


def mark_best(columns: Sequence[Column], lines: Sequence[Line], *, excluded: Sequence[bool]) -> list[Line]:
    """The lines with the best value of every measured column marked; `excluded` lines compete in none."""
    marked = [dict(line.cells) for line in lines]
    for column in columns:
        if column.best is None:
            continue
        competing = {
            i: float(cell.value)
            for i, cell in enumerate(line.cells.get(column.key, Cell(None)) for line in lines)
            if not excluded[i] and isinstance(cell.value, int | float)
        }
        if len(competing) < 2:
            continue
        best = min(competing.values()) if column.best == "low" else max(competing.values())
        for i, value in competing.items():
            if value == best:
                old = marked[i][column.key]
                marked[i][column.key] = Cell(old.value, old.low, old.high, best=True)
    return [Line(cells, line.source) for cells, line in zip(marked, lines, strict=True)]
