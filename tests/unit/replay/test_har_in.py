"""Archives that come in: what browsers leave out and add, whose a URL is, credentials, and whatever is no archive."""

from __future__ import annotations

import json
from contextlib import suppress
from io import BytesIO
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.exchange import Outcome, Side, WireEnd
from proxy.forward.redact import Redactor
from proxy.interpret.websocket import FrameParser
from proxy.mask import BodyMask
from proxy.presets import PRESETS, TEMPLATES
from proxy.replay import har_reader
from proxy.replay.har_entry import NOT_THERE, Bad, Guard, exchange
from proxy.replay.har_places import Known, Places
from proxy.replay.har_reader import BadArchive, entries
from proxy.replay.shelf import Shelved
from tests.support.browsers import EVENTS, KEY, archive, of_chrome, of_firefox

KNOWN = [Known(name, each.url, each.dialect) for name, each in PRESETS.items()]
KNOWN += [Known(name, *each[:2], template=True) for name, each in TEMPLATES.items()]
KNOWN += [Known("mine", "https://llm.corp:8443/gateway/openai", "openai"), Known("all", "https://llm.corp:8443", "")]
PLACES = Places(KNOWN)


def guard() -> Guard:
    return Guard(Redactor(b"key"), BodyMask)


def taken(entry: dict[str, Any]) -> Shelved:
    found = exchange(entry, msgspec.json.encode(entry), PLACES, guard())
    assert found is not None
    return found


def body(found: Shelved, side: Side = Side.RESPONSE) -> bytes:
    return b"".join(each.data for each in found.chunks if each.side == side)


def header(found: Shelved, name: str, side: Side = Side.RESPONSE) -> list[str]:
    (head,) = [each for each in found.heads if each.side == side]
    return [value for each, value in head.headers if each == name]


def test_a_stream_of_chrome() -> None:
    found = taken(of_chrome())
    row = found.row
    assert (row.upstream, row.dialect, row.method, row.status) == ("openai", "openai", "POST", 200)
    assert (row.target, row.http_version) == ("/openai/v1/chat/completions", "2")
    assert (row.wire_end, row.origin.name, row.started_us) == (WireEnd.UPSTREAM_END, "IMPORT", 1772366400123000)
    assert (row.request_sent_us, row.head_us, row.end_us) == (3000, 503_000, 812_500)
    assert body(found) == EVENTS.encode()
    assert header(found, "content-encoding") == header(found, "content-length") == []
    assert row.outcome is Outcome.COMPLETED
    assert row.unrecorded_bytes == 0


def test_no_credential_comes_in() -> None:
    assert all(secret in repr(of_chrome()) for secret in (KEY, "top-secret", "secret-one", "secret-two"))
    found = taken(of_chrome("https://user:secret-user@api.openai.com/v1/chat/completions?api_key=" + KEY))
    shown = repr(found)
    for secret in (KEY, "top-secret", "secret-one", "secret-two", "secret-user"):
        assert secret not in shown
    assert found.row.credential is not None
    assert header(found, "authorization", Side.REQUEST) == [f"Bearer redacted:{found.row.credential}"]
    assert len(header(found, "set-cookie")) == 2
    assert (found.row.masked, b'"user":"sk-pro**' in body(found, Side.REQUEST)) == (1, True)
    assert KEY not in repr(taken(of_firefox()))


@pytest.mark.parametrize("text", ["Grüße", "1 € = 2 \x81", "日本"])
def test_text_that_chromium_took_for_another_charset(text: str) -> None:
    octets = text.encode()
    shown = "".join(bytes((octet,)).decode("cp1252", "ignore") or chr(octet) for octet in octets)
    assert body(taken(of_chrome(content={"size": len(octets), "text": shown}))) == octets
    assert body(taken(of_chrome(content={"size": len(octets), "text": text}))) == octets
    assert body(taken(of_chrome(content={"size": 1, "text": text}))) == octets


def test_little_of_firefox() -> None:
    found = taken(of_firefox())
    assert (found.row.upstream, found.row.http_version, found.row.started_us) == ("gemini", "3", 1772366400500000)
    assert (body(found), found.row.end_us) == (b'{"models": []}', 80_000)


def test_an_id_stays_the_same_and_is_of_its_time() -> None:
    one, again, other = taken(of_chrome()).row.id, taken(of_chrome()).row.id, taken(of_chrome(statusText="x")).row.id
    assert one == again != other
    assert (one.version, one.int >> 80) == (7, 1772366400123)


@pytest.mark.parametrize(
    ("content", "size", "gap"),
    [
        ({"size": 70, "mimeType": "x"}, -1, 70),
        ({"size": 0, "mimeType": "x"}, 0, None),
        ({"size": -1}, 40, 40),
        ({}, -1, 300),  # what crossed the wire, heads and all, is all that is told
        ({"size": 0, "text": ""}, 20, None),
    ],
)
def test_a_body_that_is_missing(content: dict[str, Any], size: int, gap: int | None) -> None:
    found = taken(of_chrome(content=content, bodySize=size))
    assert body(found) == b""
    assert [each.bytes for each in found.gaps] == ([] if gap is None else [gap])
    assert found.row.unrecorded_bytes == found.row.response_bytes == (gap or 0)
    assert all((each.reason, each.side) == (NOT_THERE, Side.RESPONSE) for each in found.gaps)


@pytest.mark.parametrize(
    ("said", "end"), [("net::ERR_ABORTED", WireEnd.CLIENT_LEFT), ("net::ERR_FAILED", WireEnd.UPSTREAM_ERROR)]
)
def test_without_an_answer(said: str, end: WireEnd) -> None:
    found = taken(of_chrome(status=0, _error=said, content={"size": 0}, headers=[]))
    assert (found.row.wire_end, found.row.error, found.row.status) == (end, said, None)


def test_posted_parameters() -> None:
    entry = of_chrome()
    entry["request"]["postData"] = {
        "mimeType": "application/x-www-form-urlencoded",
        "params": [{"name": "a", "value": "b c"}, {"name": "d"}],
    }
    assert body(taken(entry), Side.REQUEST) == b"a=b+c&d="
    entry["request"].pop("postData")
    assert taken(entry).gaps[0][3:5] == (Side.REQUEST, 31)


def test_messages_of_a_websocket() -> None:
    entry = of_chrome("wss://api.openai.com/v1/realtime", status=101, content={"size": 0})
    began = 1772366400.123
    said = [("send", 1, "{}"), ("receive", 1, "x" * 200), ("receive", 2, "AAEC"), ("receive", 1, "y" * 70_000)]
    entry["_webSocketMessages"] = [
        {"type": way, "time": began + 1 + at, "opcode": code, "data": data} for at, (way, code, data) in enumerate(said)
    ]
    found = taken(entry)
    parser = FrameParser()
    messages = [each for chunk in found.chunks if chunk.side == 1 for each in parser.feed(chunk.data)]
    assert [(each.data[:4], each.binary) for each in messages] == [(b"xxxx", 0), (b"\0\1\2", 1), (b"yyyy", 0)]
    assert [each.at_us // 1_000_000 for each in found.chunks if each.side == 1] == [2, 3, 4]
    assert parser.problem is None


@pytest.mark.parametrize(
    ("url", "upstream", "target"),
    [
        ("https://API.openai.com:443/v1/x?y#z", "openai", "/openai/v1/x?y"),
        ("https://api.openai.com", "openai", "/openai"),
        ("http://api.openai.com/v1", None, None),
        ("https://api.openai.com.evil.example/v1", None, None),
        ("https://evil.example/?https://api.openai.com/", None, None),
        ("https://evil.example#@api.openai.com/v1", None, None),
        ("http://127.0.0.1:11434/api/chat", "ollama", "/ollama/api/chat"),
        ("https://me.openai.azure.com/openai/v1/x", "azure", "/azure/openai/v1/x"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/model/m", "bedrock", "/bedrock/model/m"),
        ("https://a.b.openai.azure.com/x", None, None),
        ("https://llm.corp:8443/gateway/openai/v1", "mine", "/mine/v1"),
        ("https://llm.corp:8443/gateway/openaix/v1", "all", "/all/gateway/openaix/v1"),
        ("https://llm.corp/gateway/openai/v1", None, None),
        ("data:text/plain,x", None, None),
        ("https://[::1/x", None, None),
    ],
)
def test_whose_a_url_is(url: str, upstream: str | None, target: str | None) -> None:
    found = PLACES.find(url)
    assert (upstream, target) == (None, None) if found is None else (found.upstream, found.target) == (upstream, target)


def test_everywhere() -> None:
    found = Places(KNOWN, everywhere=True).find("https://llm.example:1/v1/x?y")
    assert found == ("llm.example:1", "openai", "/llm.example:1/v1/x?y")
    assert Places(KNOWN, everywhere=True).find("blob:x") is None


# Cutting


class Slow(BytesIO):
    """A file of which each read brings so many bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._size)


def cut(data: bytes, size: int = 2**18) -> list[dict[str, Any]]:
    found = list(entries(Slow(data, size)))
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    assert all(json.loads(text) == entry for _, entry, text in found)
    return [entry for _, entry, _ in found]


TWO = [of_chrome(), of_firefox()]
WHOLE = json.dumps(archive(*TWO), indent=1, ensure_ascii=False).encode()


@given(st.integers(1, 400))
@example(1)
def test_any_cutting_gives_the_same_entries(size: int) -> None:
    assert cut(b"\xef\xbb\xbf" + WHOLE, size) == TWO


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["log", "entries"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("log"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.integers(1, 9), st.integers(0, 1))
def test_entries_are_found_where_they_are(noise: Any, size: int, indent: int) -> None:
    log = {"a": noise, "log": {"entries": noise}, "entries": [{"n": 1}, {"m": noise}], "z": noise}
    text = json.dumps({"entries": noise, "log": log}, indent=indent)
    with suppress(BadArchive):  # NaN
        assert repr(cut(text.encode(), size)) == repr([{"n": 1}, {"m": noise}])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "it has no log.entries"),
        (b"\x1f\x8b\x08\x00", "it has no log.entries"),
        (b"[]", "it has no log.entries"),
        (b'{"log":{"entries":{}}}', "it has no log.entries"),
        (b'{"log":' + b"[" * 5000, "it has no log.entries"),
        (b'{"log":{"entries":[', "cut off after entry 0"),
        (b'{"log":{"entries":[{},{"a":"', "cut off in entry 2"),
        (b'{"log":{"entries":[{},{a}]}}', "entry 2 is no JSON"),
        (b'{"log":{"entries":[[]]}}', "entry 1 is no object"),
        (b'{"log":{"entries":[%s%s]}}' % (b"[" * 9000, b"]" * 9000), "entry 1 is no JSON"),
    ],
)
def test_what_is_no_archive(text: bytes, says: str) -> None:
    with pytest.raises(BadArchive, match=says):
        cut(text)


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har_reader, "MAX_HEAD", 2**20)
    monkeypatch.setattr(har_reader, "LONGEST", 2**20)
    with pytest.raises(BadArchive, match="its entries do not begin"):
        cut(b'{"' + b"x" * 2**21)
    with pytest.raises(BadArchive, match="entry 1 has more than 1 MiB"):
        cut(b'{"log":{"entries":[{"' + b"x" * 2**21)


def test_half_a_surrogate_pair_is_no_fault() -> None:
    text = b'{"log":{"entries":[%s]}}' % json.dumps(of_chrome(content={"text": "a\ud83d"})).encode()
    ((_, entry, _),) = entries(BytesIO(text))
    assert body(taken(entry)) == b"a?"


@given(JSON, st.sampled_from(["request", "response", "timings", "_wiretape", "_webSocketMessages", "startedDateTime"]))
def test_any_part_of_an_entry_is_read_or_refused_in_one_way(noise: Any, name: str) -> None:
    entry = of_chrome()
    parts: list[dict[str, Any]] = [entry | {name: noise}]
    for inner in ("request", "response"):
        parts += [entry | {inner: entry[inner] | {each: noise}} for each in entry[inner]]
    own = {"id": "5", "request_chunks": noise, "response_chunks": [{"at_us": noise, "size": 1}]}
    lengths = [{"name": "content-length", "value": value} for value in ("9" * 5000, "-1", "\u0663")]
    parts += [entry | {"response": entry["response"] | {"headers": [each]}} for each in lengths]
    parts += [entry | {"_wiretape": own | {"response_coded": noise, "tags": [noise], "started_us": noise}}]
    for part in parts:
        with suppress(Bad):
            exchange(part, b"", Places(KNOWN, everywhere=True), guard())


def test_a_file_is_read_as_it_is_asked_for() -> None:
    source = BytesIO(WHOLE)
    assert next(entries(source))[0] == 1
