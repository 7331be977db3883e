"""Each response counts once, in whatever order its copies come and however often they are read."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from proxy.exchange import Origin
from proxy.store.delete import delete_exchanges
from proxy.store.engine import execute
from proxy.store.rows import MeaningRow
from proxy.store.write import Writer
from tests.unit.store.meaning import agree, by_model, failed, meant, record, silent, spent, understand
from tests.unit.store.support import ids, sql

ORDERS = list(itertools.permutations(range(3)))


def post(exchange_id: UUID, **fields: Any) -> MeaningRow:
    return meant(exchange_id, **({"response_id": "r"} | fields))


def get(exchange_id: UUID, **fields: Any) -> MeaningRow:
    return meant(exchange_id, **({"response_id": "r", "retrieves": True} | fields))


def counted(engine: Engine) -> set[UUID]:
    agree(engine)
    return {UUID(bytes=row[0]) for row in sql(engine, "SELECT id FROM exchanges WHERE counted")}


@pytest.fixture
def made(writer: Writer) -> list[UUID]:
    new = ids()
    found = [new() for _ in range(4)]
    record(writer, *found)
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("together", [True, False])
def test_a_post_counts_and_its_copies_do_not(
    engine: Engine, writer: Writer, made: list[UUID], order: tuple[int, ...], together: bool
) -> None:
    rows = [post(made[0]), get(made[1]), get(made[2])]
    shuffled = [rows[each] for each in order]
    for batch in [shuffled] if together else [[row] for row in shuffled]:
        understand(writer, *batch)
    assert counted(engine) == {made[0]}
    assert sql(engine, "SELECT exchange, retrieved FROM billed") == [(made[0].bytes, 0)]
    for row in reversed(shuffled):
        assert understand(writer, row, again=True).changed == 0
    assert counted(engine) == {made[0]}


@pytest.mark.parametrize("order", ORDERS)
def test_of_copies_alone_the_first_counts(
    engine: Engine, writer: Writer, made: list[UUID], order: tuple[int, ...]
) -> None:
    for each in order:
        understand(writer, get(made[each]))
    assert counted(engine) == {made[order[0]]}


@pytest.mark.parametrize("order", ORDERS)
def test_a_post_without_usage_leaves_its_tokens_to_a_copy(
    engine: Engine, writer: Writer, made: list[UUID], order: tuple[int, ...]
) -> None:
    rows = [silent(made[0], response_id="r"), get(made[1]), get(made[2])]
    for each in order:
        understand(writer, rows[each])
    first_copy = next(each for each in order if each)
    assert counted(engine) == {made[0], made[first_copy]}
    assert spent(engine) == {
        "exchanges": 2, "unknown": 1, "input_tokens": 10, "output_tokens": 5, "cost_pico": 1_000_000,
    }  # fmt: skip
    understand(writer, post(made[0]), again=True)
    assert counted(engine) == {made[0]}, "it has its tokens now"


def test_every_post_counts(engine: Engine, writer: Writer, made: list[UUID]) -> None:
    """Some servers give each response the same id."""
    understand(writer, *[post(each) for each in made])
    assert counted(engine) == set(made)
    assert sql(engine, "SELECT count(*) FROM billed") == [(1,)]


def test_a_copy_without_usage_or_id_does_not_count(engine: Engine, writer: Writer, made: list[UUID]) -> None:
    rows = [silent(made[0], response_id="r", retrieves=True), get(made[1], response_id=None), failed(made[2])]
    rows[2].retrieves = True
    understand(writer, *rows)
    assert counted(engine) == set()
    assert sql(engine, "SELECT * FROM billed") == []


def test_an_id_is_its_upstreams_own(engine: Engine, writer: Writer, made: list[UUID]) -> None:
    record(writer, made[1], upstream="another")
    understand(writer, get(made[0]), get(made[1]))
    assert counted(engine) == {made[0], made[1]}


@pytest.mark.parametrize("origin", list(Origin))
def test_only_what_was_paid_for_counts(engine: Engine, writer: Writer, origin: Origin) -> None:
    new = ids()()
    record(writer, new, origin=origin)
    understand(writer, post(new))
    assert counted(engine) == ({new} if origin in (Origin.LIVE, Origin.RESEND) else set())
    assert bool(sql(engine, "SELECT * FROM billed")) == bool(counted(engine))


def test_a_claim_outlives_its_exchange(engine: Engine, writer: Writer, made: list[UUID]) -> None:
    understand(writer, post(made[0]))
    before = spent(engine)
    delete_exchanges(engine, made[:1])
    assert spent(engine) == before
    understand(writer, get(made[1]))
    assert spent(engine) == before
    understand(writer, post(made[2]))
    assert spent(engine)["exchanges"] == 2, "another response with the same id"


def test_a_deleted_copy_was_counted_all_the_same(engine: Engine, writer: Writer, made: list[UUID]) -> None:
    understand(writer, get(made[0]))
    delete_exchanges(engine, made[:1])
    understand(writer, post(made[1]))
    assert spent(engine)["exchanges"] == 1
    assert sql(engine, "SELECT counted FROM exchanges WHERE id = ?", made[1].bytes) == [(0,)]


def test_a_claim_is_given_back_when_another_reading_finds_another_id(
    engine: Engine, writer: Writer, made: list[UUID]
) -> None:
    understand(writer, get(made[0]), get(made[1]))
    understand(writer, get(made[0], response_id="q"), again=True)
    understand(writer, get(made[1]), again=True)
    assert counted(engine) == {made[0], made[1]}
    understand(writer, silent(made[0], retrieves=True), again=True)
    assert counted(engine) == {made[1]}
    assert sql(engine, "SELECT exchange FROM billed") == [(made[1].bytes,)]


def test_what_counts_as_what(engine: Engine, writer: Writer) -> None:
    new = ids()
    made = [new() for _ in range(8)]
    record(writer, *made)
    understand(
        writer,
        meant(made[0], cost_reported_pico=2_000_000),
        failed(made[1]),
        failed(made[2], input_tokens=7, total_tokens=7, failed=False, cost_pico=3),  # such as count_tokens
        silent(made[3]),
        silent(made[4], usage_state="partial"),
        meant(made[5], usage_state="partial", output_tokens=None, cost_status="partial"),
        meant(made[6], model_served=None, cost_pico=None, cost_status="unpriced"),
        meant(made[7], cost_pico=None, cost_reported_pico=5, cost_status="unpriced", reasoning_tokens=2),
    )
    assert agree(engine) == {
        "exchanges": 8,
        "errors": 1,
        "unknown": 2,
        "unpriced": 1,
        "input_tokens": 40,
        "output_tokens": 15,
        "reasoning_tokens": 2,
        "cost_pico": 3_000_005,
    }
    assert by_model(engine) == {"m-1": 7, "m": 1}
    statuses = "SELECT (SELECT value FROM names WHERE id = cost_status), sum(exchanges) FROM spend_hours GROUP BY 1"
    assert dict(sql(engine, statuses)) == {"exact": 1, None: 4, "partial": 1, "unpriced": 2}


def test_by_credential_and_tag(engine: Engine, writer: Writer) -> None:
    new = ids()
    made = [new() for _ in range(300)]
    for number, each in enumerate(made):
        record(writer, each, credential=f"c{number % 2}", tags=(("env", "ci"), ("n", str(number)), ("n", "x")))
    understand(writer, *[meant(each) for each in made])
    keys = "SELECT (SELECT value FROM names WHERE id = credential), sum(exchanges) FROM spend_keys GROUP BY 1"
    assert dict(sql(engine, keys)) == {"c0": 150, "c1": 150}
    tags = """SELECT (SELECT value FROM names WHERE id = tag_name), (SELECT value FROM names WHERE id = tag_value),
        sum(exchanges) FROM spend_tags GROUP BY 1, 2"""
    found = {(name, value): number for name, value, number in sql(engine, tags)}
    assert found["env", "ci"] == found["n", "x"] == 300
    assert found["n", "7"] == 1
    assert found["n", None] == 300 - 255, "values that are too many stand together"
    understand(writer, *[meant(each, input_tokens=1) for each in made], again=True)
    assert spent(engine, "spend_tags")["input_tokens"] == 900
    assert agree(engine)["input_tokens"] == 300


_KINDS = st.sampled_from(["post", "get", "silent", "failed"])
_STEP = st.tuples(st.integers(0, 3), _KINDS, st.sampled_from(["r", "q", None]), st.integers(0, 9))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.lists(_STEP, min_size=1, max_size=3), max_size=8))
def test_whatever_is_read_again_the_sums_are_those_of_the_rows(
    engine: Engine, writer: Writer, steps: list[list[tuple[int, str, str | None, int]]]
) -> None:
    delete_exchanges(engine, [UUID(bytes=row[0]) for row in sql(engine, "SELECT id FROM exchanges")])
    with writer.transaction():
        for table in ("spend_hours", "spend_keys", "spend_tags", "billed"):
            execute(writer._connection, f"DELETE FROM {table}")  # noqa: S608 - our tables
    made = [uuid4() for _ in range(4)]
    record(writer, *made, tags=(("a", "b"),))
    kinds = {"post": post, "get": get, "silent": silent, "failed": failed}
    for step in steps:
        rows = {each: kinds[kind](made[each], response_id=key) for each, kind, key, _ in step}
        for each, _, _, tokens in step:
            if rows[each].input_tokens is not None:
                rows[each].input_tokens = tokens
        understand(writer, *rows.values(), again=True)
        agree(engine)
    held = sql(engine, "SELECT counted FROM exchanges WHERE id IN (SELECT exchange FROM billed)")
    assert all(row == (1,) for row in held), "who holds a claim counts"
