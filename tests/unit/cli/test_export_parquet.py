"""`export parquet`, read back by pyarrow."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it comes without types
import pytest

from proxy.replay import parquet
from proxy.store.engine import execute, open_engine, reading, writing
from proxy.store.schema import exchanges
from tests.support.recordings import oldest_first
from tests.unit.cli.conftest import Command

Ids = dict[str, UUID]
SINCE_1970 = datetime(1970, 1, 1, tzinfo=UTC)


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def viewed(url: str) -> list[dict[str, Any]]:
    """What the view says, the oldest first."""
    engine = open_engine(url, create=False)
    with reading(engine) as connection:
        found = execute(connection, "SELECT * FROM exchange_list ORDER BY exchange_id")
        shown = [dict(row) for row in found.mappings()]
    engine.dispose()
    return shown


def test_a_row_has_what_the_view_has(wiretape: Command, ids: Ids, database: Any, tmp_path: Path) -> None:
    engine = open_engine(database.url, create=False)
    with writing(engine) as connection:
        cost = {"cost_pico": 123_456_789_012_345, "cost_reported_pico": None, "failed": False, "input_tokens": 7}
        connection.execute(exchanges.update().where(exchanges.c.id == ids["stream"]).values(**cost))
        connection.execute(exchanges.update().where(exchanges.c.id == ids["packed"]).values(cost_reported_pico=1))
    engine.dispose()
    file = tmp_path / "x.parquet"
    ran = wiretape("export", "parquet", file)
    assert (ran.code, ran.out, ran.err) == (0, b"", "")
    assert file.stat().st_mode & 0o777 == 0o600
    found, shown = rows(file), viewed(database.url)
    assert [each["id"] for each in found] == oldest_first(ids)
    assert set(found[0]) == set(shown[0]) - {"tag_set"} | {"tags"}
    apart = ("exchange_id", "tags", "tag_set", "started", "cost_usd")
    for row, said in zip(found, shown, strict=True):
        if said["outcome"] is None:  # whose counts are as of now
            said |= {name: row[name] for name in row if name.endswith(("_bytes", "_chunks"))}
        assert {each: row[each] for each in row if each not in apart} == {
            name: value for name, value in said.items() if name not in apart
        }
        assert str(row["exchange_id"]) == row["id"]
        assert row["started"] == SINCE_1970 + timedelta(microseconds=row["started_us"])
    one = found[list(ids).index("stream")]
    assert one["tags"] == [{"name": "env", "value": "ci"}, {"name": "project", "value": "search"}]
    assert (one["cost_usd"], one["failed"], one["outcome"]) == (Decimal("123.456789012345"), False, "completed")
    assert found[list(ids).index("packed")]["cost_usd"] == Decimal("0.000000000001")
    assert found[list(ids).index("running")]["cost_usd"] is None


@pytest.mark.engines("sqlite")
def test_types_and_groups(wiretape: Command, ids: Ids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 3)
    monkeypatch.setattr("proxy.cli.filters.PAGE", 2)
    file = tmp_path / "x.parquet"
    assert wiretape("export", "parquet", file).code == 0
    whole = pq.ParquetFile(file)
    assert [whole.metadata.row_group(at).num_rows for at in range(whole.num_row_groups)] == [3, 3, 2]
    types = {field.name: str(field.type) for field in whole.schema_arrow}
    assert {name: types[name] for name in ("status", "streaming", "started", "cost_pico", "cost_usd", "origin")} == {
        "status": "int64",
        "streaming": "bool",
        "started": "timestamp[us, tz=UTC]",
        "cost_pico": "int64",
        "cost_usd": "decimal128(19, 12)",
        "origin": "string",
    }


@pytest.mark.engines("sqlite")
def test_filters_and_nothing(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    assert wiretape("export", "parquet", file, "--status", "4xx").code == 0
    assert [each["id"] for each in rows(file)] == oldest_first(ids, ("hostile", "lossy"))
    assert wiretape("export", "parquet", file, "--status", "555").code == 0
    assert rows(file) == []


@pytest.mark.engines("sqlite")
def test_a_folder_has_a_file_a_day(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    assert wiretape("export", "parquet", tmp_path / "days").code == 0
    files = sorted((tmp_path / "days").iterdir())
    assert [each["id"] for file in files for each in rows(file)] == oldest_first(ids)
    for file in files:
        assert {each["started"].strftime("exchanges-%Y-%m-%d.parquet") for each in rows(file)} == {file.name}
    ran = wiretape("export", "parquet", tmp_path / "missing" / "x")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "cannot be written" in ran.err


@pytest.mark.engines("sqlite")
def test_without_pyarrow(wiretape: Command, ids: Ids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "proxy.replay.parquet")
    monkeypatch.delattr("proxy.replay.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = wiretape("export", "parquet", tmp_path / "x")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == "wiretape: a Parquet file needs pyarrow: run `pip install 'wiretape[parquet]'`\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.engines("sqlite")
def test_progress_on_a_terminal(terminal: Command, ids: Ids, tmp_path: Path) -> None:
    ran = terminal("export", "parquet", tmp_path / "x")
    assert ran.code == 0
    assert f"{len(ids)}/{len(ids)}" in ran.text
