"""A resumable upload that was recorded is played whole: its URLs lead back to whoever answers, and to nobody else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.playing import playing
from tests.support.rawhttp import connect
from tests.support.running import Running, serving
from tests.support.uploads import Google, begin, command

DATA = random.Random(13).randbytes(300_000)
NOBODY = "http://127.0.0.1:9"
START = b"/upload/v1beta/files"


def config_of(url: str, mode: str = "live", base: str = "") -> str:
    return f"playback.port = 0\n[upstreams.gemini]\nurl = '{url}{base}'\nmode = '{mode}'\n"


def upload(port: int, before: bytes = b"/gemini") -> list[bytes]:
    """A whole upload that never leaves a port; the bodies of all answers."""
    host = b"127.0.0.1:%d" % port
    with connect(port) as client:
        url = begin(client, before + START, host, len(DATA)).one("x-goog-upload-url") or b""
        assert url.startswith(b"http://%b%b%b?upload_id=" % (host, before, START))
        first = command(client, url, b"upload", 0, DATA[:100_000])
        asked = command(client, url, b"query")
        last = command(client, url, b"upload, finalize", 100_000, DATA[100_000:])
    received = asked.one("x-goog-upload-size-received") or b""
    assert {first.status, asked.status, last.status} == {200}
    assert last.one("x-goog-upload-status") == b"final"
    return [received, first.body, last.body]


def recorded(wiretape: Running, google: Google, before: bytes = b"/gemini") -> list[bytes]:
    found = upload(wiretape.port, before)
    assert list(google.files.values())[-1] == DATA
    wiretape.wait_stored(4)
    return found


@pytest.mark.parametrize("base", ["", "/base/v2"])
def test_what_was_recorded_is_played(tmp_path: Path, base: str) -> None:
    """Through the data port, and by playback itself; the upstream is gone."""
    with Google() as google, serving(tmp_path, config=config_of(google.url, base=base)) as wiretape:
        found = recorded(wiretape, google, b"/~project=a/gemini")
        wiretape.stop()
    with serving(tmp_path, config=config_of(NOBODY, "playback")) as wiretape:
        assert upload(wiretape.port) == found
        assert upload(wiretape.port, b"/~session=again/gemini") == found
        wiretape.stop()
    with playing(tmp_path) as url:
        assert upload(int(url.rpartition(":")[2]), b"/~session=third/gemini") == found


def test_what_is_not_recorded_is_asked_for_once(tmp_path: Path) -> None:
    with (
        Google() as google,
        serving(tmp_path, config=config_of(google.url, "playback_else_record")) as wiretape,
    ):
        found = recorded(wiretape, google)
        asked = len(google.seen)
        assert asked == 4
        assert upload(wiretape.port, b"/~session=again/gemini") == found
        assert len(google.seen) == asked
        wiretape.stop()


def test_a_session_records_all_of_it(tmp_path: Path) -> None:
    """At playback's own port."""
    with Google() as google:
        (tmp_path / "wiretape.toml").write_text(config_of(google.url))
        with playing(tmp_path, "--record") as url:
            port = int(url.rpartition(":")[2])
            with connect(port) as client:
                client.send(b"PUT /-/sessions/one?mode=record HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                assert client.read_message().status == 201
            found = upload(port, b"/~session=one/gemini")
            assert list(google.files.values()) == [DATA]
            with connect(port) as client:
                client.send(b"GET /-/sessions/one/cassette HTTP/1.1\r\nHost: localhost\r\n\r\n")
                cassette = client.read_message().body
                request = b"PUT /-/sessions/two?mode=playback HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                assert client.send(request % len(cassette), cassette).read_message().status == 201
            assert upload(port, b"/~session=two/gemini") == found
            assert len(google.seen) == 4
