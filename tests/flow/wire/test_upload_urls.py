"""Google's resumable uploads come back through the data port: each request arrives, byte for byte, and is recorded."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.flow.wire.stage import Recorded, Slot, Stage
from tests.support import certificates
from tests.support.here import run_here
from tests.support.rawhttp import Message, chunked, connect
from tests.support.running import Running, files_of, serving
from tests.support.uploads import Google, begin, command, headers

KEY = "AIzaSyntheticHeldKey0123456789abcdefghi"
DATA = random.Random(7).randbytes(3_000_000)
START = "/upload/v1beta/files"
# Each test has upstreams of its own, so that nobody's requests are taken for another's.
UPSTREAMS = {
    "whole": "",
    "secured": "",
    "tagged": "",
    "older": "",
    "plain": "dialect = 'openai'",
    "left": "rewrite_upload_urls = false",
    "held": "key_env = 'MY_KEY'",
    "based": "",
}


@dataclass(frozen=True)
class Place:
    """A wiretape before a Google, and how its clients connect; `scheme` and `host` are those of its URLs."""

    wiretape: Running
    google: Google
    tls: ssl.SSLContext | None = None

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"

    @property
    def host(self) -> bytes:
        return b"localhost:%d" % self.wiretape.port

    def begin(self, target: str) -> Message:
        with connect(self.wiretape.port, tls=self.tls) as client:
            return begin(client, target.encode(), self.host, len(DATA))

    def command(self, url: bytes, words: bytes, offset: int | None = None, data: bytes = b"") -> Message:
        """Follow a URL, which must lead to this data port."""
        parts = urlsplit(url.decode())
        assert (parts.scheme, parts.netloc.encode()) == (self.scheme, self.host)
        with connect(self.wiretape.port, tls=self.tls) as client:
            return command(client, url, words, offset, data)

    def recorded(self, upstream: str, count: int) -> list[Recorded]:
        return Stage(self.wiretape, {}).recorded(Slot(upstream, 0, 0), count)


def config_of(google: Google) -> str:
    lines = ["forward.shutdown_grace = '1s'"]
    for name, more in UPSTREAMS.items():
        base = "/base/v2" if name == "based" else ""
        dialect = "" if "dialect" in more else "dialect = 'gemini'"
        lines.append(f"[upstreams.{name}]\nurl = '{google.url}{base}'\n{dialect}\n{more}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("uploads")
    with (
        Google() as google,
        serving(folder, config=config_of(google), variables={"MY_KEY": KEY}) as wiretape,
    ):
        yield Place(wiretape, google)
        wiretape.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Its data port speaks TLS."""
    folder = tmp_path_factory.mktemp("secured")
    authority = certificates.authority(tmp_path_factory.mktemp("authority"))
    files = certificates.certificate(folder / "files", "localhost", issuer=authority).parent
    with Google() as google:
        config = f"forward.cert = '{files / 'cert'}'\nforward.key = '{files / 'key'}'\n{config_of(google)}"
        config += f"\n[upstreams.played]\nurl = '{google.url}'\ndialect = 'gemini'\nmode = 'playback_else_record'\n"
        variables = {"MY_KEY": KEY, "WIRETAPE_PLAYBACK__PORT": "0"}
        with serving(folder, config=config, variables=variables) as wiretape:
            yield Place(wiretape, google, certificates.trusting(authority))
            wiretape.stop()


def upload(place: Place, target: str) -> str:
    """A whole upload in two pieces, with a question between them; the id that it had at Google."""
    started = place.begin(target)
    url = started.one("x-goog-upload-url") or b""
    control = started.one("x-goog-upload-control-url") or b""
    assert control == url + b"&control=1"
    half = len(DATA) // 2
    first = place.command(url, b"upload", 0, DATA[:half])
    assert (first.status, first.one("x-goog-upload-status")) == (200, b"active")
    asked = place.command(control, b"query")
    assert asked.one("x-goog-upload-size-received") == b"%d" % half
    last = place.command(url, b"upload, finalize", half, DATA[half:])
    assert last.one("x-goog-upload-status") == b"final"
    assert b'"sizeBytes": "3000000"' in last.body
    return url.decode().partition("upload_id=")[2].partition("&")[0]


def of(google: Google, name: str) -> list[tuple[bytes, bytes]]:
    """What Google was asked of an upload, but for its beginning."""
    return [each for each in google.asked if name.encode() in each[1]]


def test_a_whole_upload_with_tags_in_the_path(place: Place) -> None:
    tags = "/~project=search,session=s1"
    name = upload(place, f"{tags}/whole{START}?key=unused")
    assert place.google.files[name] == DATA
    target = f"{START}?upload_id={name}&upload_protocol=resumable".encode()
    assert of(place.google, name) == [(b"POST", target), (b"POST", target + b"&control=1"), (b"POST", target)]
    found = place.recorded("whole", 4)
    assert b"".join(each.request for each in found[1:]) == DATA
    assert {each.outcome for each in found} == {"completed"}
    assert [(each.tags, each.facts["session"]) for each in found] == [([("project", "search")], "s1")] * 4


def test_the_record_has_both(place: Place) -> None:
    started = place.begin(f"/~a=b/tagged{START}")
    url = (started.one("x-goog-upload-url") or b"").decode()
    name = url.partition("upload_id=")[2].partition("&")[0]
    (found,) = place.recorded("tagged", 1)
    came = dict(found.headers(1))
    assert [each["kind"] for each in found.changes] == ["upload_url_rewritten", "response_header_added"]
    went = dict(map(tuple, found.changes[0]["headers"]))
    assert set(went) == {"X-Goog-Upload-URL", "X-Goog-Upload-Control-URL"}
    here = f"http://{place.host.decode()}/~a=b/tagged"
    for header, shown in went.items():
        assert came[header].startswith(f"{place.google.url}{START}?upload_id=redacted:")
        assert shown == came[header].replace(place.google.url, here)
    shown = run_here(place.wiretape.home.parent, "--home", str(place.wiretape.home), "show", found.id).out.decode()
    assert "upload url rewritten" in shown
    assert not [path for path, data in files_of(place.wiretape.home).items() if name.encode() in data]


def test_the_data_port_speaks_tls(secured: Place) -> None:
    name = upload(secured, f"/~a=b/secured{START}")
    assert secured.google.files[name] == DATA
    assert len(secured.recorded("secured", 4)) == 4


def test_by_way_of_playback_and_tls(secured: Place) -> None:
    """Asked for once; then all of it is played."""
    name = upload(secured, f"/~session=one/played{START}")
    assert secured.google.files[name] == DATA
    secured.recorded("played", 8)
    asked = len(secured.google.seen)
    upload(secured, f"/~session=two/played{START}")
    assert len(secured.google.seen) == asked


def test_the_older_style(place: Place) -> None:
    """Location, 308 with the Range that is there, bodies with a length and in chunks, and PUT."""
    with connect(place.wiretape.port) as client:
        client.send(b"POST /older/upload/v1/x?uploadType=resumable HTTP/1.1\r\nHost: %b\r\n" % place.host, headers())
        url = client.read_message().one("location") or b""
        assert url.startswith(b"http://%b/older/upload/v1/x?upload_id=" % place.host)
        target = url.partition(place.host)[2]
        put = b"PUT %b HTTP/1.1\r\nHost: %b\r\n" % (target, place.host)
        third = len(DATA) // 3
        size = len(DATA)
        client.send(put, headers(b"Content-Range: bytes 0-%d/%d" % (third - 1, size), body=DATA[:third]))
        first = client.read_message(bodiless=True)
        assert (first.status, first.all("location"), first.one("range")) == (308, [url], b"bytes=0-%d" % (third - 1))
        place_of_it = b"Content-Range: bytes %d-%d/%d" % (third, 2 * third - 1, size)
        client.send(put, headers(place_of_it, b"Transfer-Encoding: chunked", body=None))
        client.send(chunked(DATA[third : third + 70_000], DATA[third + 70_000 : 2 * third]))
        assert client.read_message(bodiless=True).one("range") == b"bytes=0-%d" % (2 * third - 1)
        client.send(put, headers(b"Content-Range: bytes */%d" % size))
        assert client.read_message(bodiless=True).status == 308
        client.send(
            put, headers(b"Content-Range: bytes %d-%d/%d" % (2 * third, size - 1, size), body=DATA[2 * third :])
        )
        last = client.read_message()
    assert (last.status, last.all("location")) == (201, [url])
    name = url.decode().partition("upload_id=")[2].partition("&")[0]
    assert place.google.files[name] == DATA
    kinds = [[change["kind"] for change in each.changes] for each in place.recorded("older", 5)]
    assert kinds == [["upload_url_rewritten", "response_header_added"]] * 5


@pytest.mark.parametrize("upstream", ["left", "plain"])
def test_left_alone(place: Place, upstream: str) -> None:
    """Where it is switched off, and of other dialects."""
    url = place.begin(f"/{upstream}{START}").one("x-goog-upload-url") or b""
    assert url.startswith(place.google.url.encode() + START.encode())
    (found,) = place.recorded(upstream, 1)
    assert [each["kind"] for each in found.changes] == ["response_header_added"]


def test_below_a_path(place: Place) -> None:
    name = upload(place, f"/based{START}")
    assert place.google.files[name] == DATA
    assert {target.partition(b"?")[0] for _, target in of(place.google, name)} == {b"/base/v2" + START.encode()}


def test_with_a_key_that_is_held_here(place: Place) -> None:
    before = len(place.google.seen)
    name = upload(place, f"/held{START}")
    assert place.google.files[name] == DATA
    assert [each.all("x-goog-api-key") for each in place.google.seen[before:]] == [[KEY.encode()]] * 4
    assert len({each.facts["credential"] for each in place.recorded("held", 4)}) == 1
    assert not [path for path, data in files_of(place.wiretape.home).items() if KEY.encode() in data]
