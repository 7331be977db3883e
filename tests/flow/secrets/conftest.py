"""A day in the life of a wiretape that is given credentials in every place, and all that it left behind."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from anthropic import Anthropic, omit
from google import genai
from google.genai.types import HttpOptions
from openai import OpenAI

from tests.flow.sdk.provider import Provider
from tests.flow.secrets.leaky import Leaky
from tests.flow.secrets.marks import Mark, Mint
from tests.flow.secrets.places import NAMED_HEADER, NAMED_QUERY, Asked, everywhere, turned_away
from tests.support.here import run_here
from tests.support.rawhttp import Ended, connect
from tests.support.running import Running, files_of, serving


class Evidence(NamedTuple):
    """What is left: every file of the home at four times, what all roles and commands printed.

    `asked` are the requests that were made by hand, `accepted` is how many exchanges there were in all. `by_sdk` are
    the keys that the SDKs were given, by the session of their request.
    """

    marks: list[Mark]
    leaky: Leaky
    home: Path
    snapshots: dict[str, Path]
    printed: dict[str, bytes]
    asked: list[Asked]
    accepted: int
    by_sdk: dict[str, str]
    answers: dict[str, bytes]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    folder, mint = tmp_path_factory.mktemp("secrets"), Mint(20261123)
    config = (
        f"[record]\nredact_headers = ['{NAMED_HEADER}']\nredact_query = ['{NAMED_QUERY}']\n"
        "[forward]\nmax_request_body = '64KiB'\n"
    )
    with Leaky(mint) as leaky, Provider() as provider, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        urls = {"leaky": leaky.url, "sdk": provider.url, "dead": f"http://127.0.0.1:{dead.getsockname()[1]}"}
        flags = [word for name, url in urls.items() for word in ("--upstream", f"{name}={url}")]
        with serving(folder, *flags, config=config) as wiretape:
            yield _live(_Day(folder, wiretape, mint, leaky))


class _Day:
    def __init__(self, folder: Path, wiretape: Running, mint: Mint, leaky: Leaky) -> None:
        self.folder = folder
        self.wiretape = wiretape
        self.mint = mint
        self.leaky = leaky
        self.port = int(wiretape.url.rpartition(":")[2])
        self.snapshots: dict[str, Path] = {}
        self.answers: dict[str, bytes] = {}
        self.accepted = 0

    def snapshot(self, name: str) -> None:
        self.snapshots[name] = self.folder / f"home {name}"
        for path, data in files_of(self.wiretape.home).items():
            copy = self.snapshots[name] / path.relative_to(self.wiretape.home)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)

    def ask(self, asked: Asked) -> bytes:
        """The whole answer, as far as it came."""
        with connect(self.port) as client:
            try:
                client.send(asked.wire())
                client.read_message()
            except Ended:
                pass  # it was refused before all of it was sent, or its answer was broken
            self.accepted += asked.recorded
            return bytes(client.received)


def _live(day: _Day) -> Evidence:
    wiretape, mint = day.wiretape, day.mint
    asked = [*everywhere(mint), *turned_away(mint)]
    with _stopped(wiretape, "ingest"):
        for each in [*asked, *_failing(mint)]:
            day.answers.setdefault(each.place, day.ask(each))
        _read_cut_keys(day)
        by_sdk = _by_sdks(day)
        with connect(day.port) as client:
            slow = Asked("a stream that forward's death ends", "/leaky/slow", _bearer(mint))
            client.send(slow.wire()).read_until(day.leaky.said[0].encode())
            day.accepted += 1
            day.snapshot("while a stream runs")
            killed = wiretape.kill("forward")
            client.read_to_end()
        wiretape.successor("forward", killed)
        day.ask(Asked("after the death", "/leaky/v1", _bearer(mint)))
        day.snapshot("after forward's death")
    wiretape.wait_stored(day.accepted)
    day.snapshot("when all is stored")
    printed = _printed(day)
    assert wiretape.stop() == 0
    day.snapshot("after the end")
    printed |= {"log": wiretape.log.encode(), "output": wiretape.output.encode()}
    home = day.snapshots["after the end"]
    return Evidence(mint.marks, day.leaky, home, day.snapshots, printed, asked, day.accepted, by_sdk, day.answers)


@contextmanager
def _stopped(wiretape: Running, role: str) -> Iterator[None]:
    """Without one of the roles: journals stay while ingest cannot store them."""
    wiretape.kill(role, signal.SIGSTOP)
    try:
        yield
    finally:
        wiretape.kill(role, signal.SIGCONT)


def _bearer(mint: Mint) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {mint.shaped('openai')}"),)


def _failing(mint: Mint) -> Iterator[Asked]:
    """Exchanges that end badly."""
    query = f"?key={mint.plain('query')}"
    yield Asked(
        "unreachable", f"/dead/v1/{mint.shaped('openai')}{query}", _bearer(mint), mint.shaped("gemini").encode()
    )
    for what in ("cookie", "status", "length", "chunk", "body"):
        yield Asked(f"broken {what}", f"/leaky/broken/{what}", _bearer(mint), mint.shaped("gemini").encode())


def _read_cut_keys(day: _Day) -> None:
    """A stream whose keys come in pieces, each read before the next is sent."""
    with connect(day.port) as client:
        client.send(Asked("keys in pieces", "/leaky/cut").wire()).read_head()
        day.accepted += 1
        for _ in range(3 * len(day.leaky.cut)):
            day.leaky.next.release()
            client.read_some()
        while b"\r\n0\r\n\r\n" not in client.received:
            client.read_some()
        day.answers["cut"] = bytes(client.received)


def _by_sdks(day: _Day) -> dict[str, str]:
    """Requests of the real SDKs; the key of each by the session that it names."""
    url, mint = day.wiretape.url, day.mint
    keys = {"openai": mint.shaped("openai"), "anthropic": mint.shaped("anthropic"), "gemini": mint.shaped("gemini")}
    keys["anthropic again"] = keys["anthropic"]
    said: list[Any] = [{"role": "user", "content": f"My keys are {mint.shaped('openai')}\n{mint.shaped('jwt')}"}]
    more = {"Cookie": f"session={mint.plain('cookie')}", "OpenAI-Organization": "org-kept"}
    with OpenAI(
        base_url=f"{url}/sdk/v1",
        api_key=keys["openai"],
        default_headers={**more, "x-wiretape-session": "openai"},
        default_query={"sig": mint.plain("query"), "api-version": "2026-11-23"},
        max_retries=0,
    ) as gpt:
        gpt.chat.completions.create(model="m", messages=said)
        leaky = gpt.with_options(base_url=f"{url}/leaky/v1")
        with leaky.chat.completions.create(model="m", messages=said, stream=True) as stream:
            heard = [chunk.choices[0].delta.content or "" for chunk in stream]
        day.answers["sdk stream"] = "".join(heard).encode()
    # Its versions of today send the key as a bearer, those before as x-api-key.
    elder: dict[str, Any] = {"Authorization": omit, "x-api-key": keys["anthropic again"]}
    for session, headers in (("anthropic", {}), ("anthropic again", elder)):
        headers = {**headers, "x-wiretape-session": session}
        with Anthropic(api_key=keys[session], base_url=f"{url}/sdk", default_headers=headers, max_retries=0) as claude:
            claude.messages.create(model="m", max_tokens=9, messages=said)
    options = HttpOptions(base_url=f"{url}/sdk", headers={"x-wiretape-session": "gemini"})
    with genai.Client(api_key=keys["gemini"], http_options=options) as google:
        google.models.generate_content(model="m", contents=f"My key is {mint.shaped('google oauth')}")
    day.accepted += 5
    return keys


def _printed(day: _Day) -> dict[str, bytes]:
    """What commands say of all this."""
    commands = [
        ("ls", "--limit", "500"),
        ("ls", "--limit", "500", "--format", "json"),
        ("show", "last"),
        ("show", "last", "--format", "json"),
        ("export", "jsonl"),
        ("doctor",),
    ]
    home = {"WIRETAPE_HOME": str(day.wiretape.home)}
    said = {}
    for words in commands:
        done = run_here(day.folder, *words, variables=home)
        assert done.code == 0, (words, done.err)
        said[" ".join(words)] = done.out + done.err.encode()
    return said
