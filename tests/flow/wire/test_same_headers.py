"""Heads of any size and shape that HTTP allows arrive field by field as they were sent, however they were cut."""

from __future__ import annotations

import random

import pytest

from tests.flow.wire.differential import Run, assert_same_requests, assert_same_responses, twice
from tests.flow.wire.stage import Stage, request
from tests.support.rawhttp import Peer

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VISIBLE = bytes(range(0x21, 0x7F))
BEYOND = bytes(range(0x80, 0x100))

FIELDS: dict[str, list[bytes]] = {
    "every octet of a name": [TOKEN + b": 1"],
    "each octet a name": [b"%c: %d" % (octet, octet) for octet in TOKEN],
    "every visible octet of a value": [b"A: " + VISIBLE],
    "every octet beyond ASCII of a value": [b"A: " + BEYOND],
    "each octet a value": [b"A: %c" % octet for octet in VISIBLE + BEYOND],
    "blanks within a value": [b"A: x  y", b"B: x\ty", b"C: x \t y", b"D: \xa0x\xa0"],
    "colons": [b"A::", b"B: :", b"C: x:y", b"D:::x"],
    "names that differ in case": [b"aa: 1", b"aA: 2", b"Aa: 3", b"AA: 4"],
    "names that begin alike": [b"Host-Name: 1", b"Hos: 2", b"X-Host: 3", b"Content-Length-X: 4", b"Content: 5"],
    "names like our own that are not": [b"x-wiretap: 1", b"wiretape-tags: 2", b"xx-wiretape-tags: 3"],
    "what gateways add": [b"Via: 1.1 a", b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=192.0.2.1", b"X-Real-Ip: x"],
    "lists and lines": [b"Accept: a, b", b"Accept: c", b"Accept-Language: de", b"Accept: d,,e"],
    "cookies": [b"Cookie: a=1; b=2", b"Cookie: c=3", b"cookie: d=4"],
    "200 of them": [b"X-Number-%03d: %d" % (number, number) for number in range(200)],
    "200 of one name": [b"X-Same: %d" % number for number in range(200)],
    "200 empty ones": [b"X-Empty-%d:" % number for number in range(200)],
    "60 kB in one": [b"X-Long: " + b"v" * 60_000],
    "60 kB in many": [b"X-Long-%d: %b" % (number, b"v" * 300) for number in range(200)],
    "60 kB in a name": [b"X-" + b"n" * 60_000 + b": 1"],
    "60 kB beyond ASCII": [b"X-Long: " + BEYOND * 468],
    "a long credential": [b"Authorization: Bearer " + b"k" * 8_000],
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields(stage: Stage, name: str) -> None:
    def client(peer: Peer, run: Run) -> None:
        for body in (b"{}", None):
            peer.send(request(run.at(), body, *FIELDS[name], method=b"POST" if body else b"GET"))
            assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("seed", range(5))
def test_heads_cut_anywhere(stage: Stage, seed: int) -> None:
    def client(peer: Peer, run: Run) -> None:
        chance = random.Random(seed)
        lines = [
            line for name in ("colons", "200 of them", "every octet beyond ASCII of a value") for line in FIELDS[name]
        ]
        data = request(run.at(b"/x?y"), b"{}", *lines)
        cuts = sorted(chance.randrange(len(data)) for _ in range(60))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            peer.send(data[begin:end])
        assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


def test_a_head_that_comes_octet_by_octet(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        data = request(run.at(), b"{}", b"A:1", b"B:", b"C: \t x \t ", b"D: \xff")
        peer.send_bytewise(data).send_bytewise(data)
        assert [peer.read_message().status for _ in range(2)] == [200, 200]

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


@pytest.mark.parametrize("line", [b"hOsT: wiretape.test", b"HOST: \t wiretape.test:8800 ", b"Host:wiretape.test"])
def test_host_keeps_its_name_and_place(stage: Stage, line: bytes) -> None:
    def client(peer: Peer, run: Run) -> None:
        fields = [b"Before: 1", line, b"After: 2", b"Content-Length: 2"]
        peer.send(b"\r\n".join([b"POST %b HTTP/1.1" % run.at(), *fields, b"", b"{}"])).read_message()

    both = twice(stage, client)
    assert_same_requests(both)
    names = [name for name, _ in both.proxied.requests[0].headers]
    assert names == [b"Before", line.partition(b":")[0], b"After", b"Content-Length"]


HOPS: dict[str, list[bytes]] = {
    "close": [b"Connection: close, X-Hop", b"X-Hop: 1"],
    "keep-alive": [b"Connection: keep-alive", b"Keep-Alive: timeout=5, max=100"],
    "named in many ways": [
        b"Connection: X-A,x-b ,\tX-C",
        b"X-A: 1",
        b"X-B: 2",
        b"x-c: 3",
        b"X-D: 4",
        b"connection: x-d",
    ],
    "named and not there": [b"Connection: X-Nowhere", b"X-Here: 1"],
    "named twice": [b"Connection: X-Hop, X-Hop", b"X-Hop: 1", b"X-Hop: 2"],
    "empty names": [b"Connection: , ,X-Hop,,", b"X-Hop: 1"],
    "an empty Connection": [b"Connection:", b"A: 1"],
    "for proxies": [b"Proxy-Connection: keep-alive", b"A: 1"],
    "a TE that is not for trailers": [b"TE: gzip;q=0.5", b"Connection: TE"],
    "names that begin alike": [b"Connection: X-Ho", b"X-Hop: 1", b"Keep-Alive-Not: 1", b"Connections: x", b"Tea: 1"],
}


@pytest.mark.parametrize("name", HOPS)
def test_what_is_between_neighbours_stays_there(stage: Stage, name: str) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}", b"Before: 1", *HOPS[name], b"After: 2"))
        assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)
    assert both.proxied.requests[0].all("connection") == []


def test_who_takes_trailers_says_so(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        for line in (b"TE: trailers", b"te: gzip, Trailers;q=1", b"TE: trailers, deflate"):
            peer.send(request(run.at(), b"{}", line, b"Connection: TE"))
            assert peer.read_message().status == 200

    both = twice(stage, client)
    assert_same_requests(both)
    for message in both.proxied.requests:
        assert message.all("te") == [b"trailers"]
        assert [value.lower() for value in message.all("connection")] == [b"te"]
