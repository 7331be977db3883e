"""What is asked of a large ledger, how long each answer takes, and how long it may.

The product's own functions, in this process, each run in a transaction of its own; a row of `ledger_rows` is all that
is known of the data. Must not write anything.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, select

from proxy.exchange import Origin, Outcome, id_time_us
from proxy.store.engine import execute, is_shared, one, reading
from proxy.store.read import DAY_US, Filters, find_exchange, get_exchange, list_exchanges
from proxy.store.responses import exchanges_of
from proxy.store.schema import COSTLY_PICO, exchanges
from proxy.store.spend import Question as Spend
from proxy.store.spend import spend
from tests.bench.ledger_rows import CREDENTIALS, IDLE, MODELS, PROJECTS, SERVED, UPSTREAMS

PAGE = 50
RUNS = 20
_PATIENCE = 10.0  # seconds, after which a slow answer is measured no more
_DEEP = 1_000_000

SPEND_MS, INDEXED_MS, INDEXED_SHARED_MS, RECENT_MS, ONE_MS = 50.0, 10.0, 25.0, 150.0, 10.0


class Asked(NamedTuple):
    """A question. `target_ms` None: only to be known. It looks at `table` by the index `by`; None: by
    any."""

    name: str
    target_ms: float | None
    ask: Callable[[Connection], Any]
    by: str | None = None
    table: str = "exchanges"


class Answer(NamedTuple):
    """Milliseconds, `cpu` those of this process, and how many rows came."""

    name: str
    target_ms: float | None
    least: float
    median: float
    cpu: float
    rows: int

    @property
    def missed(self) -> bool:
        return self.target_ms is not None and self.median > self.target_ms


class Known(NamedTuple):
    """Of one ledger: the newest id, one far behind it, how many rows lie between, a session, an exchange in it and its
    response."""

    newest: UUID
    deep: UUID
    depth: int
    session: str
    exchange: UUID
    response: str


def know(connection: Connection) -> Known:
    """Look up what will be asked for."""
    newest = UUID(bytes=bytes(one(connection, "SELECT id FROM exchanges ORDER BY id DESC LIMIT 1")))
    depth = min(_DEEP, one(connection, "SELECT count(*) FROM exchanges") // 10)
    behind = select(exchanges.c.id).order_by(exchanges.c.id.desc()).offset(depth).limit(1)
    deep = connection.execute(behind).scalar_one()
    sql = """SELECT e.id, e.response_id, n.value FROM exchanges e JOIN names n ON n.id = e.session
        WHERE e.id < ? AND e.response_id IS NOT NULL ORDER BY e.id DESC LIMIT 1"""
    found = execute(connection, sql, (deep.bytes,)).fetchone()
    assert found is not None
    return Known(newest, deep, depth, found[2], UUID(bytes=bytes(found[0])), found[1])


def questions(known: Known, *, shared: bool) -> list[Asked]:
    """All of them, for one engine."""
    return [*_sums(known), *_indexed(known, shared=shared), *_recent(known), *_single(known), *_pages(known)]


def _listed(filters: Filters, before: UUID | None = None) -> Callable[[Connection], Any]:
    return lambda connection: list_exchanges(connection, filters, PAGE, before)


def _sums(known: Known) -> list[Asked]:
    since = (id_time_us(known.newest) // DAY_US - 30) * DAY_US
    asked = [
        ("model, day", Spend(("model", "day"), since), SPEND_MS, "spend_keys"),
        ("credential", Spend(("credential",), since), SPEND_MS, "spend_keys"),
        ("tag", Spend(("tag:project",), since), SPEND_MS, "spend_tags"),
        ("upstream, hour", Spend(("upstream", "hour"), since), None, "spend_hours"),
    ]
    return [
        Asked(f"spend of 30 days by {name}", target, _spent(question), f"{source}_pkey", source)
        for name, question, target, source in asked
    ]


def _spent(question: Spend) -> Callable[[Connection], Any]:
    return lambda connection: spend(connection, question).rows


def _indexed(known: Known, *, shared: bool) -> list[Asked]:
    target = INDEXED_SHARED_MS if shared else INDEXED_MS
    asked = [
        ("session, long ago", Filters(session=known.session), "session"),
        ("credential, the busiest", Filters(credential=CREDENTIALS[0]), "credential"),
        ("credential, the least", Filters(credential=CREDENTIALS[-1]), "credential"),
        ("model, the busiest", Filters(model=MODELS[0]), None),
        ("model, the least", Filters(model=MODELS[-1]), None),
        ("session, none", Filters(session=IDLE), "session"),
        ("credential, none", Filters(credential=IDLE), "credential"),
        ("model, by what served", Filters(model=SERVED[MODELS[-1]]), None),
        ("model, none", Filters(model=IDLE), None),
        ("status 429", Filters(status=429), "status"),
        ("status 418, none", Filters(status=418), "status"),
        ("status 5xx", Filters(status="5xx"), "failed"),
        ("outcome, client left", Filters(outcome=Outcome.CLIENT_LEFT), "outcome"),
        ("outcome, refused: none", Filters(outcome=Outcome.REFUSED), "outcome"),
        ("outcome, open: none", Filters(outcome="open"), "outcome"),
        ("errors", Filters(errors=True), None),
        ("cost over $0.10", Filters(min_cost_pico=COSTLY_PICO + 1), "costly"),
    ]
    return [
        Asked(f"list by {name}", target, _listed(filters), index and f"exchanges_{index}")
        for name, filters, index in asked
    ]


def _recent(known: Known) -> list[Asked]:
    since = id_time_us(known.newest) - 30 * DAY_US
    rare = UPSTREAMS[-1]
    asked = {
        "no filter": Filters(),
        "upstream, the busiest": Filters(upstream=UPSTREAMS[0]),
        "upstream, the least": Filters(upstream=rare),
        "upstream, none": Filters(upstream=IDLE),
        "tag, the busiest": Filters(tag=("project", PROJECTS[0])),
        "tag, the least": Filters(tag=("project", PROJECTS[-1])),
        "tag, none": Filters(tag=("project", IDLE)),
        "origin, resent": Filters(origin=Origin.RESEND),
        "origin, playback: none": Filters(origin=Origin.PLAYBACK),
        "cost over $0.05": Filters(min_cost_pico=COSTLY_PICO // 2),
        "upstream and status": Filters(upstream=rare, status=429),
        "upstream and tag": Filters(upstream=rare, tag=("project", PROJECTS[-1])),
        "upstream and errors": Filters(upstream=rare, errors=True),
        "model and credential": Filters(model=MODELS[-1], credential=CREDENTIALS[-1]),
        "busy model and credential": Filters(model=MODELS[0], credential=CREDENTIALS[0]),
        "model and 5xx": Filters(model=MODELS[-1], status="5xx"),
        "upstream and model: none": Filters(upstream=rare, model=MODELS[0]),
        "upstream and origin: none": Filters(upstream=UPSTREAMS[0], origin=Origin.PLAYBACK),
        "models by their beginning": Filters(model="model-5*"),
    }
    within = [
        Asked(f"list of 30 days by {name}", RECENT_MS, _listed(replace(filters, since_us=since)))
        for name, filters in asked.items()
    ]
    ever = {"origin, playback: none": asked["origin, playback: none"], "tag, none": asked["tag, none"]}
    ever["upstream and model: none"] = asked["upstream and model: none"]
    return within + [Asked(f"list of all by {name}", None, _listed(filters)) for name, filters in ever.items()]


def _single(known: Known) -> list[Asked]:
    def found(connection: Connection) -> list[Any]:
        return [get_exchange(connection, find_exchange(connection, str(known.exchange)))]

    def of_response(connection: Connection) -> list[Any]:
        return [get_exchange(connection, each) for each in exchanges_of(connection, known.response, 5)]

    digits = known.exchange.hex
    return [
        Asked("one by its id", ONE_MS, found),
        Asked("one by the response's id", ONE_MS, of_response),
        Asked("one by the first 13 digits", None, lambda connection: [find_exchange(connection, digits[:13])]),
    ]


def _pages(known: Known) -> list[Asked]:
    return [
        Asked("page 1", INDEXED_MS, _listed(Filters())),
        Asked(f"the page {known.depth} rows on", INDEXED_MS, _listed(Filters(), known.deep)),
    ]


def measure(engine: Engine, asked: Asked, runs: int = RUNS) -> Answer:
    """Ask once to warm up, then so many times."""
    took: list[float] = []
    used: list[float] = []
    rows: list[Any] = []
    began = time.perf_counter()
    for _ in range(runs + 1):
        start, before = time.perf_counter(), time.process_time()
        with reading(engine) as connection:
            rows = asked.ask(connection)
        took.append((time.perf_counter() - start) * 1000)
        used.append((time.process_time() - before) * 1000)
        if len(took) > 3 and time.perf_counter() - began > _PATIENCE:
            break
    cpu = statistics.median(used[1:])
    return Answer(asked.name, asked.target_ms, min(took[1:]), statistics.median(took[1:]), cpu, len(rows))


def ask(engine: Engine, runs: int = RUNS) -> list[Answer]:
    """Every question, one after another."""
    with reading(engine) as connection:
        known = know(connection)
    return [measure(engine, each, runs) for each in questions(known, shared=is_shared(engine))]


# Pages: of more than 2 GiB dbstat tells a wrong number of bytes.
_SQLITE_BYTES = """SELECT sum(pageno) * (SELECT page_size FROM pragma_page_size) FROM dbstat
    WHERE aggregate = TRUE AND name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'exchanges')"""
_SHARED_BYTES = "SELECT CAST(sum(pg_total_relation_size(relid)) AS bigint) FROM pg_partition_tree('exchanges')"


def bytes_each(engine: Engine) -> float:
    """What an exchange takes in its table and the indexes of it."""
    with reading(engine) as connection:
        size = one(connection, _SHARED_BYTES if is_shared(engine) else _SQLITE_BYTES)
        return float(size / one(connection, "SELECT count(*) FROM exchanges"))


def table(name: str, answers: list[Answer]) -> str:
    """The figures of one engine, as lines to print."""
    lines = [f"{name:44}{'rows':>6}{'min ms':>10}{'median':>10}{'cpu ms':>10}{'target':>8}"]
    for each in answers:
        target = "-" if each.target_ms is None else f"{each.target_ms:.0f}"
        said = "" if each.target_ms is None else "MISSED" if each.missed else "ok"
        figures = "".join(f"{figure:10.2f}" for figure in (each.least, each.median, each.cpu))
        lines.append(f"{each.name:44}{each.rows:6}{figures}{target:>8} {said}".rstrip())
    return "\n".join(lines)
