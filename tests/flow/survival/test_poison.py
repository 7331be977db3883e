"""Bodies, headers and targets that break parsers and databases: forwarded unchanged, stored, and ingest lives on."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos.ledger import REQUEST, RESPONSE, Ledger
from tests.chaos.traffic import PATIENCE
from tests.support.rawhttp import Ended, Message, Peer, RawHeaders, RawUpstream, TooLate, connect, until
from tests.support.running import Running, serving

NORMAL = b'{"ok": true}'
GIGABYTES = 10
ALLOWED = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])  # in a header's value, RFC 9110, 5.5

Bodies = tuple[bytes, bytes]


class Mirror:
    """An upstream that answers with the body and headers that the test has put here, and keeps what it was sent."""

    def __init__(self) -> None:
        self.body = NORMAL
        self.headers: RawHeaders = []
        self.seen: list[Message] = []

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.seen.append(peer.read_message())
                fields = [b"%b: %b\r\n" % pair for pair in self.headers]
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(self.body), *fields, b"\r\n", self.body)
        except (Ended, TooLate):
            return


@dataclass(slots=True)
class Stage:
    """A wiretape that all tests of this file share: each must leave it as able to work as it found it."""

    wiretape: Running
    mirror: Mirror
    ledger: Ledger
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def exchange(
        self,
        request: bytes = NORMAL,
        response: bytes = NORMAL,
        *,
        target: bytes | None = None,
        headers: RawHeaders | None = None,
        answered: RawHeaders | None = None,
        prefix: bytes = b"",
    ) -> tuple[Message, str]:
        """One exchange, whose bodies must pass unchanged and be stored; the client's answer and the exchange's id."""
        target = target or b"/v1/%d" % next(self.numbers)
        self.mirror.body, self.mirror.headers = response, answered or []
        with connect(int(self.wiretape.url.rpartition(":")[2]), deadline=PATIENCE) as peer:
            fields = [b"%b: %b\r\n" % pair for pair in headers or []]
            peer.send(b"POST %b/up%b HTTP/1.1\r\nHost: test\r\nContent-Length: " % (prefix, target))
            answer = peer.send(b"%d\r\n" % len(request), *fields, b"\r\n", request).read_message()
        assert (answer.status, answer.body) == (200, response)
        seen = self.mirror.seen[-1]
        assert (seen.target, seen.body) == (target, request)
        exchange = (answer.one("x-wiretape-exchange") or b"").decode()
        self.wait_stored(exchange)
        assert self.ledger.body(exchange, REQUEST) == request
        assert self.ledger.body(exchange, RESPONSE) == response
        return answer, exchange

    def wait_stored(self, exchange: str) -> None:
        sql = "SELECT count(*) FROM exchange_list WHERE id = ? AND outcome = 'completed'"
        until(lambda: self.ledger.one(sql, exchange) == 1, f"{exchange} to be stored", PATIENCE)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    mirror = Mirror()
    folder: Path = tmp_path_factory.mktemp("poison")
    with (
        RawUpstream(mirror, deadline=PATIENCE) as upstream,
        serving(folder, "--upstream", f"up={upstream.url}") as wiretape,
    ):
        yield Stage(wiretape, mirror, Ledger(wiretape.home))
        assert wiretape.stop() == 0
    Ledger(wiretape.home).check()


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """After each poison a normal exchange is stored as well, by the same ingest."""
    ingest = shared.wiretape.pid("ingest")
    yield shared
    shared.exchange()
    assert shared.wiretape.pid("ingest") == ingest
    metrics = shared.wiretape.metrics()
    assert (metrics["wiretape_exchanges_missing"], metrics["wiretape_journal_damage_total"]) == (0, 0)


def gzip_bomb() -> bytes:
    """About 10 MB that become 10 GB: one block of zeros, compressed once and repeated."""
    size = 64 * 1024 * 1024
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    begin = packer.compress(b"\0" * 1024) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"\0" * size) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + block * (GIGABYTES * 1024 * 1024 * 1024 // size)


@pytest.mark.parametrize(
    "poison",
    [
        b"\0",
        b'{"text": "a\0b\\u0000c"}',
        b'{"text": "\\ud800", "\\udfff": "\\udc00\\ud800"}',
        b'{"text": "\xed\xa0\x80 \xff\xfe \xc0\x80"}',
        b'{"usage": {"total_tokens": %d, "cost": -%d}, "n": 1e999}' % (2**64, 10**400),
        b'{"a":' * 100_000,
        b"[" * 200_000 + b"]" * 200_000,
        b"data: {\r\n\r\ndata: [DONE]\n\n\n\ndata:\0\n\n: \xff\n\n",
        bytes(range(256)) * 64,
        b"@ res+ 00000000000000000000000000000000 1 1 1 00000000 00000000\nx\n" * 50,
    ],
    ids=["nul", "nuls", "surrogates", "raw-surrogates", "integers", "depth", "brackets", "events", "octets", "heads"],
)
def test_bodies(stage: Stage, poison: bytes) -> None:
    stage.exchange(poison, poison)


def test_a_single_line_of_50_megabytes(stage: Stage) -> None:
    line = b"data: " + b"word " * (10 * 1024 * 1024)
    stage.exchange(line, line)


def test_a_gzip_bomb(stage: Stage) -> None:
    bomb = gzip_bomb()
    assert 5_000_000 < len(bomb) < 15_000_000
    stage.exchange(NORMAL, bomb, answered=[(b"Content-Encoding", b"gzip")])


def test_every_octet_that_a_header_may_hold(stage: Stage) -> None:
    odd = [(b"X-Odd-%d" % number, b"a%cb" % octet) for number, octet in enumerate(ALLOWED)]
    odd += [(b"X-Whole", ALLOWED.strip()), (b"X-Empty", b""), (b"!#$%&'*+-.^_`|~", b"name"), (b"X-Whole", b"again")]
    answer, exchange = stage.exchange(headers=odd, answered=odd)
    for message in (answer, stage.mirror.seen[-1]):
        for name in {name.decode() for name, _ in odd}:
            assert message.all(name) == [value for other, value in odd if other.decode() == name]
    sql = "SELECT name, value FROM headers WHERE exchange_id = (SELECT exchange_id FROM exchange_list WHERE id = ?)"
    for side in (REQUEST, RESPONSE):
        stored = stage.ledger.query(f"{sql} AND side = ? ORDER BY position", exchange, side)
        expected = [(name.decode(), value.decode("latin-1")) for name, value in odd]
        assert [pair for pair in stored if pair in expected] == expected


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/" + b"long/" * 1600,
        b"/v1/x?" + b"&".join(b"key%d=%d" % (number, number) for number in range(700)),
        b"/v1/%00%ed%a0%80%ff//../%2e%2e/;a=b?%00=%ff&&=?#"[:-1],
        b'/v1/{}|[]^`"<>\\?{}|[]^`"<>\\',
    ],
    ids=["long", "query", "escapes", "marks"],
)
def test_targets(stage: Stage, target: bytes) -> None:
    _, exchange = stage.exchange(target=target)
    assert stage.ledger.exchange(exchange)["target"] == "/up" + target.decode("latin-1")


def test_tags_and_sessions(stage: Stage) -> None:
    _, exchange = stage.exchange(
        prefix=b"/~a=%00x,b=%ed%a0%80,c=%ff,%F0%9F%A6%8A=%0a%1b%5b31m,long=" + b"v" * 256,
        headers=[
            (b"X-Wiretape-Session", b"\xff\xfe \x80 ' \" ; -- " + b"s" * 3000),
            (b"X-Wiretape-Tags", b"d=\xe9,e='; DROP TABLE exchanges; --,f=" + b"w" * 256),
        ],
    )
    sql = "SELECT name, value FROM tags WHERE exchange_id = (SELECT exchange_id FROM exchange_list WHERE id = ?)"
    tags = dict(stage.ledger.query(sql, exchange))
    assert {"a", "b", "c", "d", "e", "f", "long", "\U0001f98a"} <= set(tags)
    assert tags["e"] == "'; DROP TABLE exchanges; --"
    assert stage.ledger.exchange(exchange)["session"]
