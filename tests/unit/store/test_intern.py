"""What repeats is stored once, and an id that is remembered is an id that is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from proxy.store import intern
from proxy.store.engine import is_shared, reading
from proxy.store.intern import TAG_VALUES
from proxy.store.read import tags
from proxy.store.schema import NameKind
from proxy.store.write import Writer
from tests.support.databases import Opener
from tests.unit.store.support import exchange, head, ids, sql


def roll_back(writer: Writer, work: Callable[[], object]) -> None:
    class Stop(Exception):
        pass

    def fail() -> None:
        with writer.transaction():
            work()
            raise Stop

    with pytest.raises(Stop):
        fail()


def test_a_name_has_one_id_by_kind(engine: Engine, writer: Writer, opener: Opener) -> None:
    with writer.transaction():
        first = writer.name_id(NameKind.MODEL, "gpt-4o")
        assert writer.name_id(NameKind.MODEL, "gpt-4o") == first
        assert writer.name_id(NameKind.SESSION, "gpt-4o") != first
    other = Writer(opener())
    with other.transaction():
        assert other.name_id(NameKind.MODEL, "gpt-4o") == first
    assert sql(engine, "SELECT kind, value FROM names") == [(15, "gpt-4o"), (9, "gpt-4o")]


def test_names_that_differ_behind_the_cap_are_one(writer: Writer) -> None:
    with writer.transaction():
        first = writer.name_id(NameKind.TARGET, "x" * 512 + "a")
        assert writer.name_id(NameKind.TARGET, "x" * 512 + "b") == first
        assert writer.name_id(NameKind.TARGET, "x" * 512) == first
        assert writer.name_id(NameKind.TARGET, "x" * 511) != first


def test_ids_of_a_rolled_back_transaction_are_forgotten(engine: Engine, writer: Writer) -> None:
    new = ids()

    def work() -> None:
        writer.put_exchanges([exchange(new(), session="lost", tags=(("lost", "1"),))])
        writer.put_heads([head(new(), [("x-lost", "1")])])

    roll_back(writer, work)
    assert is_shared(engine) or sql(engine, "SELECT count(*) FROM names") == [(0,)]
    with writer.transaction():
        # Takes the ids that the lost rows had.
        writer.name_id(NameKind.SESSION, "other")
        writer.put_exchanges([exchange(new(), session="lost", tags=(("lost", "1"),))])
        writer.put_heads([head(new(), [("x-lost", "1")])])
    assert sql(engine, "SELECT session FROM exchange_list") == [("lost",)]
    assert sql(engine, "SELECT name, value FROM tags") == [("lost", "1")]
    assert sql(engine, "SELECT name, value FROM headers") == [("x-lost", "1")]


def test_ids_survive_a_cache_that_is_too_small(engine: Engine, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intern, "_CACHED", 4)
    small = Writer(opener())
    with small.transaction():
        first = {number: small.name_id(NameKind.SESSION, f"s{number}") for number in range(50)}
        again = {number: small.name_id(NameKind.SESSION, f"s{number}") for number in reversed(range(50))}
    assert first == again
    assert sql(engine, "SELECT count(*) FROM names") == [(50,)]


def test_tags_share_sets_whatever_their_order(engine: Engine, writer: Writer) -> None:
    new = ids()
    orders = [(("a", "1"), ("b", "2")), (("b", "2"), ("a", "1")), (("a", "1"), ("b", "2"), ("a", "1"))]
    with writer.transaction():
        writer.put_exchanges([exchange(new(), tags=order) for order in orders])
        writer.put_exchanges([exchange(new())])
    assert sql(engine, "SELECT count(*) FROM tag_sets") == [(1,)]
    assert sql(engine, "SELECT count(*) FROM exchanges WHERE tag_set IS NULL") == [(1,)]
    assert sql(engine, "SELECT name, value FROM tags ORDER BY exchange_id, name") == [("a", "1"), ("b", "2")] * 3


def test_a_tag_with_too_many_values_gets_rows_of_its_own(engine: Engine, writer: Writer, opener: Opener) -> None:
    new = ids()
    made = [new() for _ in range(TAG_VALUES + 20)]
    rows = [exchange(each, tags=(("run", str(each)), ("env", "ci"))) for each in made]
    with writer.transaction():
        writer.put_exchanges(rows[:200])
    later = Writer(opener())  # the count is of the database, not of the process
    for half in (rows[200:250], rows[250:]):
        with later.transaction():
            later.put_exchanges(half)
    with later.transaction():
        later.put_exchanges(rows)  # at their end: each stays where it was
    assert sql(engine, "SELECT count(DISTINCT value) FROM tag_set_items WHERE name = 'run'") == [(TAG_VALUES,)]
    assert sql(engine, "SELECT count(*), count(DISTINCT value) FROM exchange_tags") == [(20, 20)]
    assert sql(engine, "SELECT count(*) FROM tag_sets") == [(TAG_VALUES + 1,)]
    with reading(engine) as connection:
        for each in made:
            assert tags(connection, each) == [("env", "ci"), ("run", str(each))]


def test_a_rolled_back_tag_value_does_not_count(engine: Engine, writer: Writer) -> None:
    new = ids()

    def work() -> None:
        writer.put_exchanges([exchange(new(), tags=(("run", f"lost{number}"),)) for number in range(TAG_VALUES)])

    roll_back(writer, work)
    with writer.transaction():
        writer.put_exchanges([exchange(new(), tags=(("run", f"kept{number}"),)) for number in range(TAG_VALUES)])
    # Nodes that share a database count what others could have used meanwhile.
    assert sql(engine, "SELECT count(*) FROM exchange_tags") == [(TAG_VALUES if is_shared(engine) else 0,)]
