"""Pages in a real browser ask the data port: one that may, with its stream as it comes; others, who get nowhere.

Needs Debian's chromium. Nothing here reaches a network: pages and upstream are served by the test.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import needs
from tests.support.rawhttp import DEADLINE, Ended, Message, Peer, RawUpstream
from tests.support.running import Running, serving

KEY = "held-key-0123456789"
REBOUND = "rebound.test"
"""A name of somebody else's that leads to this machine."""

STREAM = """async (url) => {
    window.seen = "";
    const headers = {
        "authorization": "Bearer unused", "content-type": "application/json", "x-api-key": "unused",
        "anthropic-version": "2023-06-01", "x-stainless-os": "Unknown", "x-wiretape-tags": "page=yes",
    };
    const answer = await fetch(url, {method: "POST", headers, body: '{"stream": true}'});
    const told = (name) => answer.headers.get(name);
    window.told = {status: answer.status, id: told("x-wiretape-exchange"), request: told("x-request-id")};
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) window.seen += read.value;
    window.seen += "|";
}"""
ASK = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return {kind: answer.type, status: answer.status, text: await answer.text()};
    } catch (error) {
        return {kind: error.name};
    }
}"""
TALK = """(url) => new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onopen = () => done("open");
    socket.onerror = () => done("error");
})"""

SHOW = """(url) => new Promise((done) => {
    const picture = new Image();
    picture.onload = () => done("shown");
    picture.onerror = () => done("error");
    picture.src = url;
})"""


class Upstream:
    """A provider that sends one half of its stream, and the other when it is told to."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.go_on = threading.Event()

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(peer.read_message())
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: r1\r\n")
                peer.send(b"Access-Control-Allow-Origin: *\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
                assert self.go_on.wait(DEADLINE)
                peer.send(b"3\r\ntwo\r\n0\r\n\r\n")
        except Ended:
            return


def page_of(peer: Peer) -> None:
    """A server of a page."""
    try:
        while True:
            peer.read_message()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>")
    except Ended:
        return


class Place(NamedTuple):
    browser: Browser
    wiretape: Running
    upstream: Upstream
    allowed: str  # the address of a page that may ask, and of one that may not
    other: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.wiretape.port}/openai/v1"

    def at(self, address: str) -> Page:
        page = self.browser.new_page()
        page.goto(f"{address}/")
        return page


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    chromium, upstream = needs("chromium"), Upstream()
    with ExitStack() as held:
        origin, allowed, other = (held.enter_context(RawUpstream(each)) for each in (upstream, page_of, page_of))
        config = (
            f"[forward]\ncors_origins = ['{allowed.url}']\nshutdown_grace = '1s'\n"
            f"[upstreams.openai]\nurl = '{origin.url}'\nkey_env = 'MY_KEY'\n"
        )
        folder = tmp_path_factory.mktemp("pages")
        wiretape = held.enter_context(serving(folder, command="forward", config=config, variables={"MY_KEY": KEY}))
        playwright = held.enter_context(sync_playwright())
        rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=chromium, args=[rules])
        held.callback(browser.close)
        yield Place(browser, wiretape, upstream, allowed.url, other.url)


@pytest.fixture
def upstream(place: Place) -> Upstream:
    place.upstream.requests.clear()
    place.upstream.go_on.clear()
    return place.upstream


def test_a_page_that_may_ask_reads_the_stream_as_it_comes(place: Place, upstream: Upstream) -> None:
    page = place.at(place.allowed)
    page.evaluate(f"(url) => {{ ({STREAM})(url); }}", f"{place.url}/chat/completions")
    page.wait_for_function("window.seen === 'one'")
    upstream.go_on.set()
    page.wait_for_function("window.seen === 'onetwo|'")
    told = page.evaluate("window.told")
    assert (told["status"], told["request"]) == (200, "r1")
    assert len(told["id"]) == 36
    (asked,) = upstream.requests  # and no preflight among them
    assert (asked.method, asked.body) == (b"POST", b'{"stream": true}')
    assert asked.all("authorization") == [f"Bearer {KEY}".encode()]
    assert asked.one("origin") == place.allowed.encode()
    page.close()


def test_it_reads_our_own_errors(place: Place, upstream: Upstream) -> None:
    page = place.at(place.allowed)
    options = {"method": "POST", "headers": {"authorization": "Bearer unused"}, "body": "{}"}
    found = page.evaluate(ASK, [f"{place.url}/v1/x", options])
    assert (found["kind"], found["status"]) == ("cors", 404)
    assert json.loads(found["text"])["error"]["type"] == "wiretape_doubled_segment"
    page.close()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "POST", "headers": {"content-type": "application/json"}, "body": "{}"},  # after a preflight
        {"method": "POST", "headers": {"content-type": "text/plain"}, "body": "{}"},  # without
        {"method": "POST", "mode": "no-cors", "body": "{}"},
        {"method": "GET"},
        {"method": "GET", "mode": "no-cors"},  # as a picture or a script, without an Origin
    ],
)
def test_a_page_of_another_origin_gets_nowhere(place: Place, upstream: Upstream, options: dict[str, object]) -> None:
    page = place.at(place.other)
    found = page.evaluate(ASK, [f"{place.url}/models", options])
    assert found["kind"] in {"TypeError", "opaque"}
    assert upstream.requests == []
    page.close()


def test_nor_by_a_websocket_or_an_embedded_picture(place: Place, upstream: Upstream) -> None:
    page = place.at(place.other)
    assert page.evaluate(TALK, f"{place.url.replace('http', 'ws', 1)}/realtime") == "error"
    assert page.evaluate(SHOW, f"{place.url}/picture") == "error"
    assert upstream.requests == []
    page.close()


def test_nor_by_a_name_that_leads_here(place: Place, upstream: Upstream) -> None:
    """DNS rebinding: for the browser such a page and the data port are one."""
    page = place.browser.new_page()
    address = f"http://{REBOUND}:{place.wiretape.port}/openai/v1/models"
    answer = page.goto(address)
    assert answer is not None
    assert (answer.status, answer.json()["error"]["type"]) == (403, "wiretape_host_refused")
    for options in ({"method": "GET"}, {"method": "POST", "body": "{}"}):
        found = page.evaluate(ASK, [address, options])
        assert (found["kind"], found["status"]) == ("basic", 403)
    assert upstream.requests == []
    page.close()
