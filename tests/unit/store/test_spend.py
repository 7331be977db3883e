"""Spend is the same from the rollups and from the exchanges, by whatever it is asked for."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, event

from proxy.exchange import Origin
from proxy.store import spend as spending
from proxy.store.delete import delete_exchanges
from proxy.store.engine import reading
from proxy.store.names import name_ids
from proxy.store.schema import NameKind
from proxy.store.spend import Answer, Question, Row, Spent, spend
from proxy.store.write import Writer
from proxy.store.zone import database_zone, zone_named
from tests.unit.store.meaning import failed, meant, silent, understand
from tests.unit.store.support import exchange, ids

HOUR = 3_600_000_000
BERLIN = ZoneInfo("Europe/Berlin")
KATHMANDU = ZoneInfo("Asia/Kathmandu")  # 5 h 45 m before UTC


def us(zone: tzinfo, *when: int) -> int:
    year, month, day, *rest = when
    hour, minute = (*rest, 0, 0)[:2]
    return round(datetime(year, month, day, hour, minute, tzinfo=zone).timestamp()) * 1_000_000


SUMMER_ENDS = us(BERLIN, 2026, 10, 25)  # the day has 25 hours


def fill(writer: Writer, zone: tzinfo, count: int = 300) -> None:
    """Exchanges of all kinds over three days around the end of summer time, the same ones in each run."""
    made = random.Random(7)
    new = ids(SUMMER_ENDS - 24 * HOUR, 73 * HOUR // count)
    rows = []
    with writer.transaction():
        for number in range(count):
            key = new()
            tags = made.choice([[], [("env", "ci")], [("env", "dev"), ("team", "a")], [("env", "=x"), ("team", "b")]])
            row = exchange(
                key,
                started_us=SUMMER_ENDS - 24 * HOUR + number * (73 * HOUR // count),
                upstream=made.choice(["openai", "anthropic"]),
                credential=made.choice([None, "c1", "c2"]),
                session=made.choice([None, "s1"]),
                status=made.choice([200, 200, 200, 429]),
                tags=tags,
                origin=made.choice([Origin.LIVE, Origin.LIVE, Origin.RESEND, Origin.DEMO]),
                node=made.choice(["one", "two"]),
            )
            writer.put_exchanges([row])
            fields: dict[str, Any] = {"model_served": made.choice([None, "m-1", "m-2"])}
            tokens = {
                "input_tokens": made.randrange(1000),
                "cache_read_tokens": made.choice([None, 0, 7]),
                "cost_pico": made.choice([None, 10**6, 123]),
            }
            rows.append(made.choice([meant(key, **fields, **tokens), failed(key, **fields), silent(key, **fields)]))
    with writer.transaction():
        writer.claim_zone(str(zone))
    understand(writer, *rows, zone=zone)


@pytest.fixture(params=[UTC, BERLIN, KATHMANDU], ids=str)
def filled(request: pytest.FixtureRequest, engine: Engine, writer: Writer) -> tuple[Engine, tzinfo]:
    fill(writer, request.param)
    return engine, request.param


def from_exchanges(connection: Connection, question: Question) -> dict[tuple[Any, ...], Spent]:
    """The same question answered one exchange at a time."""
    zone = zone_named(database_zone(connection))
    adder = spending._Adder(connection, question, zone)
    sums = adder._from_exchanges()
    names = adder._names(sums)
    return {
        tuple(adder._shown(by, key, names) for by, key in zip(question.by, keys, strict=True)): value
        for keys, value in sums.items()
    }


def by_keys(answer: Answer) -> dict[tuple[Any, ...], Spent]:
    found: dict[tuple[Any, ...], Spent] = {}
    for keys, spent in answer.rows:
        assert keys not in found, "a line is there twice"
        found[keys] = spent
    return found


def test_rollups_and_exchanges_agree(filled: tuple[Engine, tzinfo]) -> None:
    engine, zone = filled
    dimensions = [*spending.DIMENSIONS, "tag:env", "tag:team"]
    bounds = [
        (None, None),
        (us(zone, 2026, 10, 25), us(zone, 2026, 10, 26)),
        (us(UTC, 2026, 10, 25, 1), us(UTC, 2026, 10, 26, 5)),
        (us(UTC, 2026, 10, 25, 1, 7), None),
    ]
    with reading(engine) as connection:
        for size in range(3):
            for by in itertools.permutations(dimensions, size):
                if sum(each.startswith("tag:") for each in by) > 1:
                    continue
                for since, until in bounds:
                    question = Question(by, since, until)
                    assert by_keys(spend(connection, question)) == from_exchanges(connection, question), question


def test_totals_agree_to_the_token(filled: tuple[Engine, tzinfo]) -> None:
    engine, _ = filled
    with reading(engine) as connection:
        answers = [spend(connection, Question((by,))) for by in (*spending.DIMENSIONS, "tag:env")]
    for answer in answers:
        total = Spent()
        for row in answer.rows:
            total = total.plus(row.spent)
        assert total == answer.total == answers[0].total
    assert answers[0].total.exchanges > 100
    assert 0 < answers[0].total.unknown < answers[0].total.exchanges


def test_narrowed(filled: tuple[Engine, tzinfo]) -> None:
    """Narrowing to each value of a dimension gives that value's line."""
    engine, _ = filled
    kinds = {"model": NameKind.MODEL, "upstream": NameKind.UPSTREAM, "credential": NameKind.CREDENTIAL}
    with reading(engine) as connection:

        def narrowed(by: str, value: str) -> Question:
            found = name_ids(connection, kinds[by], value)
            if by == "upstream":
                return Question(upstream=found[0])
            return Question(models=tuple(found)) if by == "model" else Question(credentials=tuple(found))

        for by in kinds:
            for row in spend(connection, Question((by,))).rows:
                if row.keys[0] is not None:
                    assert spend(connection, narrowed(by, str(row.keys[0]))).total == row.spent
        for (value,), spent in by_keys(spend(connection, Question(("tag:env",)))).items():
            if value is not None:
                assert spend(connection, Question(tag=("env", str(value)))).total == spent
        for (status,), spent in by_keys(spend(connection, Question(("status",)))).items():
            assert spend(connection, Question(status=int(status))).total == spent
        assert spend(connection, Question(models=())).total == Spent()


def test_a_day_has_the_hours_that_it_has(engine: Engine, writer: Writer) -> None:
    """23 where summer time begins, 25 where it ends: one exchange an hour."""
    begins = us(UTC, 2026, 3, 28, 22)
    new = ids(begins, HOUR)
    rows = []
    with writer.transaction():
        writer.claim_zone("Europe/Berlin")
        for start, length in ((begins, 50), (us(UTC, 2026, 10, 24, 20), 52)):
            for number in range(length):
                key = new()
                writer.put_exchanges([exchange(key, started_us=start + number * HOUR)])
                rows.append(meant(key))
    understand(writer, *rows, zone=BERLIN)
    with reading(engine) as connection:
        days = {keys[0]: spent.exchanges for keys, spent in by_keys(spend(connection, Question(("day",)))).items()}
        hours = spend(connection, Question(("hour",)))
    assert (days["2026-03-29"], days["2026-10-25"]) == (23, 25)
    assert hours.zone == "Europe/Berlin"
    shown = Counter(str(row.keys[0])[:13] for row in hours.rows)
    assert shown["2026-10-25T02"] == 2, "02:00 comes twice, with another offset each time"
    assert "2026-03-29T02" not in shown, "02:00 does not come at all"


def test_deleted_exchanges_stay_in_the_rollups(engine: Engine, writer: Writer) -> None:
    new = ids()
    keys = [new() for _ in range(4)]
    with writer.transaction():
        writer.put_exchanges([exchange(key, session="s") for key in keys])
    understand(writer, *[meant(key) for key in keys])
    delete_exchanges(engine, keys[:3])
    with reading(engine) as connection:
        assert spend(connection, Question(("model",))).total.exchanges == 4
        assert spend(connection, Question(("session",))).rows == [Row(("s",), replaced(1))]


def replaced(count: int) -> Spent:
    return Spent(exchanges=count, input_tokens=10 * count, output_tokens=5 * count, cost_pico=count * 10**6)


def test_what_costs_is_known_or_not() -> None:
    assert Spent(exchanges=2, unknown=1, unpriced=1).known_cost_pico is None
    assert Spent(exchanges=2, unknown=1).known_cost_pico == 0
    assert Spent(exchanges=2, unknown=2, cost_pico=5).known_cost_pico == 5
    assert Spent(input_tokens=10, cache_read_tokens=3, cache_write_tokens=4).uncached_tokens == 3
    assert Spent(input_tokens=1, cache_read_tokens=3).uncached_tokens == 0


def test_thirty_days_by_model_and_day_are_asked_of_the_rollup(engine: Engine) -> None:
    """Days and models are few, whatever the number of exchanges: those are not even looked at."""
    with reading(engine) as connection:
        asked: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        since = us(UTC, 2026, 10, 1)
        spend(connection, Question(("model", "day"), since, since + int(timedelta(days=30).total_seconds()) * 10**6))
        event.remove(engine, "before_cursor_execute", note)
    assert any("spend_keys" in each for each in asked)
    assert not any("FROM exchanges" in each for each in asked)
