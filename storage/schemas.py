"""The columns of the tables in the output folder, and the rows that go into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from storage.errors import StorageError

_TYPES = {
    "text": pa.string(),
    "int": pa.int64(),
    "real": pa.float64(),
    "flag": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class Table:
    """One table: its columns (`schema`), what a row is about (`keys`) and when it was said (`clock`)."""

    schema: pa.Schema
    keys: tuple[str, ...]
    clock: str


def _table(columns: str, keys: tuple[str, ...], clock: str) -> Table:
    fields = [tuple(column.split(":")) for column in f"{columns} run_id:text part:text row_id:text".split()]
    return Table(pa.schema([pa.field(name, _TYPES[kind]) for name, kind in fields]), keys, clock)


TABLES: dict[str, Table] = {
    "catalog": _table(
        "video_id:text uri:text kind:text digest:text bytes:int frames:int width:int height:int fps:real "
        "duration_s:real scenes:int at:time",
        ("video_id",),
        "at",
    ),
    "manifest": _table(
        "video_id:text uri:text kind:text digest:text bytes:int frames:int width:int height:int duration_s:real "
        "cost:real state:text reason:text shard:int at:time",
        ("video_id",),
        "at",
    ),
    "outcomes": _table(
        "video_id:text uri:text status:text reason:text step:text message:text key:text frames:int width:int "
        "height:int cached:flag seconds:real peak_rss_mb:real finished_at:time",
        ("video_id",),
        "finished_at",
    ),
    "timings": _table(
        "video_id:text step:text key:text seconds:real cached:flag frames:int finished_at:time",
        ("video_id", "step"),
        "finished_at",
    ),
    "scores": _table(
        "video_id:text result:text metric:text protocol:text value:real mean_pairs:real pairs:int frames:int "
        "width:int height:int flow:text choice:text key:text finished_at:time",
        ("video_id", "result", "metric", "protocol"),
        "finished_at",
    ),
}


def table_named(name: str) -> Table:
    """The definition of a table.

    Raises:
        StorageError: there is no such table.
    """
    if name not in TABLES:
        raise StorageError(f"no table {name!r}, only {sorted(TABLES)}", reason="format")
    return TABLES[name]


def build_rows(name: str, rows: Sequence[Mapping[str, Any]], *, run_id: str, part: str) -> pa.Table:
    """Rows as a table: missing columns null, the time filled in (now), `run_id`, `part` and `row_id` added.

    `row_id` is a hash of the row, its run, part and place in it: a row that is read from two files is counted once.

    Raises:
        StorageError: ``format`` for an unknown column or a value of the wrong type.
    """
    table = table_named(name)
    known = set(table.schema.names) - {"part", "row_id"}
    complete = []
    for index, row in enumerate(rows):
        unknown = sorted(set(row) - known)
        if unknown:
            raise StorageError(f"table {name!r} has no columns {unknown}, only {sorted(known)}", reason="format")
        full = {**row, "run_id": run_id, "part": part, table.clock: _as_time(row.get(table.clock))}
        identity = json.dumps([name, index, full], sort_keys=True, default=str)
        complete.append({**full, "row_id": hashlib.sha256(identity.encode()).hexdigest()[:32]})
    try:
        return pa.Table.from_pylist(complete, schema=table.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise StorageError(f"table {name!r}: {error}", reason="format") from None


def _as_time(moment: object) -> datetime:
    """A moment given as datetime or as seconds since 1970; now if None."""
    if moment is None:
        return datetime.now(UTC)
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC)
    raise StorageError(f"{moment!r} is no time; give a datetime or seconds since 1970", reason="format")
