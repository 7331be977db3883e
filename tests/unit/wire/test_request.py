"""One request head out of bytes: the request line, the fields, and what two readers could read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.interface import ClientRequest, RawHeaders, RequestError
from proxy.wire.request import BadFraming, frame, parse_head, parse_trailers

HOST = b"Host: a"
LINE = b"GET / HTTP/1.1"
MOST = 1000
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TARGET = bytes(octet for octet in range(0x21, 0x100) if octet not in b"\x7f#")


def head(*lines: bytes) -> bytes:
    return b"".join(b"%b\r\n" % line for line in lines) + b"\r\n"


def parsed(*lines: bytes) -> ClientRequest:
    return parse_head(head(*lines), MOST)


def refused(data: bytes, most: int = MOST) -> RequestError:
    with pytest.raises(RequestError) as raised:
        parse_head(data, most)
    return raised.value


# The request line


def test_a_head_as_it_came() -> None:
    made = parsed(
        b"PaTCH //x/../%zz? HTTP/1.1", b"X-b: 1", b"hOsT:a", b"a:", b"X-B:\t 2 \t", b"L: \xe9\xff", b"a:", b"e: x: y "
    )
    assert (made.method, made.target, made.version) == (b"PaTCH", b"//x/../%zz?", "1.1")
    assert made.headers == [
        (b"X-b", b"1"),
        (b"hOsT", b"a"),
        (b"a", b""),
        (b"X-B", b"2"),
        (b"L", b"\xe9\xff"),
        (b"a", b""),
        (b"e", b"x: y"),
    ]
    assert (made.chunked, made.length, made.keep_alive) == (False, None, True)
    assert (made.upgrade, made.takes_trailers, made.awaits_continue) == (False, False, False)


@pytest.mark.parametrize("method", [b"GET", b"get", b"M-SEARCH", b"FROBNICATE", b"0", b"x" * 5000, TOKEN])
def test_any_token_is_a_method(method: bytes) -> None:
    assert parsed(method + b" / HTTP/1.1", HOST).method == method


@pytest.mark.parametrize("octet", sorted(set(range(0x100)) - set(TOKEN)))
def test_what_is_no_token_is_no_method(octet: int) -> None:
    for method in (bytes([octet]), b"GE%cT" % octet, b"GET%c" % octet):
        assert refused(head(method + b" / HTTP/1.1", HOST)).status == 400


@pytest.mark.parametrize("octet", TARGET)
def test_every_octet_of_a_target_stays_as_it_is(octet: int) -> None:
    for target in (b"%c" % octet, b"/a%cb" % octet, b"/?%c" % octet):
        assert parsed(b"GET " + target + b" HTTP/1.1", HOST).target == target


@pytest.mark.parametrize("octet", sorted(set(range(0x100)) - set(TARGET)))
def test_octets_that_are_in_no_target(octet: int) -> None:
    for target in (b"%c" % octet, b"/a%cb" % octet, b"/a%c" % octet):
        assert refused(head(b"GET " + target + b" HTTP/1.1", HOST)).kind == "bad_request"


def test_a_target_of_all_octets_and_a_long_one() -> None:
    assert parsed(b"GET /" + TARGET + b" HTTP/1.1", HOST).target == b"/" + TARGET
    assert len(parsed(b"GET /" + b"x" * 200_000 + b" HTTP/1.1", HOST).target) == 200_001


def test_versions() -> None:
    assert parsed(b"GET / HTTP/1.1", HOST).version == "1.1"
    assert parsed(b"GET / HTTP/1.0").version == "1.0"


WRONG_LINES = {
    "nothing": (b"", "METHOD TARGET HTTP/1.1"),
    "a word": (b"GET", "METHOD TARGET HTTP/1.1"),
    "no version": (b"GET /", "METHOD TARGET HTTP/1.1"),
    "no target": (b"GET HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "an empty target": (b"GET  HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "no method": (b" / HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "two blanks before the target": (b"GET  / HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "two blanks behind it": (b"GET /  HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "tabs": (b"GET\t/\tHTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "a blank before": (b" GET / HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "a blank behind": (b"GET / HTTP/1.1 ", "METHOD TARGET HTTP/1.1"),
    "four words": (b"GET / / HTTP/1.1", "METHOD TARGET HTTP/1.1"),
    "a fragment": (b"GET /x#y HTTP/1.1", "fragment"),
    "version 0.9": (b"GET / HTTP/0.9", "only HTTP/1.0 and HTTP/1.1"),
    "version 1.2": (b"GET / HTTP/1.2", "only HTTP/1.0 and HTTP/1.1"),
    "version 2.0": (b"PRI * HTTP/2.0", "only HTTP/1.0 and HTTP/1.1"),
    "version 1": (b"GET / HTTP/1", "METHOD TARGET HTTP/1.1"),
    "version 1.10": (b"GET / HTTP/1.10", "METHOD TARGET HTTP/1.1"),
    "version 11.1": (b"GET / HTTP/11.1", "METHOD TARGET HTTP/1.1"),
    "a version in lower case": (b"GET / http/1.1", "METHOD TARGET HTTP/1.1"),
    "rtsp": (b"GET / RTSP/1.0", "METHOD TARGET HTTP/1.1"),
    "ice": (b"SOURCE / ICE/1.0", "METHOD TARGET HTTP/1.1"),
    "a response": (b"HTTP/1.1 200 OK", "METHOD TARGET HTTP/1.1"),
    "a bare CR": (b"GET / HTTP/1.1\r", "METHOD TARGET HTTP/1.1"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "plain HTTP, not TLS"),
    "ssl 2": (b"\x80\x2e\x01\x03\x01", "plain HTTP, not TLS"),
    "binary": (b"\x00\xff\xfe", "METHOD TARGET HTTP/1.1"),
}


@pytest.mark.parametrize(("line", "text"), WRONG_LINES.values(), ids=WRONG_LINES)
def test_wrong_request_lines(line: bytes, text: str) -> None:
    for data in (head(line), head(line, HOST)):
        error = refused(data)
        assert (error.status, error.kind) == (400, "bad_request")
        assert text in str(error)


# The fields


WRONG_FIELDS = {
    "obs-fold": [b"A: b", b" c"],
    "a header that begins with a blank": [b" A: b"],
    "a header that begins with a tab": [b"\tA: b"],
    "a blank before the colon": [b"A : b"],
    "a tab before the colon": [b"A\t: b"],
    "no colon": [b"Abc"],
    "no name": [b": b"],
    "nothing but a colon": [b":"],
    "a blank within a name": [b"A B: c"],
    "a name beyond ASCII": [b"\xc3\xa9: b"],
    "NUL in a name": [b"A\0: b"],
    "NUL in a value": [b"A: b\0c"],
    "a control in a value": [b"A: b\x01c"],
    "DEL in a value": [b"A: b\x7fc"],
    "a bare CR": [b"A: b\rc"],
    "a bare CR at the end": [b"A: b\r"],
    "a bare LF": [b"A: b\nC: d"],
    "a second head within a value": [b"A: b\n\nGET / HTTP/1.1"],
    "an empty line within": [b"", b"A: b"],
    "a name in brackets": [b"(A): b"],
}


@pytest.mark.parametrize("lines", WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_wrong_fields(lines: list[bytes]) -> None:
    for data in (head(LINE, *lines, HOST), head(LINE, HOST, *lines), head(b"GET / HTTP/1.0", *lines)):
        error = refused(data)
        assert (error.status, error.kind) == (400, "bad_request")
        assert str(error) == "a line of the request head is not a valid header"


def test_so_many_headers_and_no_more() -> None:
    lines = [LINE, HOST, *[b"A: b"] * 9]
    assert len(parse_head(head(*lines), 10).headers) == 10
    error = refused(head(*lines, b"A: b"), 10)
    assert (error.status, error.kind) == (431, "head_too_large")
    assert str(error) == "the request has over 10 headers (max_headers)"


def test_host() -> None:
    assert parsed(LINE, b"Host:").headers == [(b"Host", b"")]
    assert parsed(b"GET / HTTP/1.0").headers == []
    for lines in ([LINE], [LINE, b"Hosts: a"], [LINE, HOST, b"hOST: b"], [b"GET / HTTP/1.0", HOST, HOST]):
        assert "one Host header, this one has" in str(refused(head(*lines)))


# How the body is framed


@pytest.mark.parametrize(
    ("lines", "chunked", "length"),
    [
        ([], False, None),
        ([b"Content-Length: 0"], False, 0),
        ([b"content-LENGTH:\t12 "], False, 12),
        ([b"Content-Length: 0012"], False, 12),
        ([b"Content-Length: 999999999999999999"], False, 10**18 - 1),
        ([b"Transfer-Encoding: chunked"], True, None),
        ([b"TRANSFER-encoding:Chunked "], True, None),
    ],
)
def test_framing(lines: list[bytes], chunked: bool, length: int | None) -> None:
    for method in (b"GET", b"POST", b"DELETE", b"HEAD"):
        made = parsed(method + b" / HTTP/1.1", HOST, *lines)
        assert (made.chunked, made.length) == (chunked, length)


TWO_READINGS: dict[str, RawHeaders] = {
    "both": [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
    "both, turned": [(b"transfer-encoding", b"chunked"), (b"content-length", b"1")],
    "both, the length being none": [(b"Content-Length", b"0"), (b"Transfer-Encoding", b"chunked")],
    "gzip": [(b"transfer-encoding", b"gzip")],
    "gzip, chunked": [(b"transfer-encoding", b"gzip, chunked")],
    "chunked, gzip": [(b"transfer-encoding", b"chunked, gzip")],
    "chunked, chunked": [(b"transfer-encoding", b"chunked, chunked")],
    "chunked twice": [(b"transfer-encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    "chunked with a comma": [(b"transfer-encoding", b"chunked,")],
    "chunked with a parameter": [(b"transfer-encoding", b"chunked;a=b")],
    "chunked in quotes": [(b"transfer-encoding", b'"chunked"')],
    "identity": [(b"transfer-encoding", b"identity")],
    "no coding": [(b"transfer-encoding", b"")],
    "two lengths": [(b"Content-Length", b"1"), (b"Content-Length", b"2")],
    "the same length twice": [(b"Content-Length", b"7"), (b"content-length", b"7")],
    "a negative length": [(b"Content-Length", b"-1")],
    "a signed length": [(b"Content-Length", b"+1")],
    "a list of lengths": [(b"Content-Length", b"1, 1")],
    "a length in hex": [(b"Content-Length", b"0x1")],
    "a fraction": [(b"Content-Length", b"1.0")],
    "no length": [(b"Content-Length", b"")],
    "a length with an underscore": [(b"Content-Length", b"1_0")],
    "a length with a blank": [(b"Content-Length", b"1 0")],
    "a length in other digits": [(b"Content-Length", "\u0661".encode())],
    "a huge length": [(b"Content-Length", b"1" * 19)],
    "an enormous length": [(b"Content-Length", b"1" * 5000)],
}


@pytest.mark.parametrize("headers", TWO_READINGS.values(), ids=TWO_READINGS)
def test_framing_that_can_be_read_in_two_ways(headers: RawHeaders) -> None:
    """Also as another server may have let it pass."""
    with pytest.raises(BadFraming):
        frame(ClientRequest(b"POST", b"/", "1.1", [(b"Host", b"a"), *headers]))
    lines = [b"%b: %b" % header for header in headers]
    assert refused(head(b"POST / HTTP/1.1", HOST, *lines)).kind == "bad_request"


def test_http_1_0_has_no_chunks() -> None:
    assert "that in HTTP/1.1" in str(refused(head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked")))


FRAMING = [b"Host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"expect", b"A"]
values = st.binary(max_size=8) | st.sampled_from([b"1", b"2", b"chunked", b"gzip", b"close, upgrade", b"trailers"])


@given(st.lists(st.tuples(st.sampled_from(FRAMING), values), max_size=5), st.sampled_from(["1.0", "1.1"]))
def test_framing_says_so_or_holds(headers: RawHeaders, version: str) -> None:
    request = ClientRequest(b"POST", b"/", version, headers)
    try:
        frame(request)
    except BadFraming:
        return
    assert request.length is None or request.length >= 0
    assert not (request.chunked and (request.length is not None or version == "1.0"))
    assert [name for name, _ in headers].count(b"Host") <= 1


# What becomes of the connection


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection:"], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"connection:  x ,\tCLOSE"], False),
        (b"1.1", [b"Connection: x", b"Connection: close"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.1", [b"Connection: close, keep-alive"], False),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: x, keep-alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
        (b"1.0", [b"Keep-Alive: timeout=5"], False),
    ],
)
def test_keep_alive(version: bytes, lines: list[bytes], keep_alive: bool) -> None:
    assert parsed(b"GET / HTTP/" + version, HOST, *lines).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ([b"Connection: Upgrade", b"Upgrade: websocket"], True),
        ([b"CONNECTION: keep-alive, uPGRADE", b"upgrade: WebSocket"], True),
        ([b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: anything/1"], True),
        ([b"Upgrade: websocket"], False),
        ([b"Connection: upgrade"], False),
        ([b"Connection: upgrades", b"Upgrade: websocket"], False),
        ([b"Connection: upgrade", b"Upgrade: h2c"], False),
        ([b"Connection: upgrade", b"Upgrade: H2C"], False),
        ([b"Connection: upgrade", b"Upgrade: websocket, h2c"], False),
        ([b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: HTTP/2.0"], False),
        ([b"Connection: upgrade", b"Upgrade: TLS/1.0"], False),
        ([b"Connection: upgrade", b"Upgrade: connect-udp"], False),
    ],
)
def test_upgrades(lines: list[bytes], upgrade: bool) -> None:
    assert parsed(LINE, HOST, *lines).upgrade is upgrade
    assert parsed(b"GET / HTTP/1.0", HOST, *lines).upgrade is False


@pytest.mark.parametrize(
    ("line", "takes"),
    [
        (b"TE: trailers", True),
        (b"te:gzip , Trailers", True),
        (b"TE: gzip", False),
        (b"TE:", False),
        (b"TE: trailer", False),
        (b"Trailer: trailers", False),
    ],
)
def test_trailers_are_taken_by_those_who_say_so(line: bytes, takes: bool) -> None:
    assert parsed(LINE, HOST, line).takes_trailers is takes
    assert parsed(LINE, HOST, line, b"TE: deflate").takes_trailers is takes


@pytest.mark.parametrize(
    ("line", "awaits"),
    [(b"Expect: 100-continue", True), (b"eXPECT:100-Continue", True), (b"Expect: 100", False), (b"Expect:", False)],
)
def test_a_body_may_wait_for_a_100(line: bytes, awaits: bool) -> None:
    assert parsed(LINE, HOST, line).awaits_continue is awaits


# Trailers


def test_trailers() -> None:
    assert parse_trailers(b"X-Sum: 1 \r\nx-sum:\r\n\r\n") == [(b"X-Sum", b"1"), (b"x-sum", b"")]


@pytest.mark.parametrize("lines", WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_wrong_trailers(lines: list[bytes]) -> None:
    with pytest.raises(RequestError, match="a trailer of the request is not valid") as raised:
        parse_trailers(head(b"X: y", *lines))
    assert raised.value.status == 400


# Whatever comes


SECRET = b"sk-Secret"


@pytest.mark.parametrize(
    "data",
    [
        head(SECRET),
        head(SECRET + b" / HTTP/9.9"),
        head(b"GET /" + SECRET),
        head(b"GET /" + SECRET + b"#x HTTP/1.1"),
        head(b"GET / " + SECRET),
        head(LINE, b"Authorization : " + SECRET),
        head(LINE, SECRET),
        head(LINE, SECRET + b"\0: x"),
        head(LINE, b"Host: " + SECRET, b"Host: " + SECRET),
        head(LINE, HOST, b"Content-Length: " + SECRET),
        head(LINE, HOST, b"Transfer-Encoding: chunked, " + SECRET),
        head(LINE, HOST, *[b"A: " + SECRET] * (MOST + 1)),
    ],
)
def test_texts_quote_nothing_of_the_request(data: bytes) -> None:
    error = refused(data)
    for text in (str(error), error.kind, repr(error.args), repr(error.__cause__)):
        assert SECRET.decode() not in text


LINES = [LINE, HOST, b"GET / HTTP/1.0", b"A: b", b"A:", b" c", b"Content-Length: 1", b"Connection: close", b"\0: \xe9"]
words = st.sampled_from([*(line + b"\r\n" for line in LINES), b"\r", b"\n", b":"])
pieces = st.lists(st.binary(max_size=12) | words, max_size=12).map(b"".join)


@given(st.booleans(), pieces, st.integers(0, 5))
@example(True, b"", 5)
@example(True, b"A: b\r\n\r\nC: d", 5)
def test_nothing_but_request_errors_and_heads_that_say_the_same_again(good: bool, data: bytes, most: int) -> None:
    whole = (LINE + b"\r\n" + HOST + b"\r\n" if good else b"") + data + b"\r\n\r\n"
    try:
        made = parse_head(whole, most)
    except RequestError:
        return
    assert len(made.headers) <= most
    line = b"%b %b HTTP/%b" % (made.method, made.target, made.version.encode())
    again = parse_head(head(line, *[b"%b: %b" % header for header in made.headers]), most)
    assert again == made
