"""Lists, look-ups and counts, as commands and the console ask for them."""

from __future__ import annotations

import tracemalloc
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from proxy.errors import UsageError
from proxy.exchange import ExchangeIds, Origin, Outcome, Side, id_time_us
from proxy.store import read
from proxy.store.engine import reading
from proxy.store.names import first_id
from proxy.store.read import Filters
from proxy.store.rows import ChangeRow, ChunkRow, ExchangeRow, GapRow
from proxy.store.write import Writer
from tests.unit.store.meaning import meant, understand
from tests.unit.store.support import BEGAN_US, DAY, chunk, exchange, ids, journal, opened


def put(writer: Writer, *rows: ExchangeRow) -> list[UUID]:
    with writer.transaction():
        writer.put_exchanges(rows)
    return [row.id for row in rows]


def listed(engine: Engine, filters: Filters | None = None, limit: int = 1000, before: UUID | None = None) -> list[UUID]:
    with reading(engine) as connection:
        return [each.id for each in read.list_exchanges(connection, filters or Filters(), limit, before)]


def test_an_empty_database_has_empty_lists(engine: Engine) -> None:
    assert listed(engine) == []
    with reading(engine) as connection:
        assert read.get_exchange(connection, uuid4()) is None
        assert read.headers(connection, uuid4()) == []
        assert list(read.chunks(connection, uuid4())) == []
        assert read.tags(connection, uuid4()) == []
        counted = read.counts(connection)
    assert (counted.exchanges, counted.outcomes, counted.chunks, counted.stored, counted.missing) == (0, {}, 0, 0, 0)


def test_pages_go_from_the_newest_to_the_oldest_over_all_windows(engine: Engine, writer: Writer) -> None:
    new = ids(step_us=5 * DAY)  # 40 exchanges over 200 days
    made = put(writer, *(exchange(new()) for _ in range(40)))[::-1]
    assert listed(engine) == made
    for size in (1, 3, 7, 40):
        pages: list[UUID] = []
        while page := listed(engine, limit=size, before=pages[-1] if pages else None):
            assert len(page) <= size
            pages += page
        assert pages == made


def test_a_page_stays_where_it_is_while_exchanges_arrive(engine: Engine, writer: Writer) -> None:
    new = ids()
    made = put(writer, *(exchange(new()) for _ in range(10)))
    first = listed(engine, limit=4)
    put(writer, *(exchange(new()) for _ in range(10)))
    assert first + listed(engine, before=first[-1]) == made[::-1]


def test_an_exchange_that_runs_has_the_counts_of_what_is_stored_by_now(engine: Engine, writer: Writer) -> None:
    (running,) = put(writer, opened(ids()(), response_chunks=1, response_bytes=1))
    with writer.transaction():
        writer.put_chunks([chunk(running, 1, b"ask", side=Side.REQUEST), *(chunk(running, seq) for seq in range(2, 9))])
    with reading(engine) as connection:
        (listed,) = read.list_exchanges(connection, Filters(outcome="open"), 9)
        assert read.get_exchange(connection, running) == listed
    assert (listed.request_chunks, listed.request_bytes) == (1, 3)
    assert (listed.response_chunks, listed.response_bytes) == (7, 28)


def test_filters(engine: Engine, writer: Writer) -> None:
    new = ids()
    ok, limited, broken, gone, waiting, other = put(
        writer,
        exchange(new(), tags=(("env", "ci"), ("run", "1"))),
        exchange(new(), status=429, session="s1", tags=(("env", "prod"),)),
        exchange(new(), status=502, outcome=Outcome.UPSTREAM_FAILED),
        exchange(new(), outcome=Outcome.CLIENT_LEFT, session="s1"),
        opened(new()),
        exchange(new(), upstream="anthropic", origin=Origin.DEMO, status=201),
    )
    for filters, wanted in (
        (Filters(), [ok, limited, broken, gone, waiting, other]),
        (Filters(upstream="anthropic"), [other]),
        (Filters(upstream="nobody"), []),
        (Filters(session="s1"), [limited, gone]),
        (Filters(session="s1", status=429), [limited]),
        (Filters(status=429), [limited]),
        (Filters(status="4xx"), [limited]),
        (Filters(status="5XX"), [broken]),
        (Filters(status="2xx"), [ok, gone, other]),
        (Filters(status=201), [other]),
        (Filters(outcome=Outcome.COMPLETED), [ok, limited, other]),
        (Filters(outcome=Outcome.CLIENT_LEFT), [gone]),
        (Filters(outcome="open"), [waiting]),
        (Filters(origin=Origin.DEMO), [other]),
        (Filters(tag=("env", "ci")), [ok]),
        (Filters(tag=("env", None)), [ok, limited]),
        (Filters(tag=("run", "2")), []),
        (Filters(since_us=id_time_us(broken)), [broken, gone, waiting, other]),
        (Filters(until_us=id_time_us(broken)), [ok, limited]),
        (Filters(since_us=id_time_us(limited), until_us=id_time_us(gone)), [limited, broken]),
        (Filters(since_us=BEGAN_US + 400 * DAY), []),
    ):
        assert listed(engine, filters) == wanted[::-1], filters


def test_a_tag_in_rows_of_its_own_is_found(engine: Engine, writer: Writer) -> None:
    new = ids()
    made = put(writer, *(exchange(new(), tags=(("run", str(number)),)) for number in range(300)))
    assert listed(engine, Filters(tag=("run", "7"))) == [made[7]]
    assert listed(engine, Filters(tag=("run", "299"))) == [made[299]]
    assert listed(engine, Filters(tag=("run", None))) == made[::-1]


@pytest.mark.parametrize("status", ["4x", "xxx", "0xx", "", "429 "])
def test_a_status_that_is_none_is_the_users_to_mend(engine: Engine, status: str) -> None:
    with pytest.raises(UsageError, match="429 or 4xx"):
        listed(engine, Filters(status=status))


def test_times_and_ids_bound_one_another() -> None:
    for us in (0, 1, 999, 1000, BEGAN_US, BEGAN_US + 1, BEGAN_US + 2, BEGAN_US + 999_999):
        made = ExchangeIds(lambda us=us: us).next()  # type: ignore[misc]  # the default binds the loop's value
        assert first_id(us) <= made < first_id(us + 1)
    assert first_id(-5) == first_id(0)


def test_an_exchange_is_found_by_what_a_person_types(engine: Engine, writer: Writer) -> None:
    first = UUID("019f0000-0000-7000-8000-00000000abcd")
    second = UUID("019f0000-0000-7000-8000-0000000fabcd")
    third = UUID("019f1111-0000-7000-8000-000000001234")
    put(writer, *(exchange(each) for each in (first, second, third)))
    with reading(engine) as connection:
        for given, wanted in (
            (str(first), first),
            (first.hex, first),
            (str(second).upper(), second),
            ("0abcd", first),
            ("fabcd", second),
            ("019f1", third),
            ("1234", third),
            ("0000-0000-1234", None),
            (" last ", third),
        ):
            if wanted is not None:
                assert read.find_exchange(connection, given) == wanted
        for given, told in (
            ("abcd", f"abcd may be any of {second}, {first}: give more digits"),
            ("019f", f"019f may be any of {third}, {second}, {first}: give more digits"),
            ("ffff", "there is no exchange ffff"),
            (str(uuid4()), "there is no exchange"),
            ("123", "is no exchange id"),
            ("wxyz", "is no exchange id"),
            ("%%%%", "is no exchange id"),
            ("", "is no exchange id"),
        ):
            with pytest.raises(UsageError) as raised:
                read.find_exchange(connection, given)
            assert told in str(raised.value)


def test_many_candidates_are_not_all_named(engine: Engine, writer: Writer) -> None:
    put(writer, *(exchange(UUID(int=0x019F << 112 | number)) for number in range(20)))
    with reading(engine) as connection, pytest.raises(UsageError, match=r"any of (\S+, ){5}\.\.\.: give"):
        read.find_exchange(connection, "019f")


def test_the_last_of_nothing(engine: Engine) -> None:
    with reading(engine) as connection, pytest.raises(UsageError, match="there is no exchange yet"):
        read.find_exchange(connection, "last")


def test_chunks_come_in_order_by_side_or_all(engine: Engine, writer: Writer) -> None:
    one, other = uuid4(), uuid4()
    rows = [chunk(one, seq, bytes([seq]), Side.REQUEST if seq % 3 == 0 else Side.RESPONSE) for seq in range(60)]
    with writer.transaction():
        writer.put_chunks(rows[::-1])
        writer.put_chunks([chunk(other, 1)])
    with reading(engine) as connection:
        assert list(read.chunks(connection, one)) == rows
        assert list(read.chunks(connection, one, Side.REQUEST)) == rows[::3]
        assert list(read.chunks(connection, one, Side.RESPONSE_TRAILERS)) == []
        assert next(read.chunks(connection, other)).data == b"data"


def test_reading_chunks_needs_no_more_memory_for_more_of_them(engine: Engine, writer: Writer) -> None:
    one = uuid4()
    with writer.transaction():
        writer.put_chunks(ChunkRow(one, 1, seq, seq, bytes(50_000)) for seq in range(400))
    with reading(engine) as connection:
        next(read.chunks(connection, one))
        tracemalloc.start()
        try:
            total = sum(len(row.data) for row in read.chunks(connection, one))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert total == 20_000_000
    assert peak < 4_000_000


def test_changes_and_gaps_come_back(engine: Engine, writer: Writer) -> None:
    one = uuid4()
    changes = [ChangeRow(one, 4, 5, '{"a": 1}'), ChangeRow(one, 7, 9, "")]
    gaps = [GapRow(one, 5, 6, Side.RESPONSE, 100, "the journal was full"), GapRow(one, 8, 9, Side.REQUEST, 1, None)]
    with writer.transaction():
        writer.put_changes(changes)
        writer.put_gaps(gaps)
    with reading(engine) as connection:
        assert read.changes(connection, one) == changes
        assert read.gaps(connection, one) == gaps


def test_counts(engine: Engine, writer: Writer) -> None:
    new = ids()
    first = journal(uuid4(), stored=5, highest_ordinal=5)
    second = journal(uuid4(), started_us=BEGAN_US + 1, stored=2, highest_ordinal=4)
    ended = [exchange(new()) for _ in range(4)]
    with writer.transaction():
        writer.put_exchanges([*ended, exchange(new(), outcome=Outcome.REFUSED), opened(new()), opened(new())])
        writer.put_chunks([chunk(ended[0].id, seq) for seq in range(3)])
        writer.put_journal(first)
        writer.put_journal(second)
        writer.set_meta("fingerprint_key_id", "k1")
    with reading(engine) as connection:
        counted = read.counts(connection)
        assert read.get_meta(connection, "fingerprint_key_id") == "k1"
        assert read.get_meta(connection, "nothing") is None
        assert read.journals(connection) == [first, second] == counted.journals
    assert counted.exchanges == 7
    assert counted.outcomes == {Outcome.COMPLETED: 4, Outcome.REFUSED: 1, None: 2}
    assert (counted.chunks, counted.stored, counted.missing) == (3, 7, 2)


def test_an_exchange_is_found_by_the_providers_id(engine: Engine, writer: Writer) -> None:
    new = ids()
    first, again, other = new(), new(), new()
    with writer.transaction():
        writer.put_exchanges([exchange(each) for each in (first, again, other)])
    understand(writer, meant(first, response_id="resp_1"), meant(again, response_id="resp_1"))
    understand(writer, meant(other, response_id="chatcmpl-x"))
    with reading(engine) as connection:
        assert read.find_exchange(connection, "chatcmpl-x") == other
        with pytest.raises(UsageError, match=f"may be any of {again}, {first}"):
            read.find_exchange(connection, "resp_1")
        with pytest.raises(UsageError, match="is no exchange id"):
            read.find_exchange(connection, "resp_2")
