"""What was deleted is gone from the file, in short transactions, beside a writer that goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event

from proxy.exchange import Outcome
from proxy.store import delete, engine, read, responses, sweep
from proxy.store.delete import HELD_SECONDS, delete_exchanges
from proxy.store.engine import reading, writing
from proxy.store.read import Filters
from proxy.store.rows import ChangeRow, GapRow
from proxy.store.schema import NameKind, header_sets, metadata, names, response_ids, tag_sets
from proxy.store.write import Writer
from tests.support.databases import Opener
from tests.unit.store.support import chunk, exchange, file_bytes, head, ids, opened, sql, stored

MARK = "mark-of-the-deleted"
OWN_TABLES = [each.name for each in metadata.sorted_tables if "exchange_id" in each.c and each is not response_ids]


def record(writer: Writer, exchange_id: UUID, mark: str) -> None:
    """An exchange with `mark` wherever text of a client or an upstream is kept."""
    row = exchange(
        exchange_id,
        target=f"/{mark}/" + "x" * 600 + mark,
        session=mark,
        client=mark,
        client_kind=mark,
        method=mark,
        reason=mark,
        error=mark,
        tags=((mark, mark), ("env", "ci")),
    )
    with writer.transaction():
        writer.put_exchanges([row])
        writer.put_heads([head(exchange_id, [("x-steady", mark), ("set-cookie", mark)])])
        writer.put_chunks([chunk(exchange_id, seq, mark.encode() * (1 + seq * 50)) for seq in range(1, 40)])
        writer.put_changes([ChangeRow(exchange_id, 50, 1, mark)])
        writer.put_gaps([GapRow(exchange_id, 51, 1, 0, 5, "full")])
        note_meaning(writer, exchange_id, mark)


def note_meaning(writer: Writer, exchange_id: UUID, mark: str) -> None:
    """Rows that later versions write."""
    execute, key = partial(engine.execute, writer._connection), exchange_id.bytes
    execute("UPDATE exchanges SET response_id = ?, request_id = ? WHERE id = ?", (mark, mark, key))
    responses.note(writer._connection, [(mark, key)])
    execute("INSERT INTO exchange_tags VALUES (?, ?, ?)", (key, mark, "own-" + mark))
    execute("INSERT INTO tapes VALUES (?, 1, 1, 1, 1, ?)", (key, mark.encode()))
    execute("INSERT INTO texts (exchange_id, seq, data) VALUES (?, 1, ?)", (key, mark))
    execute("INSERT INTO usage VALUES (?, 1, 1)", (key,))
    execute("INSERT INTO usage_raw VALUES (?, ?)", (key, mark))
    execute("INSERT INTO meanings VALUES (?, ?)", (key, f'"{mark}"'))
    execute("INSERT INTO rate_limits VALUES (?, 1, 1, 1, 1)", (key,))
    execute("INSERT INTO safety VALUES (?, 1, 1, 1, 1, 0.5, TRUE)", (key,))


def test_nothing_of_a_deleted_exchange_stays(kind: str, engine: Engine, writer: Writer, database: Path) -> None:
    new = ids()
    kept, gone = new(), new()
    record(writer, kept, "mark-of-the-kept")
    record(writer, gone, MARK)
    assert kind != "sqlite" or MARK.encode() in file_bytes(engine, database)
    before = {table: stored(engine, table) for table in OWN_TABLES}
    assert min(before.values()) > 0
    assert delete_exchanges(engine, [gone, uuid4()]) == (1, 0)
    assert {table: stored(engine, table) for table in OWN_TABLES} == {t: n // 2 for t, n in before.items()}
    if kind == "sqlite":
        held = file_bytes(engine, database)
        assert MARK.encode() not in held
        assert b"mark-of-the-kept" in held
    with reading(engine) as connection:
        assert [each.id for each in read.list_exchanges(connection, Filters(session="mark-of-the-kept"), 9)] == [kept]
        found = read.get_exchange(connection, kept)
        assert found is not None
        assert found.tags == (
            ("env", "ci"),
            *(("mark-of-the-kept", each + "mark-of-the-kept") for each in ("", "own-")),
        )
        assert read.headers(connection, kept)[0].headers[0] == ("x-steady", "mark-of-the-kept")


@pytest.mark.engines("sqlite")
def test_the_file_gets_smaller(engine: Engine, writer: Writer, database: Path) -> None:
    new = ids()
    made = [new() for _ in range(20)]
    with writer.transaction():
        writer.put_exchanges([exchange(each) for each in made])
        writer.put_chunks([chunk(each, seq, bytes(50_000)) for each in made for seq in range(10)])
    with reading(engine):
        pass
    file_bytes(engine, database)
    before = database.stat().st_size
    assert delete_exchanges(engine, made[:15]) == (15, 0)
    assert database.stat().st_size < before * 0.3
    assert sql(engine, "PRAGMA freelist_count") == [(0,)]
    assert sql(engine, "PRAGMA integrity_check") == [("ok",)]


def test_open_exchanges_are_left_and_counted(engine: Engine, writer: Writer) -> None:
    new = ids()
    ended, running = exchange(new()), opened(new())
    with writer.transaction():
        writer.put_exchanges([ended, running])
        writer.put_chunks([chunk(running.id, 1)])
    assert delete_exchanges(engine, [ended.id, running.id, ended.id]) == (1, 1)
    assert sql(engine, "SELECT id, outcome FROM exchanges") == [(running.id.bytes, None)]
    assert stored(engine, "chunks") == 1
    running.outcome = Outcome.INTERRUPTED
    with writer.transaction():
        writer.put_exchanges([running])
    assert delete_exchanges(engine, [running.id]) == (1, 0)
    assert delete_exchanges(engine, []) == (0, 0)


def test_transactions_are_short_whatever_the_size(
    engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete, "HELD_SECONDS", 0.0)  # one piece of work a transaction
    large, small = uuid4(), [uuid4() for _ in range(100)]
    with writer.transaction():
        writer.put_exchanges([exchange(each) for each in (large, *small)])
        writer.put_chunks([chunk(large, seq, bytes(10)) for seq in range(3000)])
        writer.put_chunks([chunk(large, 5000 + seq, bytes(300_000)) for seq in range(20)])
        writer.put_chunks([chunk(each, 1) for each in small])
    gone: list[int] = []
    before = stored(engine, "chunks")

    def after(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM chunks"):
            gone.append(cursor.rowcount)

    event.listen(engine, "after_cursor_execute", after)
    assert delete_exchanges(engine, [large, *small]) == (101, 0)
    event.remove(engine, "after_cursor_execute", after)
    assert sum(gone) == before
    assert max(gone) <= 500 + 32
    assert len(gone) >= 6 + 6 + 3


class Clock:
    """Time that passes with statements, and while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_writer_gets_its_turn_while_much_is_deleted(
    engine: Engine, writer: Writer, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ids()
    made = [new() for _ in range(1000)]
    with writer.transaction():
        writer.put_exchanges([exchange(each) for each in made])
        writer.put_chunks([chunk(each, seq, bytes(2000)) for each in made for seq in range(3)])
    clock = Clock()
    monkeypatch.setattr("proxy.store.delete.time", clock)
    began: list[float] = []
    held: list[float] = []
    other = opener()

    def begun(_connection: Any) -> None:
        began.append(clock.now)

    def passed(*_: Any) -> None:
        clock.now += 0.005

    def ended(_connection: Any) -> None:
        held.append(clock.now - began[-1])

    event.listen(other, "begin", begun)
    event.listen(other, "after_cursor_execute", passed)
    event.listen(other, "commit", ended)
    assert delete_exchanges(other, made) == (1000, 0)
    assert len(held) >= 3
    assert max(held) < 0.2, "nobody waits longer for the write lock"
    assert len(clock.slept) >= 2
    assert min(clock.slept) >= HELD_SECONDS, "others have it as long as we had"
    assert stored(engine, "chunks") == 0


def test_ids_that_a_writer_remembers_are_not_those_of_rows_taken_away(
    engine: Engine, writer: Writer, opener: Opener
) -> None:
    new = ids()
    rows = [exchange(new(), session="shared", client="c", tags=(("a", "b"),)) for _ in range(2)]

    def put(number: int) -> None:
        with writer.transaction():
            writer.put_exchanges([rows[number]])
            writer.put_heads([head(rows[number].id, [("x", "y")])])

    put(0)
    delete_exchanges(opener(), [rows[0].id])
    assert stored(engine, "header_sets") == stored(engine, "tag_sets") == stored(engine, "tag_set_items") == 0
    with writer.transaction():
        writer.name_id(NameKind.SESSION, "takes the lowest id that is free")
    put(1)
    assert sql(engine, "SELECT session, client FROM exchange_list") == [("shared", "c")]
    assert sql(engine, "SELECT name, value FROM tags") == [("a", "b")]
    assert sql(engine, "SELECT name, value FROM headers") == [("x", "y")]


def test_what_others_refer_to_stays_and_is_found_by_its_content(
    engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_RECENT", 0)  # as if a thousand others had come since
    new = ids()
    rows = [exchange(new(), session="shared", reason="Odd", tags=(("a", "b"),)) for _ in range(3)]
    with writer.transaction():
        writer.put_exchanges(rows)
        writer.put_heads([head(row.id, [("x", "y")]) for row in rows])
    interned = [
        f"SELECT {each} ORDER BY id" for each in ("* FROM names", "id, items FROM header_sets", "id FROM tag_sets")
    ]
    before = [sql(engine, each) for each in interned]
    assert delete_exchanges(engine, [rows[0].id]) == (1, 0)
    assert [sql(engine, each) for each in interned] == before
    with writer.transaction():
        writer.put_exchanges([exchange(new(), session="shared", tags=(("a", "b"),))])
    assert stored(engine, "tag_sets") == 1
    assert sql(engine, "SELECT count(*) FROM names WHERE value = 'shared'") == [(1,)]


def test_a_row_made_anew_while_its_twin_was_set_apart_is_no_conflict(engine: Engine, writer: Writer) -> None:
    new = ids()
    row = exchange(new(), session="s", tags=(("a", "b"),))
    with writer.transaction():
        writer.put_exchanges([row])
        writer.put_heads([head(row.id, [("x", "y")])])
    used = sweep.no_ids()
    for table in used:
        with reading(engine) as connection:
            used[table] |= {each[0] for each in connection.execute(table.select())}
        with writing(engine) as connection:
            sweep._set_apart(connection, table, sorted(used[table]))  # and the sweep dies here
    twin = exchange(new(), session="s", tags=(("a", "b"),))
    with writer.transaction():
        writer.put_exchanges([twin])
        writer.put_heads([head(twin.id, [("x", "y")])])
    assert stored(engine, "header_sets") == 2
    seen = [("s", "a", "b", "x", "y")] * 2
    everything = (
        "SELECT session, t.name, t.value, h.name, h.value FROM exchange_list e"
        " JOIN tags t USING (exchange_id) JOIN headers h USING (exchange_id)"
    )
    assert sql(engine, everything) == seen
    sweep.sweep(engine, {names: {1}, header_sets: set(), tag_sets: set()})
    assert sql(engine, everything) == seen
    assert delete_exchanges(engine, [row.id]) == (1, 0)
    assert sql(engine, everything) == seen[:1]
    assert stored(engine, "header_sets") == stored(engine, "tag_sets") == 1
    assert sql(engine, "SELECT count(*) FROM names WHERE kind < 0") == [(0,)]
