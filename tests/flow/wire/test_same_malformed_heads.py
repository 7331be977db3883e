"""A head that two readers could understand in two ways reaches nobody: wiretape answers 400 and closes."""

from __future__ import annotations

import pytest

from tests.flow.wire.differential import Run, assert_same_responses, error_type, refused, twice
from tests.flow.wire.stage import Answering, Stage, request
from tests.support.rawhttp import End, Ended, Peer

BIG = b"x" * (1 << 20)

LINES: dict[str, bytes] = {
    "two spaces before the target": b"POST  %b HTTP/1.1",
    "two spaces before the version": b"POST %b  HTTP/1.1",
    "a space before the method": b" POST %b HTTP/1.1",
    "a tab before the method": b"\tPOST %b HTTP/1.1",
    "a space behind the version": b"POST %b HTTP/1.1 ",
    "more behind the version": b"POST %b HTTP/1.1 x",
    "tabs for spaces": b"POST\t%b\tHTTP/1.1",
    "a tab before the version": b"POST %b\tHTTP/1.1",
    "no version": b"POST %b",
    "no version but its space": b"POST %b ",
    "no method": b"%b HTTP/1.1",
    "no numbers": b"POST %b HTTP/",
    "HTTP/0.9": b"POST %b HTTP/0.9",
    "HTTP/1": b"POST %b HTTP/1",
    "HTTP/1.": b"POST %b HTTP/1.",
    "HTTP/1.2": b"POST %b HTTP/1.2",
    "HTTP/1.9": b"POST %b HTTP/1.9",
    "HTTP/1.10": b"POST %b HTTP/1.10",
    "HTTP/1.1.1": b"POST %b HTTP/1.1.1",
    "HTTP/01.1": b"POST %b HTTP/01.1",
    "HTTP/11.1": b"POST %b HTTP/11.1",
    "HTTP/-1.1": b"POST %b HTTP/-1.1",
    "HTTP/1,1": b"POST %b HTTP/1,1",
    "HTTP/2.0": b"POST %b HTTP/2.0",
    "HTTP/2": b"POST %b HTTP/2",
    "HTTP/3.0": b"POST %b HTTP/3.0",
    "http/1.1": b"POST %b http/1.1",
    "Http/1.1": b"POST %b Http/1.1",
    "HTTPS/1.1": b"POST %b HTTPS/1.1",
    "HTP/1.1": b"POST %b HTP/1.1",
    "XHTTP/1.1": b"POST %b XHTTP/1.1",
    "RTSP/1.0": b"POST %b RTSP/1.0",
    "RTSP/1.1": b"POST %b RTSP/1.1",
    "RTSP with its own method": b"DESCRIBE %b RTSP/1.0",
    "ICE/1.0": b"POST %b ICE/1.0",
    "ICE with its own method": b"SOURCE %b ICE/1.0",
    "SIP/2.0": b"POST %b SIP/2.0",
    "a version beyond ASCII": b"POST %b HTTP/1.\xb9",
    "a response": b"HTTP/1.1 200 OK",
    "a bare CR": b"POST %b HTTP/1.1\rX: y",
    "NUL": b"POST %b HTTP/1.1\0",
}


@pytest.mark.parametrize("name", LINES)
def test_a_request_line(stage: Stage, name: str) -> None:
    def data(run: Run) -> bytes:
        return LINES[name].replace(b"%b", run.at()) + b"\r\nHost: wiretape.test\r\nContent-Length: 2\r\n\r\n{}"

    refused(stage, data)


FIELDS: dict[str, bytes] = {
    "folded with a space": b"A: 1\r\n b",
    "folded with a tab": b"A: 1\r\n\tb",
    "folded from an empty value": b"A:\r\n b",
    "folded by a blank line": b"A: 1\r\n ",
    "NUL": b"A: x\0y",
    "NUL alone": b"A: \0",
    "a control": b"A: x\x01y",
    "a vertical tab": b"A: x\x0by",
    "an escape": b"A: \x1b[2J",
    "DEL": b"A: x\x7fy",
    "a bare CR": b"A: x\ry",
    "a bare CR that hides a field": b"A: x\rContent-Length: 5",
    "a bare CR at its end": b"A: x\r",
    "a bare CR for a value": b"A:\r",
    "a bare LF": b"A: x\nB: y",
    "a bare LF that hides a field": b"A: x\nContent-Length: 5",
    "two bare LFs": b"A: x\n\nB: y",
    "a space before the colon": b"A : x",
    "a tab before the colon": b"A\t: x",
    "a space before the colon of what frames": b"Transfer-Encoding : chunked",
    "no name": b": x",
    "a blank name": b" : x",
    "no colon": b"nonsense",
    "no colon, but a space": b"non sense",
    "a space in the name": b"A B: x",
    "a parenthesis in the name": b"A(B): x",
    "an at sign in the name": b"A@B: x",
    "a slash in the name": b"A/B: x",
    "quotes around the name": b'"A": x',
    "brackets in the name": b"A[0]: x",
    "a name beyond ASCII": b"\xc4: x",
    "UTF-8 in the name": "Größe: x".encode(),
    "NUL in the name": b"A\0B: x",
    "a control in the name": b"A\x01: x",
    "DEL in the name": b"A\x7f: x",
    "another Host": b"Host: other.test",
    "the same Host again": b"Host: wiretape.test",
    "another Host in lower case": b"host: other.test",
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field(stage: Stage, name: str) -> None:
    refused(stage, lambda run: request(run.at(), b"{}", b"Before: 1", FIELDS[name], b"After: 1"))


@pytest.mark.parametrize("name", ["folded with a space", "NUL", "a bare LF", "no colon", "a name beyond ASCII"])
def test_a_last_field(stage: Stage, name: str) -> None:
    refused(stage, lambda run: request(run.at(), None, b"Before: 1", FIELDS[name], method=b"GET"))


HEADS: dict[str, bytes] = {
    "a first field that is folded": b"GET %b HTTP/1.1\r\n Host: wiretape.test\r\n\r\n",
    "a first field that is folded with a tab": b"GET %b HTTP/1.1\r\n\tHost: wiretape.test\r\n\r\n",
    "a blank line of a space": b"GET %b HTTP/1.1\r\nHost: wiretape.test\r\n \r\n\r\n",
    "LF for CRLF": b"GET %b HTTP/1.1\nHost: wiretape.test\n\n",
    "LF behind the request line": b"GET %b HTTP/1.1\nHost: wiretape.test\r\n\r\n",
    "LF at the end": b"GET %b HTTP/1.1\r\nHost: wiretape.test\r\n\n",
    "CR for CRLF": b"GET %b HTTP/1.1\rHost: wiretape.test\r\r",
    "CR CR LF": b"GET %b HTTP/1.1\r\r\nHost: wiretape.test\r\r\n\r\r\n",
    "no Host": b"GET %b HTTP/1.1\r\nA: 1\r\n\r\n",
    "no field at all": b"GET %b HTTP/1.1\r\n\r\n",
    "a simple request of HTTP/0.9": b"GET %b\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0",
    "the greeting of TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(64, 96)) * 4,
    "the greeting of SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a PROXY line": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET %b HTTP/1.1\r\nHost: wiretape.test\r\n\r\n",
    "a body alone": b'{"model": "gpt", "messages": []}\r\n\r\n',
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head(stage: Stage, name: str) -> None:
    refused(stage, lambda run: HEADS[name].replace(b"%b", run.at()))


@pytest.mark.parametrize("name", ["folded with a space", "no colon", "another Host"])
def test_who_sends_a_body_all_the_same_gets_the_answer(stage: Stage, name: str) -> None:
    """A close with bytes unread would be a reset, and that can take the answer with it (RFC 9112, 9.6)."""
    refused(stage, lambda run: request(run.at(), BIG, FIELDS[name]))


def test_octet_by_octet(stage: Stage) -> None:
    """Where a reader sees only the beginning it must not take it for the whole."""
    for name in ("folded with a space", "a bare CR", "a space before the colon", "NUL", "another Host"):
        with stage.origin(Answering()) as origin, stage.client() as client:
            try:
                client.send_bytewise(request(origin.at(), None, FIELDS[name], method=b"GET"))
            except Ended:
                pass  # it was enough already
            answer = client.read_message()
            client.read_to_end()
            assert (answer.status, error_type(answer), client.ended) == (400, "wiretape_bad_request", End.FIN), name
            assert origin.peers == []


def test_http_1_0_needs_no_host(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send(b"GET %b HTTP/1.0\r\nA: 1\r\n\r\n" % run.at())
        peer.read_message()

    both = twice(stage, client)
    assert_same_responses(both)
    headers = both.proxied.requests[0].headers
    assert sorted(headers) == [(b"A", b"1"), (b"Host", both.proxied.host)]
    assert both.direct.requests[0].headers == [(b"A", b"1")]
