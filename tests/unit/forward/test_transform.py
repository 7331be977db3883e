"""What is looked for in bodies: requests that may ask for more, and the events that come of it, however a stream is
cut."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.forward import transform
from proxy.forward.transform import LONGEST_EVENT, UsageSieve
from tests.support.streams import names, streams

ASKED = b'"stream_options":{"include_usage":true}'


def asked(body: bytes) -> bytes:
    found = transform.ask(body)
    return body if found is None else transform.spliced(body, found)


@pytest.mark.parametrize(
    ("body", "becomes"),
    [
        (b'{"stream":true}', b'{"stream":true,%b}' % ASKED),
        (
            b' {\n "stream" : true ,\n "n": 1.0e0 \n}\r\n',
            b' {\n "stream" : true ,\n "n": 1.0e0, "stream_options": X \n}\r\n',
        ),
        ('{"stream":true,"user":"ü\\u00fc😀"}'.encode(), '{"stream":true,"user":"ü\\u00fc😀",Y}'.encode()),
        (b'{"stream":true,"user":"\xff"}', b'{"stream":true,"user":"\xff",Y}'),
        (b'{"stream":true,"stream_options":null}', b'{"stream":true,Y}'),
        (b'{"stream_options":{},"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            '{"a":"ü","stream":true,"stream_options":{"include_obfuscation": false}}'.encode(),
            '{"a":"ü","stream":true,"stream_options":{"include_obfuscation": false, "include_usage": true}}'.encode(),
        ),
        (
            b'{"stream":true,"stream_options":{"include_usage":null}}',
            b'{"stream":true,"stream_options":{"include_usage":true}}',
        ),
    ],
)
def test_what_is_made_to_ask(body: bytes, becomes: bytes) -> None:
    becomes = becomes.replace(b"X", b'{"include_usage":true}').replace(b"Y", ASKED)
    assert asked(body) == becomes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"[true]",
        b"{}",
        b'{"stream":false}',
        b'{"stream":null}',
        b'{"stream":1}',
        b'{"stream":"true"}',
        b'{"a":{"stream":true}}',
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream":true,"stream_options":[]}',
        b'{"stream":true,"stream_options":"x"}',
        b'{"stream":true,"stream":true}',
        b'{"stream":false,"stream":true}',
        b'{"stream":true,"\\u0073tream":true}',
        b'{"stream":true,"stream_options":{},"stream_options":{}}',
        b'{"stream":true,"stream_options":{"a":1,"a":2}}',
        b'{"stream":true,"stream_options":{"a":"\xff"}}',
        b'{"stream":true,"a":"\\x"}',
        b'{"stream":true,}',
        b'{"stream":true}{"stream":true}',
        b'{"stream":true,"a":NaN}',
        b'\xef\xbb\xbf{"stream":true}',
        b'{"stream":true,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"stream":true,"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_left_alone(body: bytes) -> None:
    assert transform.ask(body) is None


SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), SOME_JSON, max_size=4),
    st.none() | st.dictionaries(st.sampled_from(["include_obfuscation", "x"]), SOME_JSON),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_the_request_means_the_same_but_for_the_field(
    more: dict[str, object], options: dict[str, object] | None, ascii_only: bool, indent: int | None
) -> None:
    plain = {**more, "stream": True, "stream_options": options}
    if options is None:
        del plain["stream_options"]
    body = json.dumps(plain, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    found = transform.ask(body)
    if found is None:
        assert b"\xed" in body or not isinstance(plain.get("stream_options", {}), dict)
        return
    wanted = {**plain, "stream_options": {**(options or {}), "include_usage": True}}
    assert json.loads(transform.spliced(body, found).decode("utf-8", "surrogatepass")) == wanted
    assert found.taken == 0


@given(st.binary(max_size=60))
def test_any_bytes_are_looked_at(body: bytes) -> None:
    transform.ask(body)
    transform.ask(b'{"stream":true,' + body)


@pytest.mark.parametrize(
    ("error", "body", "meant"),
    [
        (b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}', b"{}", True),
        (b'{"detail":[{"loc":["body","stream_options","include_usage"]}]}', b"{}", True),
        (b'{"error":{"message":"max_tokens is too large"}}', b"{}", False),
        (b'{"error":"stream_options: include_obfuscation is unknown"}', b'{"stream_options":{"a":1}}', False),
        (b'{"error":"include_usage is unknown"}', b'{"stream_options":{"a":1}}', True),
        (b"stream_options \xff", b"{}", False),
    ],
)
def test_whose_fault_an_error_is(error: bytes, body: bytes, meant: bool) -> None:
    assert transform.complains(error, body) is meant


def chunk(choices: object, usage: object = ..., **more: object) -> bytes:
    said = {"id": "c", "choices": choices} | ({} if usage is ... else {"usage": usage}) | more
    return json.dumps(said, separators=(",", ":")).encode()


WORD = [{"index": 0, "delta": {"content": 'so "choices":[] and "usage":{}'}}]
USAGE = chunk([], {"prompt_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 0}})
PASSING = [
    b"data: " + chunk(WORD, None),
    b"data: " + chunk(WORD),
    b"data:" + chunk([], None),
    b"data: " + chunk([], prompt_filter_results=[]),  # Azure's first
    b"data: " + chunk([{"delta": {}, "finish_reason": "stop"}], {"prompt_tokens": 3}),
    b"data: [DONE]",
    b": keep-alive",
    b":",
    b"event: error\ndata: {}",
    b"id: 1",
    b"data",
    b"data: {",
    b"data: \xff",
    b'data: {"choices":[],"usage":',
    b"retry: 1\nx",
    b'data: {"choices" : [ {} ],"usage":{}}',
]
WITHHELD = [
    b"data: " + USAGE,
    b"data:" + USAGE,
    b"data: " + chunk([], {}, service_tier="default", obfuscation="x"),
    b'data: {"usage": {"prompt_tokens": 1},\ndata:  "choices" : [ ] }',
    b"event: x\nid: 2\ndata: " + USAGE,
    b"data: " + USAGE + b"\n: comment",
]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    begins = [0, *ends]
    return [data[begin:end] for begin, end in zip(begins, ends, strict=False) if end > begin]


def sieved(pieces: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    sieve = UsageSieve()
    out = b"".join([sieve.feed(piece) for piece in pieces])
    return out + sieve.finish(), sieve.withheld


def without(data: bytes, withheld: list[tuple[int, int]]) -> bytes:
    for at, size in reversed(withheld):
        data = data[:at] + data[at + size :]
    return data


@given(
    st.lists(st.sampled_from([*((each, True) for each in PASSING), *((each, False) for each in WITHHELD)]), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 4000), max_size=12),
    st.booleans(),
)
def test_any_cutting_gives_the_same(
    events: list[tuple[bytes, bool]], end: bytes, places: list[int], ended: bool
) -> None:
    blocks = [(re.sub(rb"\n", lambda _: end, event) + end + end, passes) for event, passes in events]
    if blocks and not ended:
        blocks[-1] = (blocks[-1][0][: -len(end)], blocks[-1][1])
    came = b"".join(block for block, _ in blocks)
    wanted = b"".join(block for block, passes in blocks if passes)
    out, withheld = sieved(cut(came, places))
    assert out == wanted
    assert without(came, withheld) == wanted


STREAM_BYTES = st.lists(
    st.sampled_from([b"data:", b" ", b"\n", b"\r", b"\r\n", b":", b"{", b"}", b'"choices":[]', b'"choices":[{}]', b",",
                     b'"usage":{}', b'{"choices":[],"usage":{}}', b"event: x", b"\xff", b'"']),
    max_size=24,
).map(b"".join)  # fmt: skip


@given(STREAM_BYTES, st.lists(st.integers(0, 200), max_size=10))
@example(b'data:{"choices":[],"usage":{}}\r\r\n', [32])
@example(b'data:{"choices":[],"usage":{}}\r\n\r\ndata:', [34])
def test_any_cutting_of_anything_gives_the_same(came: bytes, places: list[int]) -> None:
    whole, withheld = sieved([came] if came else [])
    assert without(came, withheld) == whole
    for pieces in (cut(came, places), [came[place : place + 1] for place in range(len(came))]):
        out, again = sieved(pieces)
        assert out == whole
        assert without(came, again) == whole


@pytest.mark.parametrize("name", [name for name in names() if name.startswith(("openai-chat", "vllm", "llamacpp-t"))])
def test_recorded_streams(name: str) -> None:
    came = streams()[name].body
    if came[:2] == b"\x1f\x8b":
        came = gzip.decompress(came)
    events = re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", came)
    wanted = b"".join(
        event for event in events if not re.search(rb'"choices": ?\[\]', event) or b'"usage":' not in event
    )
    assert sieved(cut(came, list(range(0, len(came), 11)))) == (wanted, sieved([came])[1])


def test_nothing_is_held_that_is_known_to_pass() -> None:
    sieve = UsageSieve()
    head = b'data: {"id":"c","choices":[{"delta":{"content":"a'
    assert sieve.feed(head) == head
    assert sieve.feed(b'b","usage":{}') == b'b","usage":{}'
    assert sieve.feed(b"}}]}\n") == b"}}]}\n"
    assert sieve.feed(b"\n: ping") == b"\n: ping"
    assert sieve.feed(b"\n\ndata: [") == b"\n\ndata: ["
    assert sieve.feed(b"DONE]\n\n") == b"DONE]\n\n"
    assert sieve.feed(b'data: {"choices":[') == b""
    assert sieve.feed(b"{") == b'data: {"choices":[{'
    assert not sieve.withheld


def test_an_event_that_is_too_long_passes_while_it_comes() -> None:
    sieve = UsageSieve()
    begin = b'data: {"choices":[],"usage":{"a":"'
    assert sieve.feed(begin) == b""
    long = b"x" * LONGEST_EVENT
    assert sieve.feed(long) == begin + long
    assert sieve.feed(b'"}}\n\n') == b'"}}\n\n'
    assert sieved([begin + long + b'"}}\n\n']) == (begin + long + b'"}}\n\n', [])
