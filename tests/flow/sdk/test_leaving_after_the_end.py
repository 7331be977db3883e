"""The OpenAI SDK closes the connection at [DONE], before the response ends: it had all it asked for."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.support.rawhttp import Ended, Peer, RawUpstream, TooLate
from tests.support.running import PATIENCE, Running, serving

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1-2025-04-14"}
EVENTS: list[dict[str, Any]] = [
    {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "No."}, "finish_reason": None}]},
    {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {**CHUNK, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}},
]


def never_ends(peer: Peer) -> None:
    """Every event and [DONE], but no end of the response."""
    peer.read_message()
    data = [*(json.dumps(event) for event in EVENTS), "[DONE]"]
    body = "".join(f"data: {each}\n\n" for each in data).encode()
    peer.send(HEAD, b"%x\r\n%b\r\n" % (len(body), body))
    try:
        peer.read_to_end()
    except (Ended, TooLate):
        return


def row(wiretape: Running) -> dict[str, Any]:
    with closing(sqlite3.connect(f"file:{wiretape.home / 'wiretape.db'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        (found,) = connection.execute("SELECT * FROM exchange_list").fetchall()
        return dict(found)


def test_a_client_that_leaves_after_the_terminal_event_completed(tmp_path: Path) -> None:
    with RawUpstream(never_ends, deadline=PATIENCE) as upstream:
        config = f"[upstreams.up]\nurl = '{upstream.url}'\ndialect = 'openai'"
        with serving(tmp_path, config=config) as wiretape:
            client = OpenAI(base_url=f"{wiretape.base_url('up')}/v1", api_key="k", max_retries=0)
            with client:
                stream = client.chat.completions.create(
                    model="gpt-4.1",
                    messages=[{"role": "user", "content": "a joke"}],
                    stream=True,
                    stream_options={"include_usage": True},
                )
                said = "".join(each.choices[0].delta.content or "" for each in stream if each.choices)
                stream.close()
            assert said == "No."
            wiretape.wait_stored(1)
            found = row(wiretape)
    assert (found["wire_end"], found["outcome"], found["terminated"]) == ("client_left", "completed", 1)
    assert (found["input_tokens"], found["output_tokens"], found["failed"]) == (9, 2, 0)
