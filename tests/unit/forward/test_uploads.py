"""URLs for uploads lead back by the name that the client reached us by, and the record tells both sides' headers."""

from __future__ import annotations

import pytest

from proxy.exchange import Change, ResponseHead
from proxy.forward.access import Access
from proxy.forward.redact import Redactor
from proxy.forward.uploads import Home
from proxy.journal import record
from proxy.upload_urls import address
from tests.support.rawhttp import Ended, Message, Peer, RawUpstream, connect
from tests.unit.forward.serving import OURS, application, serving
from tests.unit.forward.tape import Stage, decoded

GOOGLE = Home(address("https", "upload.example"), b"/base")
SECRET = b"AAseCrEtuPlOaD0123456789"
URL = b"https://upload.example/base/upload/v1/files?upload_id=" + SECRET
SHOWN = f"redacted:{Redactor(b'k' * 32).fingerprint(SECRET).decode()}"
HOST = b"Host: LocalHost:8800\r\n"
POST = b"POST /~project=a/o/upload/v1/files HTTP/1.1\r\n"
LENGTH = b"Content-Length: 2\r\n\r\n{}"

pytestmark = pytest.mark.usefixtures("calm")


def answers(
    stage: Stage, *requests: bytes, headers: bytes, access: Access | None = None, ends: int | None = None
) -> list[Message]:
    """What a client of one connection gets to requests that are all answered with the same headers; `ends` are
    recorded, all where nothing is said."""

    def script(peer: Peer) -> None:
        try:
            while True:
                peer.read_message()
                peer.send(b"HTTP/1.1 200 OK\r\n", headers, b"Content-Length: 2\r\n\r\nok")
        except Ended:
            return

    with (
        RawUpstream(script) as upstream,
        serving(
            application(stage, upstream.port, access=access, uploads=GOOGLE, expose_id=True), stage, OURS
        ) as served,
        connect(served.port) as client,
    ):
        found = [client.send(request).read_message() for request in requests]
        served.ends(len(requests) if ends is None else ends)
    return found


def changes(stage: Stage) -> list[Change]:
    return decoded(stage.records(), record.CHANGE, Change)


def test_the_record_tells_both_sides_headers(stage: Stage) -> None:
    given = b"X-A: 1\r\nX-Goog-Upload-URL: %b\r\nX-B: 2\r\nLocation: %b\r\nx-goog-upload-url: https://x.example/\r\n"
    got = answers(stage, *[POST + HOST + LENGTH] * 4, headers=given % (URL, URL))  # the head is known from the third on
    back = b"http://LocalHost:8800/~project=a/o/upload/v1/files?upload_id=" + SECRET
    for message in got:
        assert message.headers[:5] == [
            (b"X-A", b"1"),
            (b"X-Goog-Upload-URL", back),
            (b"X-B", b"2"),
            (b"Location", back),
            (b"x-goog-upload-url", b"https://x.example/"),
        ]
        assert message.headers[-1][0] == b"x-wiretape-exchange"
    shown = back.replace(SECRET, SHOWN.encode()).decode()
    put = [("X-Goog-Upload-URL", shown), ("Location", shown), ("x-goog-upload-url", "https://x.example/")]
    told = changes(stage)
    assert [change.kind for change in told] == ["upload_url_rewritten", "response_header_added"] * 4
    assert told[::2] == [Change("upload_url_rewritten", put)] * 4
    head = decoded(stage.records(), record.RESPONSE_HEAD, ResponseHead)[0]
    assert dict(head.headers)["X-Goog-Upload-URL"] == URL.replace(SECRET, SHOWN.encode()).decode()
    written = b"".join(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
    assert SHOWN.encode() in written
    assert SECRET not in written


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Host: user@localhost\r\n",
        POST + b"Host: localhost/evil\r\n",
        POST + b"Host: a, b\r\n",
        POST + b"Host: [::1\r\n",
        POST + b"Host:\r\n",
        POST.replace(b"1.1", b"1.0"),
    ],
)
def test_a_strange_host_leads_nowhere(stage: Stage, head: bytes) -> None:
    (got,) = answers(stage, head + LENGTH, headers=b"X-Goog-Upload-URL: %b\r\n" % URL)
    assert got.all("x-goog-upload-url") == [URL]
    assert [change.kind for change in changes(stage)] == ["response_header_added"]


def test_with_tags_that_are_not_ascii(stage: Stage) -> None:
    """They come back as they were sent, and are the same tags then."""
    target = b"/~project=caf%C3%A9,env=a+b/o/upload/v1/files"
    head = b"POST %b HTTP/1.1\r\n" % target
    (got,) = answers(stage, head + HOST + LENGTH, headers=b"X-Goog-Upload-URL: %b\r\n" % URL)
    assert got.one("x-goog-upload-url") == b"http://LocalHost:8800%b?upload_id=%b" % (target, SECRET)


def test_a_page_may_read_it(stage: Stage) -> None:
    access = Access((), ["http://localhost:3000"])
    page = b"Origin: http://localhost:3000\r\n"
    (got,) = answers(
        stage, POST + HOST + page + LENGTH, headers=b"X-Goog-Upload-Control-URL: %b\r\n" % URL, access=access
    )
    assert got.one("access-control-expose-headers") == b"*"
    assert (got.one("x-goog-upload-control-url") or b"").startswith(b"http://LocalHost:8800/~project=a/o/upload/")


@pytest.mark.parametrize(("word", "ends"), [(b"meta", 1), (b"none", 0)])
def test_it_leads_back_where_less_is_recorded(stage: Stage, word: bytes, ends: int) -> None:
    wanted = POST + HOST + b"x-wiretape-record: %b\r\n" % word + LENGTH
    (got,) = answers(stage, wanted, headers=b"X-Goog-Upload-URL: %b\r\n" % URL, ends=ends)
    assert (got.one("x-goog-upload-url") or b"").startswith(b"http://LocalHost:8800/")
    assert [change.kind for change in changes(stage)][:1] == ["upload_url_rewritten"] * ends
