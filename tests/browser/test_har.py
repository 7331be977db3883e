"""Archives and a real browser: its developer tools read ours, pages are answered out of ours, and we read its.

Needs Debian's chromium. Nothing here reaches a network: pages are served by the test, or from this machine.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from proxy.__main__ import run
from proxy.exchange import WireEnd
from proxy.replay.answer import Head
from proxy.replay.cassette import Chunks, Track
from proxy.replay.shelf import put, shelved
from proxy.store.engine import open_engine
from proxy.store.migrate import upgrade
from tests.conftest import needs
from tests.support.here import run_here
from tests.support.rawhttp import Peer, RawUpstream

ORIGIN = "https://api.openai.com"
EVENTS = ["data: Grü".encode()[:9], "ü".encode()[1:] + "ße\n\n".encode(), b"data: [DONE]\n\n"]
MODELS = json.dumps({"data": ["modèle"] * 9}).encode()
SOUND = bytes(range(256))

ANSWERS: dict[str, tuple[str, bytes, list[tuple[str, str]], Chunks]] = {
    "/v1/chat/completions": (
        "POST",
        b"".join(EVENTS),
        [("content-type", "text/event-stream")],
        [(10 * at, data) for at, data in enumerate(EVENTS, 1)],
    ),
    "/v1/models": (
        "GET",
        MODELS,
        [("content-type", "application/json"), ("content-encoding", "gzip")],
        [(5, gzip.compress(MODELS, mtime=0))],
    ),
    "/v1/files/f/content": ("GET", SOUND, [("content-type", "audio/mpeg")], [(5, SOUND[:99]), (6, SOUND[99:])]),
}
"""Path -> method, body, headers, and the chunks that crossed the wire."""

FETCH = """async ([method, path, body]) => {
    const answer = await fetch(path, {method, body: method === "POST" ? body : undefined});
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return {status: answer.status, kind: answer.headers.get("content-type"), bytes: Array.from(bytes)};
}"""
POSTED = '{"model":"m"}'

READ = """async (archive) => {
    const {HARFormat, Importer} = await import("devtools://devtools/bundled/models/har/har.js");
    const read = Importer.Importer.requestsFromHARLog(new HARFormat.HARRoot(archive).log);
    return Promise.all(read.map(async (each) => {
        const content = await each.requestContentData();
        return {
            url: each.url(), method: each.requestMethod, status: each.statusCode, kind: each.mimeType,
            took: each.endTime - each.startTime, posted: (await each.requestFormData()) ?? null,
            text: content.isTextContent ? content.text : null, base64: content.isTextContent ? null : content.base64,
        };
    }));
}"""
"""What Chromium's developer tools make of an archive that is opened in their network panel: their own code for it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = needs("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `export har` wrote of ANSWERS."""
    home = tmp_path_factory.mktemp("home")
    engine = open_engine(f"sqlite:///{home / 'wiretape.db'}", create=True)
    upgrade(engine)
    tracks = []
    for number, (path, (method, _, headers, chunks)) in enumerate(ANSWERS.items(), 1):
        key = UUID(int=number)
        track = Track(key, "openai", "openai", method, f"/openai{path}", "1.1", 10**15, 40, WireEnd.UPSTREAM_END)
        track.headers = [("host", "127.0.0.1:8800")]
        track.request = [(1, POSTED.encode())] if method == "POST" else []
        track.heads = [Head(4, 200, "OK", headers)]
        track.response = chunks
        tracks.append(track)
    assert [len(each.added) for each in put(engine, map(shelved, tracks))] == [len(ANSWERS)]
    engine.dispose()
    file = home / "recorded.har"
    assert run(["--home", str(home), "export", "har", "--output", str(file)]) == 0
    return file


def test_developer_tools_read_it(page: Page, archive: Path) -> None:
    page.goto("devtools://devtools/bundled/devtools_app.html")
    read: list[dict[str, Any]] = page.evaluate(READ, json.loads(archive.read_bytes()))
    assert [each["url"] for each in read] == [f"{ORIGIN}{path}" for path in ANSWERS]
    for found, (method, body, headers, _) in zip(read, ANSWERS.values(), strict=True):
        came = base64.b64decode(found["base64"]) if found["text"] is None else found["text"].encode()
        assert (found["method"], found["status"], came) == (method, 200, body)
        assert found["kind"] == headers[0][1]
        assert found["posted"] == (POSTED if method == "POST" else None)
        assert found["took"] == pytest.approx(0.00004, abs=1e-5)


@pytest.mark.parametrize("path", ANSWERS)
def test_a_page_is_answered_out_of_it(page: Page, archive: Path, path: str) -> None:
    page.route_from_har(archive, not_found="abort")
    page.route(f"{ORIGIN}/page", lambda route: route.fulfill(content_type="text/html", body="<p>"))
    page.goto(f"{ORIGIN}/page")
    method, body, headers, _ = ANSWERS[path]
    found = page.evaluate(FETCH, [method, path, POSTED])
    assert (found["status"], found["kind"], bytes(found["bytes"])) == (200, headers[0][1], body)


def test_what_a_page_asked_comes_in(browser: Browser, tmp_path: Path) -> None:
    def answer(peer: Peer) -> None:
        asked = peer.read_message()
        stream = b"POST" in asked.start
        body, kind = (b"".join(EVENTS), b"text/event-stream") if stream else (b"<p>", b"text/html")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        peer.send(head % (kind, len(body)) + body)

    file = tmp_path / "browser.har"
    with RawUpstream(answer) as origin:
        with browser.new_context(record_har_path=file) as context:
            asking = context.new_page()
            asking.goto(f"{origin.url}/page")
            found = asking.evaluate(FETCH, ["POST", "/v1/chat/completions", POSTED])
        assert bytes(found["bytes"]) == b"".join(EVENTS)
        given = ("--home", str(tmp_path / "home"))
        ran = run_here(tmp_path, "import", "har", str(file), *given, "--upstream", f"mine={origin.url}")
    assert (ran.code, b"imported" in ran.out) == (0, True), ran.err
    shown = json.loads(run_here(tmp_path, "ls", *given, "--model", "m", "--format", "json").out)
    assert [(each["upstream"], each["target"], each["status"]) for each in shown] == [
        ("mine", "/mine/v1/chat/completions", 200)
    ]
    assert run_here(tmp_path, "replay", shown[0]["id"], "--speed", "instant", *given).out == b"".join(EVENTS)
