"""The full-text index follows `texts`: a pass of its own fills it, and what is deleted leaves it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from proxy.store import fulltext, fulltext_fts5, fulltext_tsvector
from proxy.store.delete import delete_exchanges
from proxy.store.engine import is_shared, reading
from proxy.store.fulltext import forget_words, index_some, waiting
from proxy.store.fulltext_fts5 import INDEXED_TEXT
from proxy.store.rows import TextRow
from proxy.store.write import Writer
from tests.unit.store.meaning import meant, record, understand
from tests.unit.store.support import exchange, file_bytes, ids, sql


def found(engine: Engine, words: str) -> list[UUID]:
    """The exchanges whose texts match."""
    with reading(engine) as connection:
        return sorted(set(connection.scalars(fulltext.exchanges_with(connection, words))))


def index(engine: Engine) -> int:
    """Index all there is; in how many steps."""
    steps = 1
    while index_some(engine):
        steps += 1
    with reading(engine) as connection:
        assert waiting(connection) == 0
    if not is_shared(engine):
        with engine.connect() as connection:  # FTS5 looks whether the index holds together
            connection.exec_driver_sql("INSERT INTO texts_index (texts_index) VALUES ('integrity-check')")
            connection.rollback()
    return steps


def say(writer: Writer, exchange_id: UUID, *texts: str, again: bool = False) -> None:
    if not again:
        record(writer, exchange_id)
    understand(writer, meant(exchange_id, texts=[TextRow("user", text) for text in texts]), again=again)


def test_texts_are_found_once_they_are_indexed(engine: Engine, writer: Writer) -> None:
    new = ids()
    first, second = new(), new()
    say(writer, first, "Grüße aus Zürich", "and more")
    assert found(engine, "zurich") == []
    assert index(engine) == 1
    assert found(engine, "zurich") == [first]
    say(writer, second, "again Zürich")
    index(engine)
    assert found(engine, "zurich") == [first, second]
    assert found(engine, "ZURICH aus") == [first]
    assert found(engine, "zurich nowhere") == []
    assert found(engine, "'); -- & | ! :*") == []
    assert index_some(engine) is False


def test_steps_are_short(engine: Engine, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    new = ids()
    say(writer, new(), *[f"word{number}" for number in range(450)])
    assert index(engine) == 3
    say(writer, new(), *["long text " * 30_000] * 3)
    assert index(engine) == 4
    for index_of in (fulltext_fts5, fulltext_tsvector):
        monkeypatch.setattr(index_of, "_ROWS", 1)
    say(writer, new(), "a", "b")
    assert index(engine) == 3


def test_reading_again_replaces_what_is_found(engine: Engine, writer: Writer) -> None:
    new = ids()
    kept, changed = new(), new()
    say(writer, kept, "alpha")
    say(writer, changed, "alpha beta")
    index(engine)
    say(writer, changed, "gamma", again=True)
    assert found(engine, "alpha") == [kept]
    assert found(engine, "gamma") == []
    index(engine)
    assert (found(engine, "alpha"), found(engine, "beta"), found(engine, "gamma")) == ([kept], [], [changed])


@pytest.mark.engines("sqlite")
def test_ids_that_are_given_again_are_indexed_again(engine: Engine, writer: Writer) -> None:
    new = ids()
    first, second = new(), new()
    say(writer, first, "alpha", "beta")
    index(engine)
    delete_exchanges(engine, [first])
    say(writer, second, "gamma", "delta")
    assert sql(engine, "SELECT id FROM texts") == [(1,), (2,)]
    index(engine)
    assert (found(engine, "alpha"), found(engine, "gamma")) == ([], [second])


@pytest.mark.engines("sqlite")
def test_no_word_of_a_deleted_text_stays_in_the_file(engine: Engine, writer: Writer, database: Path) -> None:
    new = ids()
    kept, gone = new(), new()
    say(writer, kept, *["keptword and others"] * 50)
    say(writer, gone, *["vanishedword and others"] * 50)
    index(engine)
    assert b"vanishedword" in file_bytes(engine, database)
    delete_exchanges(engine, [gone])
    held = file_bytes(engine, database)
    assert b"vanishedword" not in held
    assert b"keptword" in held
    assert found(engine, "keptword") == [kept]
    index(engine)


def test_a_large_text_is_deleted_piece_by_piece(engine: Engine, writer: Writer) -> None:
    new = ids()()
    with writer.transaction():
        writer.put_exchanges([exchange(new)])
    say(writer, new, *["alpha " * 50_000] * 12, again=True)
    index(engine)
    assert delete_exchanges(engine, [new]) == (1, 0)
    assert sql(engine, "SELECT count(*) FROM texts") == [(0,)]
    assert found(engine, "alpha") == []
    index(engine)


def test_of_a_long_text_the_beginning_is_indexed(engine: Engine, writer: Writer) -> None:
    new = ids()()
    say(writer, new, "begin " + "ü" * INDEXED_TEXT + " end")
    index(engine)
    assert found(engine, "begin") == [new]
    assert found(engine, "end") == []
    delete_exchanges(engine, [new])
    assert found(engine, "begin") == []
    index(engine)


def test_an_empty_index_has_nothing_to_forget(engine: Engine) -> None:
    forget_words(engine)
    assert index_some(engine) is False
