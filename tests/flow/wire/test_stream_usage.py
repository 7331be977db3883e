"""An upstream that is to tell the usage of its streams: what is counted, shown, and played of such an exchange."""

from __future__ import annotations

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Stage, chunk, request
from tests.support.here import run_here
from tests.support.streams import streams

BODY = b'{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
TYPE = b"Content-Type: application/json"
RECORDED = streams()["openai-chat-basic-usage"].body
USAGE = next(event + b"\n\n" for event in RECORDED.split(b"\n\n") if b'"choices":[]' in event)
HEARD = RECORDED.replace(USAGE, b"")


@pytest.mark.parametrize("size", [len(RECORDED), 50])
def test_what_is_counted_is_not_what_the_client_got(stage: Stage, size: int) -> None:
    pieces = [chunk(RECORDED[at : at + size]) for at in range(0, len(RECORDED), size)]
    upstream = Answering(STREAM + b"".join(pieces) + LAST_CHUNK)
    with stage.origin(upstream, kind="asked") as origin:
        assert stage.exchange(request(origin.at(b"/v1/chat/completions"), BODY, TYPE)).body == HEARD
        recorded = stage.only(origin)
    assert b'"stream_options": {"include_usage":true}' in upstream.requests[0].body
    assert (recorded.request, recorded.response) == (BODY, RECORDED)
    facts = recorded.facts
    assert (facts["input_tokens"], facts["output_tokens"], facts["usage_state"]) == (11, 5, "complete")
    assert [each["kind"] for each in recorded.changes] == ["usage_asked", "response_header_added", "usage_withheld"]
    shown = run_here(stage.wiretape.home.parent, "--home", str(stage.wiretape.home), "show", recorded.id).out.decode()
    assert f"at byte {len(HEARD) - len(b'data: [DONE]') - 2} {len(USAGE)} bytes taken out" in shown
    assert 'at byte 91 , "stream_options": {"include_usage":true} put in' in shown
    assert stage.played(recorded.id) == HEARD
