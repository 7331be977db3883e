"""Upgraded connections seen from both ends: that they are the same with wiretape as without, and what it recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import NamedTuple

from tests.flow.wire.differential import ID, Actor, Both, Run, Seen, twice
from tests.flow.wire.stage import Recorded, Stage
from tests.support.rawhttp import RawHeaders

TARGET = b"/v1/realtime?model=gpt-realtime&x=%2F"


Head = RawHeaders
"""A start line (which has no name) and headers."""


class Piece(NamedTuple):
    """One recorded chunk: side 0 went to the upstream, side 1 to the client; times are since the exchange began."""

    side: int
    at_us: int
    data: bytes


def tunnelled(stage: Stage, client: Actor, origin: Actor, kind: str = "plain") -> Both:
    """Run both sides directly and proxied; each must see the same of the other, from the handshake's first byte on."""
    both = twice(stage, client, origin, kind=kind, settled=True)
    assert len(both.direct.connections) == len(both.proxied.connections) == 1
    asked, carried = asked_and_carried(both.direct)
    proxied_asked, proxied_carried = asked_and_carried(both.proxied)
    assert proxied_asked == asked, f"the origin was asked\ndirect  {asked}\nproxied {proxied_asked}"
    assert_same_bytes(proxied_carried, carried)
    answered, told = answered_and_told(both.direct)
    proxied_answered, proxied_told = answered_and_told(both.proxied)
    expected = [*answered, proxied_answered[-1]]
    assert proxied_answered == expected, f"the client was answered\ndirect  {answered}\nproxied {proxied_answered}"
    assert proxied_answered[-1][0] == ID, proxied_answered
    assert_same_bytes(proxied_told, told)
    return both


def asked_and_carried(run: Run) -> tuple[Head, bytes]:
    """The handshake as the origin got it, apart from what is its neighbour's to say, and what the client said then."""

    def end_to_end(name: bytes, value: bytes) -> bytes:
        if name.lower() == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            return b", ".join(token for token in tokens if token.lower() != b"keep-alive")
        return b"(host)" if (name, value) == (b"Host", run.host) else value

    head, data = _halves(run.connections[0])
    return [(name, end_to_end(name, value)) for name, value in head], data


def answered_and_told(run: Run) -> tuple[Head, bytes]:
    """The answer to the handshake as the client got it, and what the origin said then."""
    return _halves(run.client)


def _halves(seen: Seen) -> tuple[Head, bytes]:
    head, _, data = seen.received.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    fields = [line.partition(b":") for line in lines]
    return [(b"", start), *[(name, value.strip(b" \t")) for name, _, value in fields]], data


def assert_same_bytes(one: bytes, other: bytes) -> None:
    """Says where they differ, instead of megabytes."""
    if one != other:
        at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        where = min(len(one), len(other)) if at is None else at
        raise AssertionError(f"{len(one)} and {len(other)} bytes, which differ from {where} on")


def pieces(stage: Stage, recorded: Recorded) -> list[Piece]:
    """All chunks of an exchange in the order in which they crossed."""
    with closing(sqlite3.connect(f"file:{stage.wiretape.home / 'wiretape.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT side, at_us, data FROM chunks WHERE exchange_id = ? ORDER BY seq"
        return [Piece(*row) for row in connection.execute(query, (recorded.facts["exchange_id"],))]
