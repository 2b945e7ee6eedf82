from __future__ import annotations

import json

import pytest

from flows.bench_published import papers_rows
from nvds_core.datasets import KINDS


@pytest.mark.parametrize("layout", ["nvds", "common", "runtime"])
def test_every_published_row_has_a_source_and_a_number(layout):
    rows, sources = papers_rows(layout)
    assert rows
    assert {row.source for row in rows} == set(range(1, len(sources) + 1))
    assert all("evidence: primary" in source or "evidence: secondary" in source for source in sources)
    for row in rows:
        assert [value for value in row.values.values() if isinstance(value, int | float)]
        for name in ("delta1", "abs_rel"):
            assert 0 <= row.values.get(name, 0) <= 1, "fractions"


def test_published_sets_are_kinds_of_data_sets():
    named = {row.set for layout in ("nvds", "common") for row in papers_rows(layout)[0]}
    assert named - {"vdw-000423"} <= set(KINDS)


def test_published_numbers_are_those_of_the_collected_facts(shared):
    facts = json.loads((shared / "reference" / "papers" / "paper_tables.json").read_text(encoding="utf-8"))

    def numbers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return {number for item in value for number in numbers(item)}
        return {round(float(value), 6)} if isinstance(value, int | float) else set()

    known = numbers(facts["tables"])
    known |= {round(number / 100, 6) for number in known}  # percent there, fractions here
    for layout in ("nvds", "common"):
        for row in papers_rows(layout)[0]:
            for name, value in row.values.items():
                assert value in known, (row.method, name)
