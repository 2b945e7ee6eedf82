"""Benchmark tables as Markdown, LaTeX, CSV, JSON, Parquet and HTML."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flows.bench_sections import Cell, Column, Document, Line, Section
from storage.errors import one_line

LATEX_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": "'"},
    **{"δ": r"$\delta$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$"},
}
STYLE = (
    ":root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:2em;max-width:90em}"
    "table{border-collapse:collapse}th,td{padding:.2em .7em;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}"
    "thead th{border-bottom:1px solid}dt{font-weight:600;float:left;clear:left;width:8em}dd{margin-left:9em}"
    "small{opacity:.7}.paper{font-style:italic}"
)


def to_markdown(document: Document) -> bytes:
    """Tables for people, best in bold, facts above each."""
    lines: list[str] = []
    for section in document.sections:
        columns = used_columns(section)
        lines += [f"### {section.title}", "", *(f"- {name}: {text}" for name, text in section.facts.items()), ""]
        if not section.lines:
            lines += ["None.", ""]
            continue
        lines.append(md_line([*(column.head for column in columns), *_paper_head(section)]))
        rules = ["---" if column.text else "---:" for column in columns]
        lines.append(md_line(rules + ["---"] * len(_paper_head(section))))
        for line in section.lines:
            cells = [_md_cell(column, line.cells.get(column.key, Cell(None))) for column in columns]
            lines.append(md_line([*cells, *_paper_cell(section, line)]))
        lines.append("")
    lines += [note for text in document.notes for note in (text, "")]
    lines += [f"{number}. {source}" for number, source in enumerate(document.sources, start=1)]
    return ("\n".join(lines).rstrip("\n") + "\n").encode()


def to_latex(document: Document) -> bytes:
    """One booktabs table per section; facts in the caption."""
    lines = ["% needs \\usepackage{booktabs}"]
    for section in document.sections:
        columns = used_columns(section)
        heads = [column.head for column in columns] + _paper_head(section)
        facts = "; ".join(f"{name}: {text}" for name, text in section.facts.items())
        lines += ["\\begin{table}", "\\centering\\small"]
        rules = "".join("l" if column.text else "r" for column in columns) + "l" * len(_paper_head(section))
        lines += [f"\\caption{{{_tex(section.title)}. {_tex(facts)}.}}", f"\\begin{{tabular}}{{{rules}}}"]
        lines += ["\\toprule", " & ".join(map(_tex, heads)) + r" \\", "\\midrule"]
        for line in section.lines:
            cells = [_tex_cell(column, line.cells.get(column.key, Cell(None))) for column in columns]
            lines.append(" & ".join([*cells, *map(_tex, _paper_cell(section, line))]) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    lines += [f"% {note}" for note in document.notes]
    lines += [f"% [{number}] {source}" for number, source in enumerate(document.sources, start=1)]
    return ("\n".join(lines).rstrip("\n") + "\n").encode()


def to_html(document: Document) -> bytes:
    """One page that needs nothing else."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>nvds {document.layout}</title><style>{STYLE}</style>"
    ]
    for section in document.sections:
        columns = used_columns(section)
        parts.append(f"<h2>{_esc(section.title)}</h2><dl>")
        parts += [f"<dt>{_esc(name)}</dt><dd>{_esc(text)}</dd>" for name, text in section.facts.items()]
        heads = "".join(f"<th scope=col>{_esc(head)}</th>" for head in [c.head for c in columns] + _paper_head(section))
        parts.append(f"</dl><table><thead><tr>{heads}</tr></thead><tbody>")
        for line in section.lines:
            cells = "".join(f"<td>{_html_cell(c, line.cells.get(c.key, Cell(None)))}</td>" for c in columns)
            paper = "".join(f"<td>{_esc(text)}</td>" for text in _paper_cell(section, line))
            parts.append(f"<tr{'' if line.source is None else ' class=paper'}>{cells}{paper}</tr>")
        parts.append("</tbody></table>")
    parts += [f"<p>{_esc(note)}</p>" for note in document.notes]
    if document.sources:
        parts.append("<ol>" + "".join(f"<li>{_esc(source)}</li>" for source in document.sources) + "</ol>")
    return ("\n".join(parts) + "</html>\n").encode()


def to_json(document: Document) -> bytes:
    """Everything with full precision, by section."""
    sections = [
        {
            "title": section.title,
            "facts": dict(section.facts),
            "rows": [
                {column.key: _json_cell(column, line.cells.get(column.key, Cell(None))) for column in section.columns}
                | {"source": line.source}
                for line in section.lines
            ],
        }
        for section in document.sections
    ]
    content = {"layout": document.layout, "notes": list(document.notes), "sections": sections}
    content["sources"] = list(document.sources)
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_csv(document: Document) -> bytes:
    """One line per row with full precision: section, values, ends of intervals, best, source, facts."""
    records = flat_records(document)
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names or ["section"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def to_parquet(document: Document) -> bytes:
    """The columns of the CSV, typed; a column without values is text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = flat_records(document)
    names = list(dict.fromkeys(name for record in records for name in record)) or ["section"]
    arrays = [pa.array([record.get(name) for record in records]) for name in names]
    arrays = [array.cast(pa.string()) if pa.types.is_null(array.type) else array for array in arrays]
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), sink, compression="zstd")
    return sink.getvalue()


FORMATS: Mapping[str, Callable[[Document], bytes]] = {
    "md": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
    "parquet": to_parquet,
    "html": to_html,
}
SUFFIXES = {"latex": "tex"}


def flat_records(document: Document) -> list[dict[str, Any]]:
    """Rows of all sections with everything said about them."""
    records = []
    for section in document.sections:
        for line in section.lines:
            record: dict[str, Any] = {"section": section.title}
            for column in section.columns:
                cell = line.cells.get(column.key, Cell(None))
                record[column.key] = cell.value
                if column.measured:
                    record |= {f"{column.key}_low": cell.low, f"{column.key}_high": cell.high}
                    record[f"{column.key}_best"] = cell.best
            record["source"] = None if line.source is None else document.sources[line.source - 1]
            records.append(record | {f"measured_{name}": text for name, text in section.facts.items()})
    return records


def used_columns(section: Section) -> list[Column]:
    """The columns in which some row has a value; the first two name the row and always stay."""
    return [
        column
        for index, column in enumerate(section.columns)
        if index < 2 or any(line.cells.get(column.key, Cell(None)).value is not None for line in section.lines)
    ]


def md_line(cells: Iterable[object]) -> str:
    """A row of a Markdown table; names and messages in it cannot end it, or be taken for HTML."""
    texts = ("" if cell is None else one_line(cell).replace("|", "\\|").replace("<", "\\<") for cell in cells)
    return f"| {' | '.join(texts)} |"


def _text(column: Column, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.{column.digits}f}" if isinstance(value, float) else str(value)


def _interval(column: Column, cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f"[{_text(column, cell.low)}, {_text(column, cell.high)}]"


def _md_cell(column: Column, cell: Cell) -> str:
    text = _text(column, cell.value)
    return " ".join(filter(None, (f"**{text}**" if cell.best else text, _interval(column, cell))))


def _tex_cell(column: Column, cell: Cell) -> str:
    text, interval = _tex(_text(column, cell.value)), _interval(column, cell)
    return (f"\\textbf{{{text}}}" if cell.best else text) + (f" {{\\scriptsize {interval}}}" if interval else "")


def _tex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in one_line(text))


def _html_cell(column: Column, cell: Cell) -> str:
    text, interval = _esc(_text(column, cell.value)), _interval(column, cell)
    return (f"<b>{text}</b>" if cell.best else text) + (f" <small>{interval}</small>" if interval else "")


def _esc(text: str) -> str:
    return html.escape(text, quote=True)


def _json_cell(column: Column, cell: Cell) -> Any:
    if not column.measured:
        return cell.value
    return {"mean": cell.value, "low": cell.low, "high": cell.high, "best": cell.best}


def _paper_head(section: Section) -> list[str]:
    return ["source"] if any(line.source is not None for line in section.lines) else []


def _paper_cell(section: Section, line: Line) -> list[str]:
    if not _paper_head(section):
        return []
    return ["here" if line.source is None else f"[{line.source}]"]
