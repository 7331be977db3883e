"""docs/schema.md is made of the schema as it is, says something about everything in it, and its SQL runs."""

from __future__ import annotations

import re
from uuid import UUID

import psycopg
import pytest

from proxy.exchange import ExchangeIds, Side
from proxy.store.credentials import call
from proxy.store.engine import writing
from proxy.store.fulltext import index_some
from proxy.store.rows import TextRow
from proxy.store.write import Writer
from tests.support import schema_page
from tests.support.databases import POSTGRES, POSTGRES_16, SQLITE, Opener, PostgresDatabase, SqliteDatabase
from tests.support.running import ROOT
from tests.support.schema_meanings import INDEXES, MEANINGS, VIEWS
from tests.support.schema_queries import EXAMPLE, QUERIES
from tests.unit.store.meaning import failed, meant, silent, understand
from tests.unit.store.support import chunk, exchange, head, opened

PAGE = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    assert schema_page.page() == PAGE, "python -m tests.support.schema_page > docs/schema.md"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (MEANINGS, "gaps"),
        (MEANINGS["exchanges"], "status"),
        (MEANINGS["texts"], "words"),
        (MEANINGS["*"], "seq"),
        (MEANINGS["sums"], "errors"),
        (VIEWS, "tags"),
        (INDEXES, "texts_words"),
    ],
)
def test_nothing_may_be_without_a_sentence(monkeypatch: pytest.MonkeyPatch, words: dict[str, object], key: str) -> None:
    monkeypatch.delitem(words, key)
    with pytest.raises(LookupError, match=key):
        schema_page.page()


@pytest.mark.parametrize("words", [MEANINGS["exchanges"], MEANINGS, MEANINGS["*"], VIEWS, INDEXES, MEANINGS["sums"]])
def test_no_sentence_may_be_about_nothing(monkeypatch: pytest.MonkeyPatch, words: dict[str, object]) -> None:
    monkeypatch.setitem(words, "nothing", "A sentence." if words is not MEANINGS else {})
    with pytest.raises(LookupError, match="nothing"):
        schema_page.page()


# --- the SQL of the page ---


def blocks(kind: str) -> list[str]:
    """The SQL that the page has for an engine, and that it has for both."""
    found = re.findall(r"^```sql ?(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    engine = SQLITE if kind == SQLITE else "postgres"
    return [sql for named, sql in found if named in ("", engine)]


@pytest.fixture
def filled(place: SqliteDatabase | PostgresDatabase, opener: Opener) -> SqliteDatabase | PostgresDatabase:
    """A database in which every question has an answer."""
    engine = opener()
    writer = Writer(engine)
    example, make = UUID(EXAMPLE), ExchangeIds()
    recent, refused, running, untold = (make.next() for _ in range(4))
    carried = {"session": "nightly", "credential": "0123456789abcdef", "client": "127.0.0.1"}
    with writer.transaction():
        for each in (example, recent, refused, untold):
            writer.put_exchanges([exchange(each, tags=[("project", "search")], **carried)])
        writer.put_exchanges([opened(running)])
        writer.put_heads([head(example, [("Host", "api.example"), ("Accept", "*/*")])])
        writer.put_chunks([chunk(example, seq, b"data: x\n\n", Side.RESPONSE) for seq in range(1, 4)])
    texts = [TextRow("user", "What is the capital of France?"), TextRow("assistant", "Paris.", answer=True)]
    slow = {"first_visible_us": 3_000_000, "texts": texts}
    understand(writer, meant(example, **slow), meant(recent, **slow), silent(untold), failed(refused))
    with writing(engine) as connection:
        call(connection, "0123456789abcdef", "CI")
        connection.exec_driver_sql("UPDATE exchanges SET status = 429 WHERE failed")
    while index_some(engine):
        pass
    return place


@pytest.mark.engines(SQLITE, POSTGRES, POSTGRES_16)
def test_every_question_has_an_answer(kind: str, filled: SqliteDatabase | PostgresDatabase) -> None:
    sql = blocks(kind)
    assert len(sql) == len(QUERIES)
    answers = {each: run(filled, each) for each in sql}
    assert [each for each, rows in answers.items() if not rows] == []
    spent, slow, who, where, headers, said, found = list(answers.values())[:7]
    assert {(row[1], row[2]) for row in spent} == {("m-1", 3)}
    assert [(row[1], row[2]) for row in slow] == [("m-1", 3000)] * 2
    assert {row[0] for row in who} == {row[0] for row in where} == {"CI"}
    assert headers == [(0, "Host", "api.example"), (0, "Accept", "*/*")]
    assert [row[1:] for row in said][:2] == [("prompt", "user", texts_of(found)), ("answer", "assistant", "Paris.")]


def texts_of(found: list[tuple[object, ...]]) -> object:
    ((text,),) = found
    return text


def run(database: SqliteDatabase | PostgresDatabase, sql: str) -> list[tuple[object, ...]]:
    """As a person with a client would: not by anything of ours."""
    if isinstance(database, SqliteDatabase):
        return database.query(sql)
    with psycopg.connect(database.server.conninfo(database.name)) as connection:
        return connection.execute(sql.encode()).fetchall()
