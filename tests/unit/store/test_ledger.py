"""The large ledger in small: what it holds agrees with itself, and what is asked of it goes by the indexes meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from proxy.exchange import id_time_us
from proxy.store.engine import execute, is_shared, open_engine, reading
from proxy.store.intern import Interner
from proxy.store.migrate import schema_differences
from proxy.store.read import Filters, get_exchange, list_exchanges
from proxy.store.rollups import Ledger
from proxy.store.zone import zone_named
from tests.bench.ledger import DAYS, Filler
from tests.bench.questions import Asked, ask, bytes_each, know, questions, table
from tests.support.databases import a_database
from tests.unit.store.support import BEGAN_US, DAY, plans, sorts, sql, uses

ROWS = 20_000
VARIETY = 100


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Engine]]:
    """Fills a database of a kind, once."""
    with ExitStack() as stack:
        made: dict[str, Engine] = {}

        def of(kind: str) -> Engine:
            if kind not in made:
                place = stack.enter_context(a_database(kind, tmp_path_factory.mktemp(kind)))
                made[kind] = open_engine(place.url, create=False)
                stack.callback(made[kind].dispose)
                Filler(made[kind], BEGAN_US, VARIETY).fill(ROWS)
            return made[kind]

        yield of


@pytest.fixture
def ledger(kind: str, ledgers: Callable[[str], Engine]) -> Engine:
    return ledgers(kind)


def test_all_is_there_in_the_tables_of_this_version(ledger: Engine) -> None:
    assert sql(ledger, "SELECT count(*) FROM exchanges WHERE counted AND interpreter IS NOT NULL") == [(ROWS,)]
    assert schema_differences(ledger) == []
    with reading(ledger) as connection:
        (newest,) = list_exchanges(connection, Filters(), 1)
        known = know(connection)
        far = get_exchange(connection, known.deep)
    assert BEGAN_US - DAY < newest.started_us <= BEGAN_US
    assert abs(id_time_us(newest.id) - newest.started_us) < 1000
    assert far is not None
    assert abs((BEGAN_US - far.started_us) * ROWS / known.depth - DAYS * DAY) < DAY
    if is_shared(ledger):
        assert sql(ledger, "SELECT count(*) FROM exchanges_default") == [(0,)]


def test_the_rollups_are_what_the_product_would_take_away(ledger: Engine) -> None:
    with ledger.connect() as connection:
        interner = Interner()
        interner.begin(connection)
        books = Ledger(connection, interner, zone_named("UTC"))
        ids = [row[0] for row in execute(connection, "SELECT id FROM exchanges").fetchall()]
        assert books.take_away(ids)[0] == ROWS
        for rollup, sums in books._changed.items():
            found = execute(connection, f"SELECT * FROM {rollup.name}").fetchall()  # noqa: S608 - our tables
            width = len(rollup.primary_key)
            assert {tuple(row[:width]): [-each for each in row[width:]] for row in found} == sums


@pytest.mark.parametrize(
    ("condition", "least", "most"),
    [
        ("status >= 400", 2, 4),
        ("outcome <> 0", 0.2, 1),
        ("cost_pico > 100000000000", 0.5, 1.5),
        ("first_visible_us > 2000000", 4, 6),
        ("session IS NOT NULL", 80, 99.9),
        ("virtual_key IS NOT NULL", 20, 70),
        ("tag_set IS NOT NULL", 70, 98),
        ("response_id IS NOT NULL", 96, 98),
    ],
)
def test_rows_are_of_all_sorts(ledger: Engine, condition: str, least: float, most: float) -> None:
    ((found,),) = sql(ledger, f"SELECT count(*) FROM exchanges WHERE {condition}")  # noqa: S608 - as above
    assert least < found * 100 / ROWS < most


def test_every_question_goes_by_an_index(ledger: Engine) -> None:
    with reading(ledger) as connection:
        known = know(connection)
    for asked in questions(known, shared=is_shared(ledger)):
        if "digits" in asked.name or "tag, none" in asked.name:
            continue  # the digits may be an id's last ones; of a tag that nobody has there may be nothing to ask
        for plan in plans(ledger, asked.ask, asked.table):
            assert f"SCAN {asked.table}" not in plan, f"{asked.name}: {plan}"
            assert "Seq Scan" not in plan, f"{asked.name}: {plan}"
            assert _goes_by(asked, plan, shared=is_shared(ledger)), f"{asked.name}: {plan}"
            # Postgres does not know that what IS NULL has one value only; what is open is little to sort.
            fine = not asked.name.startswith("list") or (is_shared(ledger) and "open" in asked.name)
            assert fine or not sorts(plan.replace("Sort Key", "")), f"{asked.name}: {plan}"


def _goes_by(asked: Asked, plan: str, *, shared: bool) -> bool:
    # In so few rows as there are here Postgres may find what is frequent sooner by going back in time.
    if asked.by is None or (shared and "busiest" in asked.name):
        return True
    primary = asked.by.endswith("_pkey") and "USING PRIMARY KEY" in plan
    as_good = shared and asked.by == "exchanges_status" and uses(plan, "exchanges_failed")
    return primary or as_good or uses(plan, asked.by)


def test_it_says_how_long_each_answer_took(ledger: Engine) -> None:
    answers = ask(ledger, runs=1)
    lines = table("here", answers).splitlines()
    assert len(lines) == len(answers) + 1
    rows = {each.name: each.rows for each in answers}
    assert rows["page 1"] == rows["list by status 429"] == 50
    assert rows["one by the response's id"] == rows["one by its id"] == 1
    assert all(count == 0 for name, count in rows.items() if "none" in name)
    assert 300 < bytes_each(ledger) < 3000
