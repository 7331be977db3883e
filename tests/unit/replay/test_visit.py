"""A visit: whatever happens to its recording, the client is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.replay.answer import Answer, Head
from proxy.replay.library import Miss
from proxy.replay.said import Reply
from proxy.replay.visit import MAX_BODY, Visit
from proxy.store.errors import DatabaseAway
from proxy.wire.interface import ClientRequest, RawHeaders
from tests.unit.replay.clients import Client

WHOLE = Answer((Head(1, 200, "OK", []),), ((2, b"said"),), (), broken=False, end_us=3)


@dataclass
class Chosen:
    found: Answer | Exception | None

    async def answer(self) -> Answer | None:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@dataclass
class Host:
    """Who is visited: every request is answered by the same."""

    found: Answer | Miss | Exception | None = WHOLE
    speed: float | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def choose(self, asked: ClientRequest, body: bytes) -> Chosen | Miss:
        if isinstance(self.found, LookupError):
            raise self.found
        return self.found if isinstance(self.found, Miss) else Chosen(self.found)

    async def control(self, asked: ClientRequest, body: bytes) -> Reply:
        return Reply(200, b"{}")

    def over(self, visit: Visit) -> None:
        self.left.set()


def told(host: Host, headers: RawHeaders | None = None) -> list[tuple[str, Any]]:
    client = Client(headers=headers)

    async def visit() -> None:
        Visit(host, client).begin()
        await asyncio.wait_for(host.left.wait(), 30)

    asyncio.run(visit())
    return client.told


def test_a_recording_is_played() -> None:
    assert [what for what, _ in told(Host())] == ["start", "write", "end"]


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Miss("POST /x"), 404),
        (None, 404),
        (DatabaseAway("it is away"), 503),
        (ValueError("a fault of ours"), 500),
        (LookupError("a fault of ours"), 500),
    ],
)
def test_what_is_not_played_is_told(found: Miss | Exception | None, status: int) -> None:
    (what, (said, *_)), *rest = told(Host(found))
    assert (what, said) == ("start", status)
    assert [each for each, _ in rest] == ["write", "end"]
    assert b"fault of ours" not in rest[0][1]


@pytest.mark.parametrize("name", [b"Origin", b"sec-fetch-site"])
def test_a_page_is_not_answered(name: bytes) -> None:
    (what, (said, *_)), *_ = told(Host(), [(name, b"x")])
    assert (what, said) == ("start", 403)


def test_a_request_without_an_end_is_refused_once() -> None:
    host, client = Host(), Client()

    async def visit() -> None:
        here = Visit(host, client)
        here.on_body(bytes(MAX_BODY))
        assert client.told == []
        here.on_body(b"x")
        here.on_body(b"x")
        here.on_request_end([])

    asyncio.run(visit())
    assert [what for what, _ in client.told] == ["start", "write", "end"]
    assert client.told[0][1][0] == 413
