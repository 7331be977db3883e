"""Makes docs/sizing.md: `python -m tests.bench.sizing > docs/sizing.md`.

THE FIGURES stand here once, each with where it comes from; the page is computed from them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

_DAY = 86_400
_PACKED_AFTER = 7
_RATES = (0.1, 1, 10, 100, 500, 1000)
_ONE_CORE = 1_000_000
_COLUMNS = (
    *("exchanges a second", "a day", "forward", "ingest, SQLite", "ingest, Postgres", "Postgres' server"),
    *("disk a day, SQLite", "once packed", "disk a day, Postgres", "once packed"),
)


class Figure(NamedTuple):
    """What one thing costs on each engine: `unit` is µs of one core, or bytes. `source`: who measured it, and how."""

    what: str
    unit: str
    sqlite: float
    postgres: float
    source: str


_SPIKE = "ten million made-up exchanges, two cores, warm cache"

FORWARD_REQUEST = Figure("forward: a request", "µs", 162, 162, "`make bench`")
FORWARD_CHUNK = Figure("forward: a chunk", "µs", 75, 75, "`make bench`, 50 streams at a steady pace")
STORE_EXCHANGE = Figure("ingest: an exchange with its indexes", "µs", 21, 21, "`make bench WHAT=storing`")
STORE_HEADERS = Figure("ingest: the headers of an exchange", "µs", 9, 11, "`make bench WHAT=storing`")
STORE_CHUNK = Figure("ingest: a chunk", "µs", 12.5, 8.7, "`make bench WHAT=storing`")
READ_CHUNK = Figure("ingest: understanding a chunk", "µs", 13, 17.5, "`make bench WHAT=storing`")
PACK_CHUNK = Figure("ingest: packing a chunk", "µs", 7.7, 3.6, "`make bench WHAT=storing`")
INDEX_EXCHANGE = Figure("ingest: full text of an exchange, 4 kB", "µs", 170, 543, "`make bench WHAT=room`")
SERVER_EXCHANGE = Figure("Postgres' server: an exchange with its indexes", "µs", 0, 10, "`make bench WHAT=storing`")
SERVER_INDEX = Figure("Postgres' server: full text of an exchange, 4 kB", "µs", 0, 660, "`make bench WHAT=room`")
SERVER_CHUNK = Figure("Postgres' server: a chunk", "µs", 0, 3, "`make bench WHAT=storing`")
ROOM_EXCHANGE = Figure("an exchange without bodies and headers", "bytes", 431, 888, "`make bench WHAT=ledger`")
ROOM_HEADERS = Figure("its headers, 36", "bytes", 250, 516, "`make bench WHAT=room`")
ROOM_CHUNK = Figure("a chunk, beside its bytes", "bytes", 71, 129, "`make bench WHAT=room`")
ROOM_PACKED_CHUNK = Figure("a packed chunk, beside its bytes", "bytes", 4.5, 4.5, _SPIKE)
ROOM_INDEX = Figure("full text, for each byte of text", "bytes", 0.56, 2.2, "`make bench WHAT=room`")

FIGURES = (
    *(FORWARD_REQUEST, FORWARD_CHUNK),
    *(STORE_EXCHANGE, STORE_HEADERS, STORE_CHUNK, READ_CHUNK, PACK_CHUNK, INDEX_EXCHANGE),
    *(SERVER_EXCHANGE, SERVER_CHUNK, SERVER_INDEX),
    *(ROOM_EXCHANGE, ROOM_HEADERS, ROOM_CHUNK, ROOM_PACKED_CHUNK, ROOM_INDEX),
)

PACKED = 10
"""How many times smaller bodies are once packed: 41 for OpenAI's streams, 10 for Anthropic's, 6.7 for Gemini's."""


@dataclass(frozen=True, slots=True)
class Load:
    """What exchanges are like: how many chunks they have, and bytes of the bodies and of the text that is in them."""

    name: str
    chunks: int
    request_bytes: int
    response_bytes: int
    text_bytes: int


CHAT = Load("chat", chunks=300, request_bytes=8_000, response_bytes=60_000, text_bytes=4_000)
AGENT = Load("agent", chunks=150, request_bytes=200_000, response_bytes=40_000, text_bytes=6_000)
PLAIN = Load("without streaming", chunks=2, request_bytes=4_000, response_bytes=3_000, text_bytes=3_000)
LOADS = (CHAT, AGENT, PLAIN)


@dataclass(frozen=True, slots=True)
class Need:
    """For an exchange: µs of a core in forward, in ingest, in Postgres' server; bytes as they are, and once packed."""

    forward: float
    ingest: float
    server: float
    room: float
    packed: float


def need(load: Load, *, postgres: bool) -> Need:
    """What one exchange of a load takes."""

    def of(figure: Figure) -> float:
        return figure.postgres if postgres else figure.sqlite

    stored = of(STORE_CHUNK) + of(READ_CHUNK) + of(PACK_CHUNK)
    bodies = load.request_bytes + load.response_bytes
    kept = of(ROOM_EXCHANGE) + of(ROOM_HEADERS) + load.text_bytes * (1 + of(ROOM_INDEX))
    return Need(
        forward=of(FORWARD_REQUEST) + load.chunks * of(FORWARD_CHUNK),
        ingest=of(STORE_EXCHANGE) + of(STORE_HEADERS) + of(INDEX_EXCHANGE) + load.chunks * stored,
        server=of(SERVER_EXCHANGE) + of(SERVER_INDEX) + load.chunks * of(SERVER_CHUNK),
        room=kept + bodies + load.chunks * of(ROOM_CHUNK),
        packed=kept + bodies / PACKED + load.chunks * of(ROOM_PACKED_CHUNK),
    )


_TITLE = f"""# Sizing

How much of a machine a number of exchanges takes. This page is computed (`python -m tests.bench.sizing`) from the
figures at its end, which were measured on two cores of a shared machine; yours may be half or twice as fast.

A core means one core of the machine on which the figures were measured, busy all the time. Leave as much again for
peaks: what ingest cannot store at once waits in the journal, which may take `record.max_journal`. Disk is for the
database; bodies are packed after {_PACKED_AFTER} days (`retention.pack_after`), so that most of what is kept is packed.
Only one process writes into a SQLite file: where it would want more than a core, that is too much for SQLite. The
memory that is needed grows with streams that are open at the same time, not with what is stored.
"""

_MORE = """## More than one machine

Forward and ingest may run on as many machines as you like, each with its own home, on one Postgres. Then it is the
server that ends first: by its cores, or by what its disk can write.

## More than one Postgres

Who needs more than one Postgres can do uses the same tables on Citus: `wiretape db distribute` spreads them over its
servers, by exchange, so that the figures of the server above are shared among them. Nothing else changes.
"""


def page() -> str:
    """The page."""
    parts = [_TITLE]
    parts += [_section(load) for load in LOADS]
    parts += [_MORE, _figures()]
    return "\n".join(parts)


def _section(load: Load) -> str:
    bodies = f"{_bytes(load.request_bytes)} of request, {_bytes(load.response_bytes)} of response"
    lines = [
        f"## {load.name.capitalize()}\n",
        f"{load.chunks} chunks, {bodies}, {_bytes(load.text_bytes)} of text.\n",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---:|' * len(_COLUMNS)}",
    ]
    here, there = need(load, postgres=False), need(load, postgres=True)
    for rate in _RATES:
        cores = [_cores(rate * each) for each in (here.forward, here.ingest, there.ingest, there.server)]
        if rate * here.ingest > _ONE_CORE:
            cores[1] = "too much"
        room = [_bytes(rate * _DAY * each) for each in (here.room, here.packed, there.room, there.packed)]
        lines.append(f"| {' | '.join([f'{rate:g}', f'{rate * _DAY:,.0f}', *cores, *room])} |")
    return "\n".join(lines) + "\n"


def _figures() -> str:
    lines = ["## The figures\n", "| what | SQLite | Postgres | from |", "|---|---:|---:|---|"]
    for each in FIGURES:
        values = [f"{value:g} {each.unit}" if value else "" for value in (each.sqlite, each.postgres)]
        lines.append(f"| {each.what} | {values[0]} | {values[1]} | {each.source} |")
    lines.append(
        f"| bodies, once packed | 1/{PACKED} | 1/{PACKED} | 1/41 OpenAI, 1/10 Anthropic, 1/6.7 Gemini; {_SPIKE} |"
    )
    return "\n".join(lines) + "\n"


def _cores(micros: float) -> str:
    """µs a second as cores."""
    cores = micros / _ONE_CORE
    return "< 0.01" if cores < 0.01 else f"{cores:.2f}" if cores < 10 else f"{cores:.0f}"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


if __name__ == "__main__":
    sys.stdout.write(page())
