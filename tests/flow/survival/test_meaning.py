"""Meaning follows within moments, and survives what ingest does not: it is written once, and bodies go with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawhttp import Ended, Peer, RawUpstream, TooLate
from tests.support.running import PATIENCE, Running, run_wiretape, serving, wait_for

BODY = json.dumps({"model": "gpt-4.1", "messages": [{"role": "user", "content": "a joke, please"}]}).encode()
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4.1-2025-04-14",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "No."}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    }
).encode()


def answer(peer: Peer) -> None:
    """An upstream that gives every request the same answer."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    try:
        while True:
            peer.read_message()
            peer.send(head % len(ANSWER), ANSWER)
    except (Ended, TooLate):
        return


@pytest.fixture
def wiretape(tmp_path: Path) -> Iterator[Running]:
    with RawUpstream(answer, deadline=PATIENCE) as upstream:
        config = f"[upstreams.up]\nurl = '{upstream.url}'\ndialect = 'openai'"
        with serving(tmp_path, config=config) as running:
            yield running


def query(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{home / 'wiretape.db'}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def ask(wiretape: Running, times: int = 1, **headers: str) -> None:
    for _ in range(times):
        url = f"{wiretape.base_url('up')}/v1/chat/completions"
        assert wiretape.client.post(url, content=BODY, headers=headers).content == ANSWER


def unread(home: Path) -> int:
    return int(query(home, "SELECT count(*) FROM exchanges WHERE interpreter IS NULL")[0][0])


def test_what_is_recorded_is_understood_while_it_goes_on(wiretape: Running) -> None:
    ask(wiretape)
    wait_for(
        lambda: query(wiretape.home, "SELECT 1 FROM exchanges WHERE interpreter > 0"), "the first to be understood"
    )
    wiretape.wait_stored(1)
    assert wiretape.metrics()["wiretape_exchanges_unread"] == 0
    ask(wiretape, 50)
    assert wiretape.stop() == 0
    assert (query(wiretape.home, "SELECT count(*) FROM exchanges"), unread(wiretape.home)) == ([(51,)], 0)
    assert query(wiretape.home, "SELECT count(*) FROM exchanges WHERE interpretation_error IS NOT NULL") == [(0,)]
    assert query(wiretape.home, "SELECT sum(exchanges), sum(errors) FROM spend_hours") == [(51, 0)]


def test_ingest_is_killed_again_and_again(wiretape: Running) -> None:
    for _ in range(3):
        ask(wiretape, 50, **{"x-wiretape-record": "meta"})
        killed = wiretape.kill("ingest")
        wiretape.successor("ingest", killed)
    wiretape.wait_stored(150)
    assert unread(wiretape.home) == 0
    assert query(wiretape.home, "SELECT count(*) FROM chunks") == [(0,)]
    assert query(wiretape.home, "SELECT count(*), count(DISTINCT exchange_id) FROM meanings") == [(150, 150)]
    assert query(wiretape.home, "SELECT sum(exchanges) FROM spend_keys") == [(150,)]
    errors = "SELECT interpretation_error FROM exchanges WHERE interpretation_error IS NOT NULL"
    assert query(wiretape.home, errors) == []


def test_history_is_read_again_beside_a_running_ingest(wiretape: Running, tmp_path: Path) -> None:
    ask(wiretape, 20)
    wiretape.wait_stored(20)
    before = query(wiretape.home, "SELECT * FROM spend_hours")
    for command in ("reinterpret", "reprice"):
        ran = run_wiretape(tmp_path, command, "--since", "1d", "--home", str(wiretape.home))
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith("20 exchanges read, 0 changed")
    assert query(wiretape.home, "SELECT * FROM spend_hours") == before
    ask(wiretape, 5)
    wiretape.wait_stored(25)
    assert query(wiretape.home, "SELECT sum(exchanges) FROM spend_hours") == [(25,)]
