"""Parquet tables as sets of immutable part files: many may append at once, nobody rewrites another's rows."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import StorageError, redact
from storage.files import list_names, read_bytes, write_bytes_atomic
from storage.schemas import build_rows, table_named
from storage.trees import remove_tree
from storage.urls import URL, join, last_part, safe_name

_READERS = 8
_READ_ATTEMPTS = 5


def append(root: URL, table: str, rows: Sequence[Mapping[str, Any]], *, run_id: str, part: int | str) -> None:
    """Add rows as one new part file ``<root>/tables/<table>/part-<run_id>-<part>.parquet``, atomically.

    Appending the same part of the same run again replaces it, so a repeated shard does not double its rows. No rows,
    no file. Missing columns become null; the time column is filled in with now.

    Raises:
        StorageError: ``format`` for an unknown table or column or a wrong type; ``disk_full``, ``read_only``.
    """
    # zero-padded: parts of one run sort by name as by number
    part_name = f"{part:06d}" if isinstance(part, int) else safe_name(part, 80)
    content = build_rows(table, rows, run_id=run_id, part=part_name)
    if content.num_rows:
        write_bytes_atomic(_part_url(root, table, f"{safe_name(run_id, 80)}-{part_name}"), _to_parquet(content))


def read(root: URL, table: str) -> pa.Table:
    """All rows of all parts, each once; an empty table if there are none.

    Raises:
        StorageError: ``format`` naming a damaged part.
    """
    return _read(root, table)[0]


def read_run(root: URL, table: str, run_id: str) -> list[dict[str, Any]]:
    """The rows of one run, as long as its parts are not merged with others; other parts are not opened."""
    beginning = f"part-{safe_name(run_id, 80)}-"
    schema = table_named(table).schema
    parts = [_read_part(part, schema) for part in _list_parts(root, table) if last_part(part).startswith(beginning)]
    rows: list[dict[str, Any]] = pa.concat_tables([schema.empty_table(), *parts]).to_pylist()
    return [row for row in rows if row["run_id"] == run_id]


def drop_runs(root: URL, table: str, *, keep: str) -> list[str]:
    """Remove the parts of all runs but `keep` from a table that is about single runs; return what was removed."""
    kept = f"part-{safe_name(keep, 80)}-"
    dropped = [part for part in _list_parts(root, table) if not last_part(part).startswith(kept)]
    for part in dropped:
        remove_tree(part)
    return dropped


def latest(root: URL, table: str, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The newest row per key, by time and then part, sorted by key.

    Args:
        root: the output folder.
        table: its name.
        keys: columns; by default what a row of this table is about, for example ``("video_id",)`` for outcomes,
            ``("video_id", "result", "metric", "protocol")`` for scores.
    """
    definition = table_named(table)
    columns = list(keys or definition.keys)
    rows = read(root, table)
    newest_last = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in (definition.clock, "part")]))
    numbered = newest_last.append_column("_row", pa.array(range(newest_last.num_rows), pa.int64()))
    picked = numbered.group_by(columns).aggregate([("_row", "max")])
    ordered = picked.sort_by([(name, "ascending") for name in columns])
    result: list[dict[str, Any]] = newest_last.take(ordered["_row_max"]).to_pylist()
    return result


def compact(root: URL, table: str) -> None:
    """Merge all parts into one. Safe to break off or to run twice at once: readers count each row once."""
    rows, parts = _read(root, table)
    if len(parts) < 2:
        return
    # named by content: two compactions of the same parts write the same file
    identity = hashlib.sha256("".join(sorted(rows["row_id"].to_pylist())).encode()).hexdigest()[:16]
    merged = _part_url(root, table, f"compact-{identity}")
    write_bytes_atomic(merged, _to_parquet(rows))
    for part in parts:
        if last_part(part) != last_part(merged):
            remove_tree(part)


def _read(root: URL, table: str) -> tuple[pa.Table, list[str]]:
    """The rows and the part files they came from; begun anew if a compaction removes one meanwhile."""
    schema = table_named(table).schema
    for attempt in range(_READ_ATTEMPTS):
        parts = _list_parts(root, table)
        try:
            with ThreadPoolExecutor(min(_READERS, len(parts) or 1)) as pool:
                tables = list(pool.map(lambda part: _read_part(part, schema), parts))
            break
        except StorageError as error:
            if error.reason != "absent" or attempt == _READ_ATTEMPTS - 1:
                raise
    return _each_once(pa.concat_tables([schema.empty_table(), *tables])), parts


def _each_once(rows: pa.Table) -> pa.Table:
    if pc.count_distinct(rows["row_id"]).as_py() == rows.num_rows:
        return rows
    numbered = rows.select(["row_id"]).append_column("_row", pa.array(range(rows.num_rows), pa.int64()))
    first = numbered.group_by("row_id").aggregate([("_row", "min")])["_row_min"]
    return rows.take(first.combine_chunks().sort())


def _read_part(part: str, schema: pa.Schema) -> pa.Table:
    data = read_bytes(part)
    try:
        found = pq.read_table(io.BytesIO(data))
        # parts written by another version of the code may lack columns or have more
        columns = [
            found[field.name].cast(field.type) if field.name in found.schema.names else pa.nulls(len(found), field.type)
            for field in schema
        ]
    except pa.ArrowException as error:
        message = f"{redact(part)} is damaged ({error}); remove it, finished volumes are not affected"
        raise StorageError(message, reason="format") from None
    return pa.table(columns, schema=schema)


def _list_parts(root: URL, table: str) -> list[str]:
    folder = join(root, "tables", table)
    return [join(folder, name) for name in list_names(folder) if re.fullmatch(r"part-.*\.parquet", name)]


def _part_url(root: URL, table: str, name: str) -> str:
    return join(root, "tables", table, f"part-{name}.parquet")


def _to_parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()
