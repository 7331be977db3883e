"""Upstreams behind a proxy, as they are configured: what passes is the same, a proxy that refuses is told and recorded
as what it is, and its password is nowhere."""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.flow.wire.differential import error_type
from tests.flow.wire.stage import Answering, Slot, Stage, request, response, staged
from tests.support import certificates
from tests.support.proxies import Asked, ConnectProxy, SocksProxy
from tests.support.rawhttp import RawUpstream
from tests.support.running import files_of, run_wiretape

DATA = random.Random(5).randbytes(1_000_000)
SECRET = "pr0xy-s3cret"
BASIC = b"bWU6cHIweHktczNjcmV0"  # me:SECRET, as HTTP's Basic has it


class Place:
    """A wiretape, its upstream that asks for a certificate, the proxies on the way to it, and its configuration."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        authority = certificates.authority(folder)
        shown = certificates.certificate(folder / "us", "us", issuer=authority)
        them = certificates.certificate(folder / "them", "localhost", issuer=authority)
        theirs = certificates.serving(them, authority)
        theirs.maximum_version = ssl.TLSVersion.TLSv1_2
        self.script = Answering(response(DATA))
        self.upstream = held.enter_context(RawUpstream(self.script, tls=theirs))
        self.http = held.enter_context(ConnectProxy(f"me:{SECRET}"))
        self.socks = held.enter_context(SocksProxy(f"me:{SECRET}"))
        common = f"url = 'https://localhost:{self.upstream.port}'\nca_file = '{authority}'\nclient_cert = '{shown}'\n"
        proxies = {
            "http": f"http://me:{SECRET}@127.0.0.1:{self.http.port}",
            "socks": f"socks5h://me:{SECRET}@127.0.0.1:{self.socks.port}",
            "wrong": f"http://me:{SECRET}-not@127.0.0.1:{self.http.port}",
        }
        config = [f"[upstreams.{name}]\n{common}proxy = '{url}'\n" for name, url in proxies.items()]
        self.folder = folder / "home-of"
        self.folder.mkdir()
        self.stage: Stage = held.enter_context(staged(self.folder, "".join(config), upstreams=1))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as held:
        yield Place(tmp_path_factory.mktemp("proxies"), held)


@pytest.mark.parametrize("name", ["http", "socks"])
def test_bytes_are_the_same(place: Place, name: str) -> None:
    asked = request(f"/{name}/v1/x".encode(), DATA, b"X-Ours: 1")
    place.script.requests.clear()
    assert place.stage.exchange(asked).body == DATA
    (sent,) = place.script.requests
    assert (sent.target, sent.body, sent.one("X-Ours")) == (b"/v1/x", DATA, b"1")
    assert sent.one("Proxy-Authorization") is None
    recorded = place.stage.only(Slot(name, 0, 0))
    assert (recorded.outcome, recorded.request, recorded.response) == ("completed", DATA, DATA)
    proxy = place.http if name == "http" else place.socks
    assert proxy.asked[-1] == Asked("localhost", place.upstream.port, f"me:{SECRET}")


def test_a_proxy_that_refuses_is_to_blame(place: Place) -> None:
    asked = Slot("wrong", 0, time.time_ns() // 1000)
    answer = place.stage.exchange(request(b"/wrong/v1/x", b"{}"))
    assert (answer.status, error_type(answer)) == (502, "wiretape_upstream_proxy_failed")
    sentence = f"the proxy 127.0.0.1:{place.http.port} does not take the user and password that it was given (407)"
    assert f"wrong: {sentence}" in answer.body.decode()
    recorded = place.stage.only(asked)
    assert (recorded.outcome, recorded.facts["error"]) == ("upstream_failed", f"proxy: {sentence}")
    assert [change["kind"] for change in recorded.changes] == ["own_response"]


def test_its_password_is_nowhere(place: Place) -> None:
    test_a_proxy_that_refuses_is_to_blame(place)
    listed = run_wiretape(place.folder, "--home", "home", "upstreams", "--format", "json")
    shown = {row["name"]: row["proxy"] for row in json.loads(listed.stdout)}
    assert shown["http"] == f"http://***@127.0.0.1:{place.http.port}"
    assert shown["openai"] is None
    said = listed.stdout + run_wiretape(place.folder, "--home", "home", "doctor").stdout
    for content in [said.encode(), *files_of(place.stage.wiretape.home).values()]:
        assert SECRET.encode() not in content
        assert BASIC not in content
    assert SECRET not in place.stage.wiretape.log + place.stage.wiretape.output
