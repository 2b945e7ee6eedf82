from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from storage import StorageError, tables
from storage.locations import join, remove_tree, write_bytes_atomic
from storage.schemas import TABLES


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path):
    url = str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out"
    yield url
    remove_tree(url)


def outcome(video: str, status: str = "done", at: float = 1.0, **more: object) -> dict[str, object]:
    return {"video_id": video, "status": status, "finished_at": at, **more}


def part_names(root: str, table: str = "outcomes") -> list[str]:
    return [part.rpartition("/")[2] for part in tables._list_parts(root, table)]


def test_an_absent_table_is_empty_and_typed(root: str):
    for name, definition in TABLES.items():
        assert tables.read(root, name).schema == definition.schema
        assert tables.read(root, name).num_rows == 0
        assert tables.latest(root, name) == []
        tables.compact(root, name)


def test_the_columns_are_those_of_the_documents():
    text = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text()
    for name, definition in TABLES.items():
        section = text.split(f"### `{name}`")[1].split("\n#")[0]
        for column in definition.schema.names:
            if column not in ("run_id", "part", "row_id"):
                assert f"`{column}`" in section, f"{name}.{column} is not documented"


def test_rows_of_all_parts_are_read(root: str):
    tables.append(root, "outcomes", [outcome("a"), outcome("b", "failed", reason="decode")], run_id="r1", part=0)
    tables.append(root, "outcomes", [outcome("c")], run_id="r1", part=1)
    rows = tables.read(root, "outcomes").to_pylist()
    assert [row["video_id"] for row in rows] == ["a", "b", "c"]
    assert rows[1]["reason"] == "decode"
    assert rows[0]["reason"] is None
    assert rows[0]["run_id"] == "r1"
    assert part_names(root) == ["part-r1-000000.parquet", "part-r1-000001.parquet"]


def test_no_rows_make_no_file(root: str):
    tables.append(root, "outcomes", [], run_id="r1", part=0)
    assert part_names(root) == []


def test_latest_is_the_newest_row_per_video(root: str):
    tables.append(root, "outcomes", [outcome("b", "failed", 5.0), outcome("a", "done", 9.0)], run_id="r1", part=1)
    tables.append(root, "outcomes", [outcome("b", "done", 7.0), outcome("a", "failed", 2.0)], run_id="r2", part=0)
    newest = tables.latest(root, "outcomes")
    assert [(row["video_id"], row["status"], row["run_id"]) for row in newest] == [
        ("a", "done", "r1"),
        ("b", "done", "r2"),
    ]


def test_equal_times_are_decided_by_the_part(root: str):
    for part in (10, 9):
        tables.append(root, "outcomes", [outcome("a", seconds=float(part))], run_id="r", part=part)
    assert tables.latest(root, "outcomes")[0]["seconds"] == 10.0


def test_scores_are_latest_per_result_metric_and_protocol(root: str):
    def score(result: str, protocol: str, value: float, at: float) -> dict[str, object]:
        names = {"video_id": "a", "metric": "opw", "result": result, "protocol": protocol}
        return {**names, "value": value, "finished_at": at}

    rows = [score("mix", "nvds", 1.0, 1.0), score("mix", "nvds", 2.0, 2.0), score("initial", "nvds", 3.0, 1.0)]
    tables.append(root, "scores", rows, run_id="r", part=0)
    assert [row["value"] for row in tables.latest(root, "scores")] == [3.0, 2.0]
    assert [row["value"] for row in tables.latest(root, "scores", keys=("video_id",))] == [2.0]


def test_repeating_a_part_replaces_it(root: str):
    for status in ("failed", "done"):
        tables.append(root, "outcomes", [outcome("a", status)], run_id="r", part="shard-0")
    assert [row["status"] for row in tables.read(root, "outcomes").to_pylist()] == ["done"]


def test_compaction_keeps_every_row_in_one_part(root: str):
    for part in range(5):
        tables.append(root, "outcomes", [outcome(f"v{part}"), outcome("x", at=part)], run_id="r", part=part)
    before = tables.read(root, "outcomes").sort_by("row_id")
    tables.compact(root, "outcomes")
    assert len(part_names(root)) == 1
    assert tables.read(root, "outcomes").sort_by("row_id").equals(before)
    tables.compact(root, "outcomes")
    tables.append(root, "outcomes", [outcome("new")], run_id="r2", part=0)
    tables.compact(root, "outcomes")
    assert tables.read(root, "outcomes").num_rows == 11
    assert len(part_names(root)) == 1


def test_a_compaction_broken_off_before_the_removal_counts_no_row_twice(root: str, monkeypatch: pytest.MonkeyPatch):
    for part in range(3):
        tables.append(root, "outcomes", [outcome(f"v{part}")], run_id="r", part=part)

    def die(url: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "remove_tree", die)
        with pytest.raises(KeyboardInterrupt):
            tables.compact(root, "outcomes")
    assert len(part_names(root)) == 4
    assert tables.read(root, "outcomes").num_rows == 3
    tables.compact(root, "outcomes")
    assert len(part_names(root)) == 1
    assert tables.read(root, "outcomes").num_rows == 3


def test_readers_writers_and_compactions_at_once_lose_and_double_nothing(tmp_path: Path):
    root, failures = str(tmp_path), []

    def write(writer: int) -> None:
        for part in range(15):
            tables.append(root, "outcomes", [outcome(f"{writer}-{part}")], run_id=f"w{writer}", part=part)

    def tidy() -> None:
        for _ in range(10):
            tables.compact(root, "outcomes")
            rows = tables.read(root, "outcomes")["row_id"].to_pylist()
            if len(set(rows)) != len(rows):
                failures.append("doubled")

    def guarded(work, *arguments: int) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(write, i)) for i in range(3)]
    threads += [threading.Thread(target=guarded, args=(tidy,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(tables.read(root, "outcomes")["video_id"].to_pylist()) == sorted(
        f"{writer}-{part}" for writer in range(3) for part in range(15)
    )


def test_times_may_be_seconds_datetimes_or_left_out(root: str):
    moment = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    rows = [outcome("a", at=moment.timestamp()), {**outcome("b"), "finished_at": moment}, {"video_id": "c"}]
    tables.append(root, "outcomes", rows, run_id="r", part=0)
    found = [row["finished_at"] for row in tables.latest(root, "outcomes")]
    assert found[0] == found[1] == moment
    assert abs((found[2] - datetime.now(UTC)).total_seconds()) < 3600


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": "a"}, r"no columns \['video'\]"),
        ({"video_id": "a", "row_id": "x"}, "no columns"),
        ({"video_id": "a", "frames": "many"}, "outcomes"),
        ({"video_id": "a", "finished_at": "today"}, "no time"),
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused(root: str, row: dict[str, object], message: str):
    with pytest.raises(StorageError, match=message):
        tables.append(root, "outcomes", [row], run_id="r", part=0)
    with pytest.raises(StorageError, match="no table 'nothing'"):
        tables.read(root, "nothing")


def test_a_damaged_part_is_named(root: str):
    tables.append(root, "outcomes", [outcome("a")], run_id="r", part=0)
    write_bytes_atomic(join(root, "tables/outcomes/part-r-000001.parquet"), b"PAR1 but no more")
    with pytest.raises(StorageError, match=r"part-r-000001\.parquet is damaged") as caught:
        tables.read(root, "outcomes")
    assert caught.value.reason == "format"


def test_parts_of_another_version_are_read_by_the_columns_of_this_one(tmp_path: Path):
    tables.append(tmp_path, "outcomes", [outcome("a")], run_id="r", part=0)
    part = tmp_path / "tables" / "outcomes" / "part-r-000000.parquet"
    older = pq.read_table(part).drop_columns(["peak_rss_mb"]).append_column("extra", [["x"]])
    pq.write_table(older, part)
    rows = tables.read(tmp_path, "outcomes").to_pylist()
    assert rows[0]["video_id"] == "a"
    assert rows[0]["peak_rss_mb"] is None
    assert "extra" not in rows[0]


def test_run_ids_cannot_leave_the_folder(root: str):
    tables.append(root, "outcomes", [outcome("a")], run_id="../../evil", part="../x")
    assert part_names(root) == ["part-evil-x.parquet"]
    assert tables.read(root, "outcomes").to_pylist()[0]["run_id"] == "../../evil"
