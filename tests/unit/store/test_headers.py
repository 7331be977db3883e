"""Heads come back exactly as they were, whatever part of them went into a set."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from proxy.exchange import Side
from proxy.store.engine import reading
from proxy.store.headersets import LEARNT_AFTER, HeaderSets
from proxy.store.read import _pairs, headers
from proxy.store.rows import HeadRow
from proxy.store.write import Writer
from tests.unit.store.support import head, ids, sql

OCTETS = st.binary(max_size=20).map(lambda octets: octets.replace(b"\0", b"").decode("latin-1"))
NAMES = st.one_of(OCTETS, st.sampled_from(["date", "Date", "set-cookie", "vary", "x-request-id", "x"]))
HEADS = st.lists(st.tuples(NAMES, OCTETS), max_size=12)


@given(st.lists(HEADS, max_size=30))
def test_a_split_head_goes_together_again(given_heads: list[list[tuple[str, str]]]) -> None:
    sets = HeaderSets()
    known: dict[object, str] = {}
    for items in given_heads:
        key, volatile = sets.split(items)
        if key not in known:
            sets.learn(items)
            key, volatile = sets.split(items)
            known.setdefault(key, sets.contents(items))
        assert _pairs(known[key], volatile) == items


def test_the_view_and_the_reader_give_back_what_came(engine: Engine, writer: Writer) -> None:
    new = ids()()
    every = "".join(map(chr, range(1, 256)))
    request = [("Host", "api"), ("X-Dup", "1"), ("x-dup", "2"), ("X-Dup", "1"), ("Date", "now"), ("X-All", every)]
    answers = [
        HeadRow(new, Side.RESPONSE, 3, 30, 103, "Early Hints", [("link", "a"), ("link", "b")]),
        HeadRow(new, Side.RESPONSE, 4, 40, 200, None, [("set-cookie", every), ("vary", ""), ("set-cookie", "b")]),
        HeadRow(new, Side.RESPONSE_TRAILERS, 9, 90, None, None, []),
    ]
    with writer.transaction():
        writer.put_heads([head(new, request), *answers])
    with reading(engine) as connection:
        assert headers(connection, new) == [head(new, request), *answers]
    seen = sql(engine, "SELECT side, seq, position, name, value FROM headers ORDER BY side, seq, position")
    wanted = [(0, 0, at, *pair) for at, pair in enumerate(request)]
    wanted += [(each.side, each.seq, at, *pair) for each in answers for at, pair in enumerate(each.headers)]
    assert seen == wanted


def test_a_thousand_requests_of_one_client_make_one_set(engine: Engine, writer: Writer) -> None:
    new, dice = ids(), random.Random(1)
    usual = [("host", "api"), ("user-agent", "sdk/1"), ("authorization", "redacted:ab12")]
    with writer.transaction():
        for _ in range(1000):
            changing = [
                (name, str(dice.random()))
                for name in ("content-length", "X-Request-ID", "x-ratelimit-remaining-tokens", "anthropic-ratelimit-x")
            ]
            writer.put_heads([head(new(), usual + changing)])
    assert sql(engine, "SELECT count(*) FROM header_sets") == [(1,)]
    assert sql(engine, "SELECT count(*), count(DISTINCT value) FROM headers WHERE name = 'X-Request-ID'") == [
        (1000, 1000)
    ]


def test_a_name_that_keeps_changing_is_learnt(engine: Engine, writer: Writer) -> None:
    new = ids()
    with writer.transaction():
        for number in range(200):
            writer.put_heads([head(new(), [("host", "api"), ("X-Turn", str(number)), ("x-turn", "same")])])
    # The repeated value of the second one counts once.
    assert sql(engine, "SELECT count(*) FROM header_sets")[0][0] <= LEARNT_AFTER + 1
    shown = sql(engine, "SELECT value FROM headers WHERE name = 'X-Turn' ORDER BY exchange_id")
    assert shown == [(str(number),) for number in range(200)]


def test_hostile_names_do_not_fill_the_memory(writer: Writer) -> None:
    sets = HeaderSets()
    for number in range(20_000):
        items = [(f"x-{number}", "1"), ("y" * 300 + str(number), "2")]
        sets.split(items)
        sets.learn(items)
    assert len(sets._shapes) <= 512
    assert len(sets._seen) <= 4096
