"""An upstream whose silent streams get comments: what its client gets, what is stored of it, and what an SDK reads."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import closing

import msgspec
import openai
import pytest

from proxy.exchange import Change, Side, as_passed
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Body, Origin, Recorded, Stage, chunk, request
from tests.support.here import run_here
from tests.support.rawhttp import DEADLINE, Peer, until
from tests.support.streams import streams

COMMENT = b": keep-alive\n\n"
BODY = b'{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
TYPE = b"Content-Type: application/json"
CHAT = b"/v1/chat/completions"
RECORDED = streams()["openai-chat-basic-usage"].body
USAGE = next(event + b"\n\n" for event in RECORDED.split(b"\n\n") if b'"choices":[]' in event)
CUT = RECORDED.index(b"\n\n", len(RECORDED) // 2) + 2
HALVES = RECORDED[:CUT], RECORDED[CUT:]


class Silent:
    """A script that sends its parts, and is silent before each but the first until it `may` go on."""

    def __init__(self, *parts: bytes) -> None:
        self.may = threading.Event()
        self._first, *self._rest = parts

    def __call__(self, peer: Peer) -> None:
        peer.read_message()
        peer.send(STREAM + chunk(self._first))
        for part in self._rest:
            assert self.may.wait(DEADLINE)
            peer.send(chunk(part))
        peer.send(LAST_CHUNK)


@pytest.mark.parametrize(("kind", "passed"), [("kept", RECORDED), ("kept-asked", RECORDED.replace(USAGE, b""))])
def test_a_client_that_waits_hears_of_it(stage: Stage, kind: str, passed: bytes) -> None:
    upstream, other = Silent(*HALVES), Silent(*HALVES)
    with (
        stage.origin(upstream, kind=kind) as origin,
        stage.origin(other) as plain,
        stage.client() as client,
        stage.client() as unheard,
    ):
        unheard.send(request(plain.at(CHAT), BODY, TYPE)).read_until(HALVES[0])
        unheard.read_until(b"\r\n")
        client.send(request(origin.at(CHAT), BODY, TYPE))
        body = Body(client, client.read_head()[1])
        assert body.until(len(HALVES[0]) + 2 * len(COMMENT)) == HALVES[0] + 2 * COMMENT
        assert not unheard.has_arrived()
        upstream.may.set()
        other.may.set()
        assert body.rest().replace(COMMENT, b"") == passed
        recorded = stage.only(origin)
        stage.only(plain)
    assert recorded.response == RECORDED
    _is_told(stage, recorded, bytes(body.data))
    facts = recorded.facts
    assert (facts["outcome"], facts["response_bytes"]) == ("completed", len(RECORDED))
    assert (facts["input_tokens"], facts["output_tokens"], facts["usage_state"]) == (11, 5, "complete")
    assert stage.played(recorded.id) == passed


def _is_told(stage: Stage, recorded: Recorded, got: bytes) -> None:
    """The records tell what the client got."""
    changes = [msgspec.convert(each, Change) for each in recorded.changes]
    assert b"".join(as_passed([recorded.response], changes, Side.RESPONSE)) == got
    comments = [each for each in changes if each.kind == "keep_alive"]
    assert len(comments) == got.count(COMMENT) >= 2
    assert {each.at for each in comments} == {CUT}
    shown = run_here(stage.wiretape.home.parent, "--home", str(stage.wiretape.home), "show", recorded.id).out.decode()
    assert f"at byte {CUT} : keep-alive" in shown


def test_an_sdk_reads_past_them(stage: Stage) -> None:
    upstream = Silent(*HALVES)
    with stage.origin(upstream, kind="kept") as origin, _sdk(stage, origin) as client:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        first = next(stream)
        until(lambda: _comments(stage, origin) > 0, "a comment")
        upstream.may.set()
        said = [each.choices[0].delta.content or "" for each in (first, *stream) if each.choices]
        recorded = stage.only(origin)
    assert "".join(said) == "".join(json.loads(each) for each in re.findall(rb'"content":("[^"]*")', RECORDED)) != ""
    assert recorded.response == RECORDED


def _sdk(stage: Stage, origin: Origin) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{stage.wiretape.url}/{origin.name}/v1", api_key="sk-test", max_retries=0, timeout=DEADLINE
    )


def _comments(stage: Stage, origin: Origin) -> int:
    """How many are stored already of the exchange that runs."""
    query = (
        "SELECT count(*) FROM changes c JOIN exchange_list e ON e.exchange_id = c.exchange_id"
        " WHERE e.upstream = ? AND e.started_us >= ? AND c.data LIKE '%keep_alive%'"
    )
    with closing(sqlite3.connect(f"file:{stage.wiretape.home / 'wiretape.db'}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query, (origin.name, origin.since_us)).fetchone()[0])
