"""What passed through a running wiretape can be listed, shown, replayed in its own time, exported and deleted.

All tests share one: each asks of its own session, or waits until its exchange is the last.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.support.here import Ran, run_here
from tests.support.rawhttp import Peer
from tests.support.running import PATIENCE, Running, serving, wait_for

PAUSE = 0.3
EVENTS = [f'data: {{"delta":"word {number}: grüße"}}\n\n'.encode() for number in range(5)] + [b"data: [DONE]\n\n"]
HOSTILE = b"\x1b]0;owned\x07 \x9b31m \x00 \xff\xfe\n\n"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def gzipped(events: Sequence[bytes]) -> list[bytes]:
    """As servers compress a stream: each event can be read as soon as it is there."""
    packer = zlib.compressobj(wbits=31)
    return [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events] + [packer.flush()]


class Streamer:
    """An upstream that answers by path: /paced, /gzip, /hostile at once, /open stays open until `go_on`."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.read = threading.Semaphore(0)
        """Released for each event of /paced that has arrived: the pause before the next begins then."""
        self._never = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            # All of it: to close with a part unread would reset the answer away.
            path = Peer(connection).read_message().target.decode().split("?")[0]
            more = {"/gzip": b"Content-Encoding: gzip\r\n", "/hostile": b"X-Hostile: \x9b31m gr\xfc\xdfe\r\n"}.get(
                path, b""
            )
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%sConnection: close\r\n" % more
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for chunk in {"/gzip": gzipped(EVENTS), "/hostile": [HOSTILE]}.get(path, EVENTS):
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if path == "/open":
                    self.go_on.wait(2 * PATIENCE)
                elif path == "/paced":
                    self.read.acquire(timeout=2 * PATIENCE)
                    self._never.wait(PAUSE)
            connection.sendall(b"0\r\n\r\n")

    def close(self) -> None:
        self.go_on.set()
        self._listener.close()


@pytest.fixture(scope="module")
def streamer() -> Iterator[Streamer]:
    upstream = Streamer()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def wiretape(tmp_path_factory: pytest.TempPathFactory, streamer: Streamer) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("readers"), "--upstream", f"here={streamer.url}") as running:
        yield running


def command(wiretape: Running, *arguments: str) -> Ran:
    """A reader beside the running wiretape."""
    return run_here(wiretape.home.parent, "--home", str(wiretape.home), *arguments)


def good(wiretape: Running, *arguments: str) -> bytes:
    done = command(wiretape, *arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def listed(wiretape: Running, *filters: str) -> Any:
    return json.loads(good(wiretape, "ls", "--format", "json", *filters))


def await_end(wiretape: Running, exchange: str) -> Any:
    """The row of an exchange, the last one, once all of it is stored and interpreted: it does not change any more."""

    def ended() -> Any:
        rows = listed(wiretape, "--limit", "1")
        return [row for row in rows if row["id"] == exchange and row["interpreter"] is not None]

    return wait_for(ended, "the end of the exchange")[0]


def post(wiretape: Running, path: str, **headers: str) -> tuple[str, bytes]:
    """Send a request and read its whole response; the exchange's id and the bytes as they came, coding and all."""
    return post_and_hear(wiretape, path, headers, bool)


def post_and_hear(
    wiretape: Running, path: str, headers: Mapping[str, str], arrived: Callable[[], object]
) -> tuple[str, bytes]:
    """The same, calling `arrived` for each piece."""
    url, encoded = (
        f"{wiretape.base_url('here')}{path}",
        {name.encode(): text.encode("latin-1") for name, text in headers.items()},
    )
    with wiretape.client.stream("POST", url, content=b'{"stream":true}', headers=encoded) as answer:
        body = b""
        for piece in answer.iter_raw():
            body += piece
            arrived()
        return answer.headers["x-wiretape-exchange"], body


def test_a_stream_is_replayed_and_exported_as_it_came(wiretape: Running, streamer: Streamer) -> None:
    wishes = {"x-wiretape-tags": "project=search", "x-wiretape-session": "s1"}
    exchange, came = post_and_hear(wiretape, "/paced?a=%20b", wishes, streamer.read.release)
    row = await_end(wiretape, exchange)
    assert listed(wiretape, "--tag", "project=search", "--session", "s1", "--upstream", "here") == [row]
    assert (row["outcome"], row["status"]) == ("completed", 200)
    assert row["target"].endswith("/paced?a=%20b")
    assert row["identical"] is True

    assert good(wiretape, "replay", exchange, "--speed", "instant") == came == b"".join(EVENTS)
    assert good(wiretape, "replay", exchange[-12:], "--request") == b'{"stream":true}'
    assert good(wiretape, "export", "sse", "last") == came

    shown = json.loads(good(wiretape, "show", "last", "--format", "json"))
    chunks = [chunk for chunk in shown["chunks"] if chunk["side"] == "response"]
    assert "".join(chunk["text"] for chunk in chunks).encode() == came
    assert chunks[-1]["at_us"] - chunks[0]["at_us"] > (len(EVENTS) - 2) * PAUSE * 1_000_000
    line = json.loads(good(wiretape, "export", "jsonl", "--session", "s1"))
    assert line == {name: value for name, value in shown.items() if name in line}
    assert set(shown) - set(line) == {"origin", "counted", "journal", "price"}

    began = time.monotonic()
    assert good(wiretape, "replay", exchange) == came
    took = time.monotonic() - began
    assert chunks[-1]["at_us"] / 1_000_000 <= took < chunks[-1]["at_us"] / 1_000_000 + 10
    assert good(wiretape, "db", "check")


def test_a_compressed_stream_is_kept_compressed_and_exported_plain(wiretape: Running) -> None:
    exchange, came = post(wiretape, "/gzip")
    await_end(wiretape, exchange)
    assert good(wiretape, "replay", exchange, "--speed", "instant") == came == b"".join(gzipped(EVENTS))
    assert good(wiretape, "export", "sse", exchange) == b"".join(EVENTS)


def test_a_stream_that_runs_is_listed_shown_and_left_alone(wiretape: Running, streamer: Streamer) -> None:
    sender = threading.Thread(target=post, args=(wiretape, "/open"), kwargs={"x-wiretape-session": "open"})
    sender.start()
    try:
        (row,) = wait_for(lambda: _with_chunks(listed(wiretape, "--outcome", "open")), "the first event")
        assert (row["outcome"], row["end_us"]) == (None, None)
        assert "\t…\t" in good(wiretape, "ls").decode()
        done = command(wiretape, "replay", "last", "--speed", "instant")
        assert (done.code, done.out) == (0, EVENTS[0])
        assert "still running" in done.err
        assert b"1 still running stays" in good(wiretape, "delete", "last", "--yes")
    finally:
        streamer.go_on.set()
        sender.join(PATIENCE)
    assert await_end(wiretape, row["id"])["outcome"] == "completed"
    assert good(wiretape, "replay", row["id"], "--speed", "instant") == b"".join(EVENTS)
    assert good(wiretape, "delete", "--session", "open", "--until", "2099-01-01", "--yes") == b"1 exchange deleted\n"
    assert listed(wiretape, "--session", "open") == []
    assert good(wiretape, "db", "check")


def _with_chunks(rows: list[Any]) -> list[Any]:
    """Those of which a part of the response is stored."""
    return [row for row in rows if row["response_chunks"]]


def test_hostile_bytes_reach_files_but_no_terminal(wiretape: Running) -> None:
    exchange, came = post(wiretape, "/hostile", **{"x-note": "\x9b31m"})
    await_end(wiretape, exchange)
    assert came == HOSTILE
    assert good(wiretape, "replay", exchange, "--speed", "instant") == HOSTILE
    for arguments in (["ls"], ["show", exchange], ["show", exchange, "--format", "json"], ["export", "jsonl"]):
        shown = good(wiretape, *arguments).decode()
        assert not CONTROLS.search(shown)
    known = json.loads(good(wiretape, "show", exchange, "--format", "json"))
    assert ["X-Hostile", "\x9b31m grüße"] in known["heads"][1]["headers"]
    (chunk,) = [chunk for chunk in known["chunks"] if chunk["side"] == "response"]
    assert base64.b64decode(chunk["base64"]) == HOSTILE


def test_what_was_not_recorded_is_not_made_up(wiretape: Running) -> None:
    exchange, came = post(wiretape, "/gzip", **{"x-wiretape-record": "meta"})
    row = await_end(wiretape, exchange)
    assert (row["record"], row["response_bytes"]) == ("meta", len(came))
    for arguments in (["replay", exchange], ["replay", exchange, "--request"], ["export", "sse", exchange]):
        done = command(wiretape, *arguments)
        assert (done.code, done.out) == (1, b"")
        assert "not recorded" in done.err


def test_base_urls_are_those_of_the_port_that_is_served(wiretape: Running) -> None:
    known = {row["name"]: row["base_url"] for row in json.loads(good(wiretape, "upstreams", "--format", "json"))}
    assert known["openai"] == f"{wiretape.url}/openai/v1"
