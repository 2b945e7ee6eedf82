from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.bench_formats import FORMATS
from flows.bench_sections import Cell, Column, Document, Line, Section, mark_best, mean_cell

COLUMNS = (
    Column("predictor", "predictor", text=True),
    Column("method", "method", text=True),
    Column("opw", "OPW ↓", 4, best="low"),
    Column("delta1", "δ1 ↑", best="high"),
    Column("empty", "empty", best="low"),
)


def lines(*rows):
    keys = ("predictor", "method", "opw", "delta1")
    return [Line({key: Cell(value) for key, value in zip(keys, row, strict=True)}) for row in rows]


@pytest.fixture
def document():
    made = mark_best(
        COLUMNS,
        lines(("a_b", "initial", 0.5, 0.7), ("a_b", "mix", 0.25, 0.7), ("a_b", "constant", 0.0, 0.9)),
        excluded=[False, False, True],
    )
    made.append(Line({"predictor": Cell("Paper & co"), "opw": Cell(0.1)}, source=1))
    section = Section("set|one", {"cap": "70 m", "flow": "dis<1>"}, COLUMNS, made)
    return Document(
        "common", ("A note.",), [section, Section("nothing", {"cap": "none"}, COLUMNS, [])], ["README of X"]
    )


def test_the_interval_is_that_of_a_plain_bootstrap():
    values = np.random.default_rng(3).random(40)
    cell = mean_cell(list(values))
    assert cell.value == pytest.approx(values.mean())
    rng = np.random.default_rng(0)
    means = [rng.choice(values, 40).mean() for _ in range(4000)]
    assert cell.low == pytest.approx(np.quantile(means, 0.025), abs=0.01)
    assert cell.high == pytest.approx(np.quantile(means, 0.975), abs=0.01)
    assert mean_cell(list(values)) == cell


def test_one_video_has_no_interval_and_none_no_mean():
    assert mean_cell([0.5]) == Cell(0.5)
    assert mean_cell([]) == Cell(None)


def test_equal_values_have_equal_intervals_around_them():
    assert mean_cell([0.25] * 7) == Cell(0.25, 0.25, 0.25)


def test_the_best_is_marked_by_column_without_controls_and_papers(document):
    initial, mix, constant, paper = document.sections[0].lines
    assert (initial.cells["opw"].best, mix.cells["opw"].best) == (False, True)
    assert initial.cells["delta1"].best, "equal values are both best"
    assert mix.cells["delta1"].best
    assert not any(cell.best for cell in (*constant.cells.values(), *paper.cells.values()))


def test_a_single_competitor_is_no_best():
    [line, _] = mark_best(COLUMNS, lines(("a", "mix", 0.1, None), ("a", "constant", 0, 1)), excluded=[False, True])
    assert not line.cells["opw"].best


def test_markdown_is_a_table_with_facts_and_bold(document):
    text = FORMATS["md"](document).decode()
    assert "- cap: 70 m" in text
    assert "| a_b | mix | **0.2500** | **0.700** | here |" in text
    assert "| Paper & co |  | 0.1000 |  | [1] |" in text
    assert "empty" not in text, "a column without values"
    assert "1. README of X" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6}


def test_latex_is_balanced_and_escaped(document):
    text = FORMATS["latex"](document).decode()
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    assert "Paper \\& co" in text
    assert "a\\_b & mix & \\textbf{0.2500}" in text
    assert "$\\delta$1" in text
    assert text.isascii()


def test_a_name_cannot_end_its_row_or_become_markup():
    name = "a\n\n| b <img src=x> |\x1b[2J.mp4"
    lines = [Line({"video": Cell(name), "reason": Cell("decode")})]
    columns = [Column("video", "video", text=True), Column("reason", "reason", text=True)]
    document = Document("failures", (), [Section("s", {}, columns, lines)])
    markdown, latex = (FORMATS[name](document).decode() for name in ("md", "latex"))
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert [len(re.split(r"(?<!\\)\|", row)) for row in rows] == [4, 4, 4]
    assert not re.search(r"(?<!\\)<", markdown)
    assert len([line for line in latex.splitlines() if line.endswith(r"\\")]) == 2
    assert "\x1b" not in markdown + latex


def test_html_is_well_formed_and_escaped(document):
    class Balance(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta",):
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

    parser = Balance()
    text = FORMATS["html"](document).decode()
    parser.feed(text)
    assert parser.open_tags == []
    assert "dis&lt;1&gt;" in text
    assert "<b>0.2500</b>" in text


def test_json_and_csv_and_parquet_hold_the_same_numbers(document):
    document_json = json.loads(FORMATS["json"](document))
    rows = document_json["sections"][0]["rows"]
    assert rows[1]["opw"] == {"mean": 0.25, "low": None, "high": None, "best": True}
    records = list(csv.DictReader(FORMATS["csv"](document).decode().splitlines()))
    assert [record["opw"] for record in records] == ["0.5", "0.25", "0.0", "0.1"]
    assert records[3]["source"] == "README of X"
    assert records[0]["measured_flow"] == "dis<1>"
    table = pq.read_table(io.BytesIO(FORMATS["parquet"](document))).to_pylist()
    assert [row["opw"] for row in table] == [0.5, 0.25, 0.0, 0.1]
    assert [row["delta1_best"] for row in table] == [True, True, False, False]


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_document_is_written(format):
    assert FORMATS[format](Document("failures", (), [])) is not None
