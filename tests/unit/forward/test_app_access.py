"""A key that is held here and pages that ask, over real sockets: what upstream and page get, what is recorded.

No trick with Host, target or tags gets the key for anybody else, or sends it elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.exchange import Change, RequestHead, WireEnd
from proxy.forward.access import Access
from proxy.forward.held import HeldKey
from proxy.forward.redact import Redactor
from proxy.journal import record
from tests.support.rawhttp import Ended, Message, Peer, RawUpstream, connect
from tests.unit.forward.serving import OURS, Served, application, serving
from tests.unit.forward.tape import Stage, decoded

SECRET = b"sk-held-0123456789abcdefghij"
MARK = Redactor(b"k" * 32).fingerprint(SECRET).decode()
KEY = HeldKey(b"authorization", b"Bearer ", SECRET)
PAGE = "http://localhost:3000"
ORIGIN = b"Origin: http://localhost:3000\r\n"
EVIL = b"Origin: https://evil.example\r\n"
LOCAL = b"Host: 127.0.0.1:8800\r\n"
POST = b"POST /o/v1/x HTTP/1.1\r\n"
BODY = b"Content-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"

pytestmark = pytest.mark.usefixtures("calm")


class Asked:
    """An upstream that answers all with the same, and keeps what it was asked."""

    def __init__(self, *headers: bytes) -> None:
        self.requests: list[Message] = []
        self._headers = b"".join(header + b"\r\n" for header in headers)

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(peer.read_message())
                peer.send(OK, self._headers, b"\r\nok")
        except Ended:
            return


@contextmanager
def staged(
    stage: Stage, asked: Asked, *origins: str, key: HeldKey | None = KEY, expose_id: bool = False
) -> Iterator[Served]:
    access = Access(["wiretape.internal"], origins)
    with (
        RawUpstream(asked) as upstream,
        serving(application(stage, upstream.port, access=access, key=key, expose_id=expose_id), stage, OURS) as served,
    ):
        yield served


def ask(served: Served, *data: bytes) -> Message:
    with connect(served.port) as client:
        return client.send(*data).read_message(bodiless=data[0].startswith(b"OPTIONS") and b"Access" in b"".join(data))


def error(message: Message) -> str:
    return str(json.loads(message.body)["error"]["type"]).removeprefix("wiretape_")


def changes(stage: Stage, kind: str) -> list[Change]:
    return [change for change in decoded(stage.records(), record.CHANGE, Change) if change.kind == kind]


def test_the_key_and_its_record(stage: Stage) -> None:
    asked = Asked()
    with staged(stage, asked) as served:
        with connect(served.port) as client:
            for _ in range(4):  # the head is known from the third on
                client.send(POST, LOCAL, b"Authorization: Bearer unused\r\n", BODY)
                assert client.read_message().status == 200
        served.ends(4)
    assert [each.all("authorization") for each in asked.requests] == [[b"Bearer " + SECRET]] * 4
    assert [each.body for each in asked.requests] == [b"{}"] * 4
    heads = decoded(stage.records(), record.REQUEST_HEAD, RequestHead)
    assert {head.credential for head in heads} == {MARK}
    unused = Redactor(b"k" * 32).fingerprint(b"unused").decode()
    assert dict(heads[0].headers)["Authorization"] == f"Bearer redacted:{unused}"
    assert (
        changes(stage, "request_header_added")
        == [Change("request_header_added", [("authorization", f"Bearer redacted:{MARK}")], removed=["authorization"])]
        * 4
    )
    tape = [each.kind for each in stage.records()]
    assert tape.index(record.CHANGE) == tape.index(record.REQUEST_HEAD) + 1
    written = b"".join(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
    assert MARK.encode() in written
    assert SECRET[8:] not in written


def test_what_went_upstream_can_be_made_again(stage: Stage) -> None:
    """Out of what is recorded, but for the secret."""
    asked = Asked()
    sent = b"X-A: 1\r\nx-api-key: none\r\nX-B: 2\r\n"
    with staged(stage, asked) as served:
        ask(served, POST, LOCAL, sent, BODY)
        served.ends()
    (head,), (change,) = (
        decoded(stage.records(), record.REQUEST_HEAD, RequestHead),
        changes(stage, "request_header_added"),
    )
    again = [(name, value) for name, value in head.headers if name.lower() not in ("host", *change.removed)]
    again += [(name, value.replace(f"redacted:{MARK}", SECRET.decode())) for name, value in change.headers]
    went = [(name.decode(), value.decode()) for name, value in asked.requests[0].headers if name.lower() != b"host"]
    assert went == again


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        # DNS rebinding: a name of somebody else's that leads here.
        (POST + b"Host: evil.example:8800\r\n" + BODY, 403, "host_refused"),
        (POST + b"Host: evil.example\r\nX-Forwarded-Host: localhost\r\n" + BODY, 403, "host_refused"),
        (POST + b"Host: localhost:8800@evil.example\r\n" + BODY, 403, "host_refused"),
        (POST + b"Host: localhost.\r\n" + BODY, 403, "host_refused"),
        (POST + b"Host:\r\n" + BODY, 403, "host_refused"),
        (b"POST /o/v1/x HTTP/1.0\r\n" + BODY, 403, "host_refused"),
        (POST + LOCAL + b"Host: evil.example\r\n" + BODY, 400, "bad_request"),
        (POST + b"Host: evil.example\r\n" + LOCAL + BODY, 400, "bad_request"),
        (POST + LOCAL + b" evil.example\r\n" + BODY, 400, "bad_request"),
        (POST + b"Host : localhost\r\n" + BODY, 400, "bad_request"),
        # Targets that name a host, by themselves or behind something.
        (b"POST http://localhost/o/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 400, "bad_request"),
        (b"POST http://evil.example/o/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 400, "bad_request"),
        (b"POST o/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 400, "bad_request"),
        (b"POST //o/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 404, "unknown_upstream"),
        (b"POST /%6f/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 404, "unknown_upstream"),
        (b"POST /o%2fv1/x HTTP/1.1\r\n" + LOCAL + BODY, 404, "unknown_upstream"),
        (b"POST /o@evil.example/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 404, "unknown_upstream"),
        (b"POST /~a=b/~c=d/o/v1/x HTTP/1.1\r\n" + LOCAL + BODY, 404, "unknown_upstream"),
        (b"POST /~a=b/o/v1/x HTTP/1.1\r\nHost: evil.example\r\n" + BODY, 403, "host_refused"),
        (b"TRACE /o/v1/x HTTP/1.1\r\n" + LOCAL + b"\r\n", 501, "method_refused"),
        # Pages.
        (POST + LOCAL + EVIL + BODY, 403, "origin_refused"),
        (POST + LOCAL + b"Origin: null\r\n" + BODY, 403, "origin_refused"),
        (POST + LOCAL + b"Origin: http://127.0.0.1:8800\r\n" + BODY, 403, "origin_refused"),
        (b"GET /o/v1/x HTTP/1.1\r\n" + LOCAL + b"Sec-Fetch-Site: cross-site\r\n\r\n", 403, "origin_refused"),
        (
            b"GET /o/v1/x HTTP/1.1\r\n" + LOCAL + EVIL + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            403,
            "origin_refused",
        ),
        (b"OPTIONS /o/v1/x HTTP/1.1\r\n" + LOCAL + EVIL + b"\r\n", 403, "origin_refused"),
    ],
)
def test_who_is_refused(tricks: tuple[Served, Asked], data: bytes, status: int, kind: str) -> None:
    served, asked = tricks
    for _ in range(3):
        answer = ask(served, data)
        assert (answer.status, error(answer)) == (status, kind)
        assert SECRET not in answer.body
    assert asked.requests == []


@pytest.fixture(scope="module")
def tricks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Asked]]:
    stage, asked = Stage(tmp_path_factory.mktemp("tricks")), Asked()
    with staged(stage, asked) as served:
        yield served, asked
    stage.journal.close()


TARGETS = (
    b"/~a=b/o/v1/x",
    b"/~user=localhost@evil.example/o/v1/x",
    b"/o//evil.example/x",
    b"/o/@evil.example/x",
    b"/o/..//evil.example/x",
    b"/o/%2f%2fevil.example/x",
    b"/o/http://evil.example/",
    b"/o?x=http://evil.example",
)


def test_the_key_goes_to_its_own_upstream_alone(stage: Stage) -> None:
    asked = Asked(b"Location: http://127.0.0.1:1/elsewhere")
    with staged(stage, asked) as served:
        for target in TARGETS:
            assert ask(served, b"POST %b HTTP/1.1\r\n" % target, LOCAL, b"X-Host: evil.example\r\n", BODY).status == 200
    assert {each.one("authorization") for each in asked.requests} == {b"Bearer " + SECRET}
    assert all((each.one("host") or b"").startswith(b"127.0.0.1:") for each in asked.requests)


def test_a_redirect_is_not_followed(stage: Stage) -> None:
    def away(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b/x\r\n" % trap.url.encode())
        peer.send(b"Content-Length: 0\r\n\r\n")

    with RawUpstream(Asked()) as trap:
        with (
            RawUpstream(away) as upstream,
            serving(application(stage, upstream.port, key=KEY), stage, OURS) as served,
        ):
            answer = ask(served, POST, LOCAL, BODY)
        assert (answer.status, answer.one("location")) == (307, f"{trap.url}/x".encode())
        assert trap.peers == []


def test_a_key_that_is_refused(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The upstream's answer passes; whose key it means stands in the log, once."""

    def refusing(peer: Peer) -> None:
        peer.read_message()
        peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")

    with (
        RawUpstream(refusing) as upstream,
        serving(application(stage, upstream.port, key=HeldKey(b"x-api-key", b"", SECRET)), stage, OURS) as served,
    ):
        for _ in range(2):
            answer = ask(served, POST, LOCAL, BODY)
            assert (answer.status, answer.body) == (401, b"no")
    said = [each for each in caplog.messages if "refused the key" in each]
    assert said == ["o refused the key that is held for it (401): set the variable in its key_env anew"]


# Pages that may ask


def test_what_a_page_is_told(stage: Stage) -> None:
    """The upstream's own word on pages makes room for ours: two would be none."""
    theirs = (b"Access-Control-Allow-Origin: *", b"access-control-expose-headers: x-request-id", b"Vary: Accept")
    asked = Asked(*theirs, b"x-request-id: r")
    with staged(stage, asked, PAGE, expose_id=True) as served:
        for _ in range(3):
            answer = ask(served, POST, LOCAL, ORIGIN, BODY)
            assert answer.all("access-control-allow-origin") == [PAGE.encode()]
            assert answer.all("access-control-expose-headers") == [b"*"]
            assert answer.all("vary") == [b"Accept", b"Origin"]
            assert answer.one("x-request-id") == b"r"
        plain = ask(served, POST, LOCAL, BODY)
        assert plain.all("access-control-allow-origin") == [b"*"]
        served.ends(4)
    assert asked.requests[0].one("authorization") == b"Bearer " + SECRET
    assert asked.requests[0].one("origin") == PAGE.encode()
    told = changes(stage, "response_header_added")
    assert [name for name, _ in told[0].headers] == [
        "x-wiretape-exchange",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "vary",
    ]
    assert told[0].removed == ["access-control-allow-origin", "access-control-expose-headers"]
    assert told[3] == Change("response_header_added", told[3].headers)
    assert [name for name, _ in told[3].headers] == ["x-wiretape-exchange"]


def test_a_preflight_is_answered_here(stage: Stage) -> None:
    asked = Asked()
    wanted = b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key,x-stainless-os\r\n\r\n"
    with staged(stage, asked, PAGE) as served:
        for path in (b"/o/v1/x", b"/unknown/x", b"/~a=b/o/v1/x"):
            answer = ask(served, b"OPTIONS %b HTTP/1.1\r\n" % path, LOCAL, ORIGIN, wanted)
            assert answer.status == 204
            assert answer.all("access-control-allow-origin") == [PAGE.encode()]
            assert answer.one("access-control-allow-headers") == b"x-api-key,x-stainless-os"
            assert answer.one("content-length") is None
        with connect(served.port) as client:  # and the connection goes on
            for _ in range(3):
                client.send(b"OPTIONS /o/x HTTP/1.1\r\n", LOCAL, ORIGIN, wanted)
                assert client.read_message(bodiless=True).status == 204
            client.send(POST, LOCAL, ORIGIN, BODY)
            assert client.read_message().body == b"ok"
        with connect(served.port) as client:
            client.send(b"OPTIONS /o/v1/x HTTP/1.1\r\n", LOCAL, EVIL, wanted)
            refused = client.read_message()
        assert (refused.status, error(refused)) == (403, "origin_refused")
        assert refused.one("access-control-allow-origin") is None
        served.ends()
    assert len(asked.requests) == 1
    assert dict(served.app.turned_away) == {"origin_refused": 1}


def test_our_own_errors_can_be_read_by_the_page(stage: Stage) -> None:
    with (
        serving(application(stage, 1, access=Access((), [PAGE]), limit=5), stage, OURS) as served,
    ):
        for data, status in (
            (b"POST /unknown/x HTTP/1.1\r\n" + LOCAL + ORIGIN + BODY, 404),
            (POST + LOCAL + ORIGIN + b"Content-Length: 6\r\n\r\n123456", 413),
            (POST + LOCAL + ORIGIN + BODY, 502),
        ):
            answer = ask(served, data)
            assert answer.status == status
            assert answer.all("access-control-allow-origin") == [PAGE.encode()]
        assert served.wire_end() == WireEnd.UPSTREAM_ERROR
    (own,) = changes(stage, "own_response")
    assert ("access-control-allow-origin", PAGE) in own.headers


def test_the_host_counts_for_a_page_too(stage: Stage) -> None:
    asked = Asked()
    with staged(stage, asked, PAGE) as served:
        answer = ask(served, POST, b"Host: evil.example\r\n", ORIGIN, BODY)
        assert (answer.status, error(answer)) == (403, "host_refused")
        assert ask(served, POST, b"Host: wiretape.internal:80\r\n", ORIGIN, BODY).status == 200
    assert len(asked.requests) == 1


@pytest.mark.parametrize("origins", [(), (PAGE,), ("*",)])
def test_without_a_key_of_ours(stage: Stage, origins: tuple[str, ...]) -> None:
    """Nothing is configured: all as it comes. Something is: others are refused."""
    asked = Asked(b"Access-Control-Allow-Origin: *")
    with staged(stage, asked, *origins, key=None) as served:
        answer = ask(served, POST, b"Host: evil.example\r\n", EVIL, BODY)
    assert (answer.status == 403) == (origins == (PAGE,))
    if answer.status == 200:
        assert answer.all("access-control-allow-origin") == [b"*"]
        assert [change.removed for change in changes(stage, "response_header_added")] == (
            [["access-control-allow-origin"]] if origins else []
        )
