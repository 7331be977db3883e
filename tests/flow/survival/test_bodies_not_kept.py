"""Bodies that are not to be kept leave no trace in any file; sizes, hashes and headers stay. Capped ones are kept so
far, and what is missing is told.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.ledger import REQUEST, RESPONSE, Ledger
from tests.chaos.traffic import PATIENCE, chunk
from tests.support.rawhttp import Ended, Message, Peer, RawUpstream, TooLate, connect, until
from tests.support.running import Running, serving

CAP = 10_000
MARK = b"3f9a1c5e7b2d4860" * 2
PIECE = 12  # bytes of the mark that must not be found either
SECRET = b'{"text": "' + (MARK + b" ") * 6000 + b'"}'


class Echo:
    """An upstream that sends a request's body back, in two parts; the second when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                body = peer.read_message().body
                peer.send(b"HTTP/1.1 200 OK\r\nX-Kept: yes\r\nTransfer-Encoding: chunked\r\n\r\n")
                peer.send(chunk(body[: len(body) // 2]))
                self.go_on.wait(PATIENCE)
                peer.send(chunk(body[len(body) // 2 :]), b"0\r\n\r\n")
        except (Ended, TooLate):
            return


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.go_on.set()


def send(wiretape: Running, upstream: str, body: bytes, wish: bytes = b"") -> Peer:
    peer = connect(int(wiretape.url.rpartition(":")[2]), deadline=PATIENCE)
    head = b"POST /%b/v1/x HTTP/1.1\r\nHost: test\r\n%bContent-Length: %d\r\n\r\n"
    return peer.send(head % (upstream.encode(), wish, len(body)), body)


def exchange(wiretape: Running, upstream: str, body: bytes, wish: bytes = b"") -> str:
    """The id of an exchange that came through unchanged."""
    with send(wiretape, upstream, body, wish) as peer:
        answer = peer.read_message()
    assert (answer.status, answer.body) == (200, body)
    return id_of(answer)


def id_of(answer: Message) -> str:
    return (answer.one("x-wiretape-exchange") or b"").decode()


def check_is_told(ledger: Ledger, name: str, body: bytes) -> None:
    """All that is known of an exchange but its bodies."""
    row = ledger.exchange(name)
    assert (row["outcome"], row["record"], row["status"]) == ("completed", "meta", 200)
    assert row["request_bytes"] == row["response_bytes"] == len(body)
    assert row["request_hash"] == row["response_hash"] == hashlib.sha256(body).hexdigest()
    assert ledger.chunks(name, REQUEST) == ledger.chunks(name, RESPONSE) == []
    assert ledger.query("SELECT name, value FROM headers WHERE name = 'X-Kept' AND side = 1") != []


def checkpoint(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger.path, timeout=PATIENCE)) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def check_no_trace(paths: Iterator[Path]) -> None:
    pieces = [MARK[at : at + PIECE] for at in range(len(MARK) // 2)]
    for path in paths:
        data = path.read_bytes() if path.is_file() else b""
        assert not any(piece in data for piece in pieces), f"{path.name} holds a piece of a body"


def test_by_wish_of_the_request_or_of_the_upstream(tmp_path: Path, echo: Echo) -> None:
    with RawUpstream(echo, deadline=PATIENCE) as upstream:
        config = f"""[record]\nmax_recorded_body = {CAP}
            [upstreams]\nup.url = '{upstream.url}'\nquiet.url = '{upstream.url}'\nquiet.record = 'meta'"""
        with serving(tmp_path, config=config) as wiretape:
            told = [
                exchange(wiretape, "up", SECRET, b"X-Wiretape-Record: meta\r\n"),
                exchange(wiretape, "quiet", SECRET),
                exchange(wiretape, "quiet", SECRET, b"X-Wiretape-Record: all\r\n"),
            ]
            plain = b"all of it is kept " * 20
            kept = exchange(wiretape, "up", plain)
            exchange(wiretape, "up", SECRET, b"X-Wiretape-Record: none\r\n")
            capped = b"".join(b"%9d\n" % number for number in range(CAP // 5))
            cut = exchange(wiretape, "up", capped)
            ledger = Ledger(wiretape.home)
            ledger.wait_stored(5)
            checkpoint(ledger)
            check_no_trace(wiretape.home.glob("*.db*"))
            assert wiretape.stop() == 0
    ledger.check()
    check_no_trace(wiretape.home.rglob("*"))
    for name in told:
        check_is_told(ledger, name, SECRET)
    assert ledger.body(kept, REQUEST) == ledger.body(kept) == plain
    assert ledger.count() == 5
    check_cap(ledger, cut, capped)


def check_cap(ledger: Ledger, name: str, body: bytes) -> None:
    assert ledger.body(name, REQUEST) == ledger.body(name) == body[:CAP]
    lost = len(body) - CAP
    assert ledger.gaps(name) == [(REQUEST, lost, "cap"), (RESPONSE, lost, "cap")]
    row = ledger.exchange(name)
    assert row["request_hash"] == row["response_hash"] == hashlib.sha256(body).hexdigest()
    assert (row["response_bytes"], row["unrecorded_bytes"]) == (len(body), 2 * lost)


def test_by_configuration_whatever_dies(tmp_path: Path, echo: Echo) -> None:
    """`record.bodies = false`, of an exchange that comes through, one that ingest does not live to see the end of, and
    one that forward does not."""
    with RawUpstream(echo, deadline=PATIENCE) as upstream:
        config = f"record.bodies = false\nupstreams.up.url = '{upstream.url}'"
        with serving(tmp_path, config=config) as wiretape:
            ledger = Ledger(wiretape.home)
            told = [exchange(wiretape, "up", SECRET)]
            echo.go_on.clear()
            with send(wiretape, "up", SECRET) as peer:
                await_half(ledger, peer)
                wiretape.successor("ingest", wiretape.kill("ingest"))
                echo.go_on.set()
                peer.read_until(b"\r\n0\r\n")
                told.append(newest(ledger))
            echo.go_on.clear()
            with send(wiretape, "up", SECRET) as peer:
                await_half(ledger, peer)
                wiretape.kill("forward")
                peer.read_to_end()
            echo.go_on.set()
            ledger.wait_stored(3)
            checkpoint(ledger)
            check_no_trace(wiretape.home.glob("*.db*"))
            assert wiretape.stop() == 0
    ledger.check()
    check_no_trace(wiretape.home.rglob("*"))
    for name in told:
        check_is_told(ledger, name, SECRET)
    assert ledger.exchange(newest(ledger))["wire_end"] == "worker_died"
    assert ledger.one("SELECT count(*) FROM chunks") == 0


def await_half(ledger: Ledger, peer: Peer) -> None:
    """Until the first half of a response is in the database."""
    peer.read_until(MARK)
    until(lambda: ledger.one("SELECT count(*) FROM chunks WHERE side = 1") > 0, "half a body to be stored", PATIENCE)


def newest(ledger: Ledger) -> str:
    return str(ledger.one("SELECT id FROM exchange_list ORDER BY exchange_id DESC LIMIT 1"))
