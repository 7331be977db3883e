"""Which reader a response gets, by what it is rather than by what its headers say."""

from __future__ import annotations

import tracemalloc

import pytest

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Recording
from tests.unit.interpret.reading import read

CHAT = "/v1/chat/completions"
EVENTS = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
BODY = b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1}}'
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "kind", ["text/event-stream", "text/event-stream;charset=UTF-8", "application/json", "", "a/b"]
)
@pytest.mark.parametrize("before", [b"", BOM, b": ping\n\n", b"retry: 5\n", b"id: 1\n"])
def test_events_are_events_whatever_the_content_type(kind: str, before: bytes) -> None:
    meaning = read(before + EVENTS, CHAT, kind)
    assert (meaning.text, meaning.events, meaning.complete, meaning.problem) == ("x", 2, True, None)


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", "", "text/event-stream"])
@pytest.mark.parametrize("before", [b"", BOM, b"\n\r\n  \n"])
def test_one_json_is_one_whatever_the_content_type(kind: str, before: bytes) -> None:
    meaning = read(before + BODY, CHAT, kind)
    assert (meaning.text, meaning.events, meaning.usage_state) == ("x", None, "complete")


def test_blanks_before_an_answer_are_not_gathered() -> None:
    """A server may send them as long as it likes; what comes then is read all the same."""
    blank = b"\n" * 65536

    def pieces(count: int) -> list[tuple[int, bytes]]:
        return [(0, blank)] * count + [(1, BODY[:1]), (2, BODY[1:])]

    recording = Recording("", "POST", CHAT, [], 200, [("content-type", "application/json")], [], pieces(2000), True)
    tracemalloc.start()
    try:
        meaning = interpret(recording)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meaning.text == "x"
    assert peak < 2**20


def test_a_stream_takes_the_memory_of_its_text() -> None:
    """Not that of its bytes, nor of its pieces."""
    event = b'data: {"choices":[{"delta":{"content":"abcdefg"}}],"padding":"%s"}\n\n' % (b"p" * 150)
    count = 15_000
    pieces = ((number, event) for number in range(count))
    recording = Recording("", "POST", CHAT, [], 200, [("content-type", "text/event-stream")], [], pieces, whole=True)
    tracemalloc.start()
    try:
        meaning = interpret(recording)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meaning.text == "abcdefg" * count
    assert peak < 4 * len(meaning.text) + 2**18  # of 3 MB


@pytest.mark.parametrize(("method", "state"), [("POST", "missing"), ("DELETE", "none"), ("GET", "none")])
def test_only_what_was_posted_can_have_cost(method: str, state: str) -> None:
    body = b'{"object": "chat.completion", "id": "c"}'
    assert read(body, "/gateway/thing", "application/json", method=method).usage_state == state


def test_a_stream_that_ends_in_an_event_says_so() -> None:
    meaning = read(EVENTS.removesuffix(b"data: [DONE]\n\n") + b'data: {"err', CHAT, whole=False)
    assert (meaning.text, meaning.complete, meaning.error) == ("x", False, None)
    assert meaning.problem == "the event stream ends in the midst of an event"


def test_what_is_in_no_language_we_know_means_nothing() -> None:
    meaning = read(b"<html>", "/v1/chat/completions", "text/html")
    assert (meaning.text, meaning.usage_state, meaning.events) == ("", "missing", None)
