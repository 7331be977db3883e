"""The pass that understands: what waits is read once, whatever fails or kills ingest is noted, and the river flows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec.json import decode

from proxy.exchange import Side, WireEnd
from proxy.ingest.attempt import DEATHS, FAULTS, Attempts, Reading
from proxy.ingest.complete import INTERPRETER
from proxy.interpret.meaning import Meaning, Recording, Text, ToolCall, Usage
from proxy.store.engine import open_engine, reading
from proxy.store.errors import DatabaseAway
from proxy.store.fulltext import exchanges_with
from tests.support.journals import House, append, exchange, exchange_id, merged, until
from tests.unit.ingest.conftest import Running

Start = Callable[..., Running]


def told(recording: Recording) -> Meaning:
    """A lens that understands the tests' own streams: each line of a response is a token."""
    said = b"".join(data for _, data in recording.response)
    sent = b"".join(data for _, data in recording.request)
    return Meaning(
        model_asked="m",
        usage=Usage(input_tokens=len(sent), output_tokens=said.count(b"data")),
        usage_state="complete",
        text=said.decode(errors="replace"),
        prompts=[Text("user", sent.decode(errors="replace"))],
        tool_calls=[ToolCall("1", "call", "{}")],
        terminated=b"two" in said,
    )


def stumbles(over: bytes, how: Callable[[], Any]) -> Callable[[Recording], Meaning]:
    """That lens, but what has these bytes does something else to it."""

    def lens(recording: Recording) -> Meaning:
        if over.decode() in recording.target:
            how()
        return told(recording)

    return lens


def unread(house: House) -> int:
    return int(house.one("SELECT count(*) FROM exchanges WHERE outcome IS NOT NULL AND interpreter IS NULL"))


def test_what_has_ended_is_understood(house: House) -> None:
    house.lens = told
    writer = house.journal()
    append(writer, merged(exchange(1), exchange(2, wire_end=None)))
    house.interpret()
    row = house.exchange(1)
    assert (row["model_asked"], row["input_tokens"], row["output_tokens"]) == ("m", 14, 2)
    assert (row["interpreter"], row["interpretation_error"], row["counted"]) == (INTERPRETER, None, 1)
    assert house.exchange(2)["interpreter"] is None, "it has not ended"
    append(writer, exchange(2)[-1:])
    house.interpret()
    assert house.exchange(2)["output_tokens"] == 2
    assert house.one("SELECT sum(exchanges) FROM spend_hours") == 2


def test_what_the_lens_is_shown(house: House) -> None:
    shown: list[tuple[Recording, list[Any], list[Any]]] = []

    def lens(recording: Recording) -> Meaning:
        shown.append((recording, list(recording.request), list(recording.response)))
        return Meaning()

    house.lens = lens
    target = "/~project=x/openai/v1/chat?n=1"
    house.record(merged(exchange(1, target=target, extras=True), exchange(2, wire_end=WireEnd.UPSTREAM_ERROR)))
    house.interpret()
    (first, request, response), (second, *_) = shown
    assert (first.dialect, first.method, first.target, first.status) == ("openai", "POST", "/v1/chat?n=1", 200)
    assert ("User-Agent", "OpenAI/Python 2.0") in first.request_headers
    assert first.response_headers == [("Content-Type", "text/event-stream"), ("X-Request-Id", "u1")], "not the interim"
    assert request == [(10, b'{"model": "m"}')]
    assert [data for _, data in response] == [b"data: one\n\n", b"data: two\n\n"]
    assert not first.whole, "bytes of it are missing"
    assert not second.whole


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_bodies_of_any_size_come_whole_and_in_order(house: House, size: int) -> None:
    seen = []

    def lens(recording: Recording) -> Meaning:
        seen.append((b"".join(data for _, data in recording.request), b"".join(data for _, data in recording.response)))
        return Meaning()

    house.lens = lens
    bodies = [(bytes([65 + number]) * size, bytes([97 + number]) * size) for number in range(3)]
    tapes = [exchange(number, upload=[sent], chunks=[came[:7], came[7:]]) for number, (sent, came) in enumerate(bodies)]
    house.record(merged(*tapes))
    house.interpret()
    assert seen == bodies


def test_a_client_that_leaves_after_the_end_has_it_all(house: House) -> None:
    house.lens = told
    house.record(
        merged(
            exchange(1, wire_end=WireEnd.CLIENT_LEFT),
            exchange(2, wire_end=WireEnd.CLIENT_LEFT, chunks=[b"data: one\n\n"]),
            exchange(3, wire_end=WireEnd.UPSTREAM_ERROR),
        )
    )
    house.interpret()
    rows = house.exchanges()
    assert [row["outcome"] for row in rows] == ["completed", "client_left", "upstream_failed"]
    assert [row["wire_end"] for row in rows] == ["client_left", "client_left", "upstream_error"]
    assert [row["failed"] for row in rows] == [0, 1, 1]


# Bodies that are not to be kept


def test_bodies_are_read_then_dropped(house: House) -> None:
    house.lens = told
    writer = house.journal()
    for entry in exchange(1, record="meta", extras=True):
        append(writer, [entry])
        house.interpret()
    row = house.exchange(1)
    assert (row["record"], row["outcome"], row["output_tokens"]) == ("meta", "completed", 2)
    assert (row["response_bytes"], row["request_bytes"]) == (29, 14)
    assert house.body(1) == house.body(1, Side.REQUEST) == []
    assert house.query("SELECT data FROM texts") == []
    assert decode(house.one("SELECT data FROM meanings"))["tool_calls"] == []
    assert house.query("SELECT count(*) FROM headers")[0][0] > 5


def test_bodies_are_dropped_in_the_transaction_of_their_meaning(house: House) -> None:
    house.lens = told
    house.record(exchange(1, record="meta"))
    house.drain()
    house.database.refuse("chunks", "DELETE")
    house.interpret()
    assert (house.exchange(1)["interpreter"], unread(house)) == (None, 1), "not understood as long as they are there"
    house.database.allow()
    house.stop()
    house.interpret()
    assert (house.body(1), house.exchange(1)["output_tokens"]) == ([], 2)


def test_bodies_are_dropped_after_a_restart(house: House) -> None:
    """Also those of a worker that died."""
    house.lens = told
    writer = house.journal()
    append(writer, merged(exchange(1, record="meta", wire_end=None), exchange(2, wire_end=None)))
    house.drain()
    writer.close()
    house.stop()
    house.drain()
    house.stop()
    house.interpret()
    assert house.body(1) == []
    assert (house.exchange(1)["response_bytes"], house.exchange(1)["outcome"]) == (22, "interrupted")
    assert len(house.body(2)) == 2


def test_bodies_are_dropped_even_if_they_cannot_be_understood(house: House) -> None:
    house.lens = stumbles(b"n=1", lambda: 1 / 0)
    house.record(exchange(1, record="meta"))
    house.interpret()
    assert house.body(1) == []
    assert "ZeroDivisionError" in house.exchange(1)["interpretation_error"]


# What goes wrong


def raises(error: type[Exception]) -> Callable[[], None]:
    def how() -> None:
        raise error("\x1b[31mno \0")

    return how


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, AssertionError, KeyError])
def test_an_exchange_that_cannot_be_understood_is_named_and_passed_over(house: House, error: type[Exception]) -> None:
    house.lens = stumbles(b"n=2", raises(error))
    house.record(merged(*[exchange(number) for number in range(1, 4)]))
    house.interpret()
    rows = house.exchanges()
    assert [row["output_tokens"] for row in rows] == [2, None, 2]
    assert rows[1]["interpretation_error"].startswith(f"interpretation failed: {error.__name__}: ")
    assert (rows[1]["interpreter"], rows[1]["usage_state"], unread(house)) == (INTERPRETER, "missing", 0)
    assert house.one("SELECT sum(exchanges), sum(unknown), sum(output_tokens) FROM spend_hours") == (3, 1, 4)


def test_a_meaning_that_the_database_refuses_is_left_out(house: House) -> None:
    house.lens = told
    house.record(merged(*[exchange(number) for number in range(1, 5)]))
    house.drain()
    house.database.refuse("meanings", "INSERT", f"NEW.exchange_id = {house.database.id_sql(exchange_id(3))}")
    house.interpret()
    rows = house.exchanges()
    assert [row["output_tokens"] for row in rows] == [2, 2, None, 2]
    assert "refused by the database" in rows[2]["interpretation_error"]
    assert unread(house) == 0


def test_one_that_the_database_will_not_even_name_waits_and_holds_up_nobody(house: House) -> None:
    house.lens = told
    house.record(merged(*[exchange(number) for number in range(1, 4)]))
    house.drain()
    # Postgres' rows are written anew, SQLite's are changed.
    event, row = ("DELETE", "OLD") if house.database.kind != "sqlite" else ("UPDATE", "NEW")
    house.database.refuse("exchanges", event, f"{row}.ordinal = 1")
    house.interpret()
    assert [row["output_tokens"] for row in house.exchanges()] == [None, 2, 2]
    house.database.allow()
    house.stop()
    house.interpret()
    assert [row["output_tokens"] for row in house.exchanges()] == [2, 2, 2]


def test_a_database_that_goes_away_in_the_middle(house: House) -> None:
    """Nothing is written, nothing is blamed, and all is read when it is back."""
    house.lens = told
    house.record(merged(*[exchange(number, chunks=[b"data two" * 300_000]) for number in range(1, 3)]))
    house.drain()
    house.stop()
    with ExitStack() as away:
        house.lens = stumbles(b"n=2", lambda: away.enter_context(house.database.away()))
        with pytest.raises(DatabaseAway):
            house.interpret()
        house.stop()
        assert Attempts(house.home / "ingest.attempt").died_at is None
    house.lens = told
    house.interpret()
    assert [row["interpretation_error"] for row in house.exchanges()] == [None, None]
    assert house.one("SELECT sum(exchanges) FROM spend_hours") == 2


# What kills ingest


def leave(house: House, note: Reading, *, fault: bool = False) -> None:
    """What an ingest leaves that died while it interpreted."""
    house.stop()
    attempts = Attempts(house.home / "ingest.attempt")
    attempts.begin(note)
    if fault:
        attempts.close()


def test_an_exception_of_ours_is_known_to_the_next_ingest(house: House) -> None:
    class Broken(BaseException):
        pass

    def how() -> None:
        raise Broken

    house.lens = stumbles(b"n=2", how)
    house.record(merged(*[exchange(number) for number in range(1, 4)]))
    for death in range(3):  # in company, and twice alone
        with pytest.raises(Broken):
            house.interpret()
        house.stop()
        found = Attempts(house.home / "ingest.attempt")
        assert isinstance(found.died_at, Reading), death
        assert found.own_fault
    house.interpret()
    rows = house.exchanges()
    assert [row["output_tokens"] for row in rows] == [2, None, 2]
    assert rows[1]["interpretation_error"] == "interpretation is left out: it ended ingest again and again"


@pytest.mark.parametrize(("deaths", "faults", "left_out"), [(DEATHS - 1, 0, True), (DEATHS - 2, 0, False)])
def test_what_was_killed_from_outside_gets_more_chances(house: House, deaths: int, faults: int, left_out: bool) -> None:
    house.lens = told
    house.record(exchange(1))
    house.drain()
    leave(house, Reading([exchange_id(1)], deaths, faults))
    house.interpret()
    assert (house.exchange(1)["interpretation_error"] is not None) is left_out


def test_a_fault_counts_for_the_one_that_was_alone(house: House) -> None:
    house.lens = told
    house.record(merged(exchange(1), exchange(2)))
    house.drain()
    leave(house, Reading([exchange_id(2)], 1, FAULTS - 1), fault=True)
    house.interpret()
    assert [row["interpretation_error"] is None for row in house.exchanges()] == [True, False]


def test_a_note_of_exchanges_that_are_gone_harms_nobody(house: House) -> None:
    house.lens = told
    house.record(exchange(1))
    house.drain()
    leave(house, Reading([exchange_id(77), exchange_id(78)]))
    house.interpret()
    assert house.exchange(1)["output_tokens"] == 2


# In the loop


def test_ingest_understands_beside_copying_and_before_it_stops(house: House, running: Start) -> None:
    writer = house.journal()
    ingest = running()
    append(writer, exchange(1))
    until(lambda: house.query("SELECT 1 FROM exchanges WHERE interpreter IS NOT NULL") != [])
    for number in range(2, 300):
        append(writer, exchange(number))
    ingest.stop()
    assert ingest.error is None
    assert (len(house.exchanges()), unread(house)) == (299, 0)
    assert house.one("SELECT sum(exchanges) FROM spend_hours") == 299


def test_what_an_earlier_ingest_left_is_understood(house: House, running: Start) -> None:
    house.record(merged(*[exchange(number) for number in range(1, 20)]))
    house.drain()
    assert unread(house) == 19
    house.stop()
    running()
    until(lambda: unread(house) == 0)


@pytest.mark.parametrize("zones", [("Europe/Berlin", "UTC"), (None, "Europe/Berlin")])
def test_the_zone_is_set_once(
    house: House, running: Start, caplog: pytest.LogCaptureFixture, zones: tuple[str | None, str]
) -> None:
    for zone in zones:
        ingest = running(time_zone=zone)
        until(lambda: house.query("SELECT 1 FROM meta WHERE key = 'reporting_time_zone'") != [])
        ingest.says("database", lambda said: said == "ok")
        ingest.stop()
        assert ingest.error is None
    assert house.one("SELECT value FROM meta WHERE key = 'reporting_time_zone'") == (zones[0] or "UTC")
    assert f"this database counts its days in {zones[0] or 'UTC'}" in caplog.text


@pytest.mark.parametrize("search", [True, False])
def test_texts_are_indexed_unless_that_is_switched_off(house: House, running: Start, search: bool) -> None:
    house.lens = told
    house.record(exchange(1, chunks=[b"data: sought\n\n"]))
    house.interpret()
    house.stop()
    running(search=search).stop()
    engine = open_engine(house.url, create=False)
    with reading(engine) as connection:
        assert bool(connection.scalars(exchanges_with(connection, "sought")).all()) is search
    engine.dispose()
