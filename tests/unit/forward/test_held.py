"""A key that is held here: where it goes, what of the client's goes, and how that is recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Change
from proxy.forward.held import HeldKey
from proxy.forward.redact import Redactor
from proxy.wire.interface import RawHeaders

SECRET = b"held-0123456789"
REDACTOR = Redactor(b"k" * 32)
MARK = REDACTOR.fingerprint(SECRET).decode()
BEARER = HeldKey(b"authorization", b"Bearer ", SECRET)
ANTHROPIC = HeldKey(b"x-api-key", b"", SECRET)
GOOGLE = HeldKey(b"x-goog-api-key", b"", SECRET)
AZURE = HeldKey(b"api-key", b"", SECRET)
PLAIN: RawHeaders = [(b"Host", b"h"), (b"Content-Type", b"application/json")]


@pytest.mark.parametrize(
    ("key", "added"),
    [
        (BEARER, (b"authorization", b"Bearer " + SECRET)),
        (ANTHROPIC, (b"x-api-key", SECRET)),
        (GOOGLE, (b"x-goog-api-key", SECRET)),
        (AZURE, (b"api-key", SECRET)),
    ],
)
@pytest.mark.parametrize(
    "sent",
    [
        [],
        [(b"Authorization", b"Bearer unused")],
        [(b"AUTHORIZATION", b"Bearer sk-real-0123456789abcdef"), (b"X-Api-Key", b"other")],
        [(b"x-goog-api-key", b"one"), (b"x-goog-api-key", b"two"), (b"api-key", b"three")],
        [(b"Ocp-Apim-Subscription-Key", b"four")],
    ],
)
def test_it_takes_the_place_of_whatever_a_client_sent(
    key: HeldKey, added: tuple[bytes, bytes], sent: RawHeaders
) -> None:
    carried = key.put_on([*PLAIN, *sent], b"/v1/x?a=b", b"/o/v1/x?a=b", REDACTOR)
    assert carried.headers == [*PLAIN, added]
    assert carried.target == b"/v1/x?a=b"
    assert carried.credential == MARK
    scheme = "Bearer " if key is BEARER else ""
    names = sorted({name.lower().decode() for name, _ in sent})
    assert carried.change == Change(
        "request_header_added", [(added[0].decode(), f"{scheme}redacted:{MARK}")], removed=names
    )


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (b"?key=AIza", b""),
        (b"?alt=sse&key=AIza", b"?alt=sse"),
        (b"?key=AIza&alt=sse&key=", b"?alt=sse"),
        (b"?%6bey=AIza&alt=sse", b"?alt=sse"),
        (b"?KEY=AIza&pageToken=1", b"?pageToken=1"),
        (b"?access_token=ya29.x&a", b"?a"),
        (b"?monkey=1&a=key=2", b"?monkey=1&a=key=2"),
        (b"?", b"?"),
        (b"", b""),
    ],
)
def test_googles_query(query: bytes, left: bytes) -> None:
    carried = GOOGLE.put_on(PLAIN, b"/v1beta/x" + query, b"/gemini/v1beta/x" + query, REDACTOR)
    assert carried.target == b"/v1beta/x" + left
    assert carried.change.target == (None if query == left else f"/gemini/v1beta/x{left.decode()}")


@given(st.lists(st.sampled_from([b"key=a", b"k%65y=b", b"alt=sse", b"", b"=", b"KEY", b"key2=c"])))
def test_what_is_no_key_stays_as_it_is(items: list[bytes]) -> None:
    target = GOOGLE.put_on(PLAIN, b"/x?" + b"&".join(items), b"", REDACTOR).target
    left = [item for item in items if item not in (b"key=a", b"k%65y=b", b"KEY")]
    assert target.partition(b"?")[2] == b"&".join(left)


def test_only_the_query_of_that_provider() -> None:
    assert BEARER.put_on(PLAIN, b"/x?key=1&api-key=2", b"/o/x?key=1&api-key=2", REDACTOR).target.endswith(b"key=2")
    assert AZURE.put_on(PLAIN, b"/x?key=1&api-key=2", b"/a/x?key=1&api-key=2", REDACTOR).target == b"/x?key=1"


@pytest.mark.parametrize("path", [b"/v1beta/openai/chat/completions", b"/v1beta/openai"])
def test_googles_paths_that_are_like_openais(path: bytes) -> None:
    assert GOOGLE.put_on(PLAIN, path, path, REDACTOR).headers[-1] == (b"authorization", b"Bearer " + SECRET)


def test_a_path_does_not_change_the_place_of_others() -> None:
    assert GOOGLE.put_on(PLAIN, b"/v1beta/x?y=/openai/", b"", REDACTOR).headers[-1][0] == b"x-goog-api-key"
    assert AZURE.put_on(PLAIN, b"/openai/v1/x", b"", REDACTOR).headers[-1][0] == b"api-key"


def test_a_key_among_subprotocols() -> None:
    offered = (b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key.sk-client, openai-beta.realtime-v1")
    carried = BEARER.put_on([*PLAIN, offered], b"/v1/realtime", b"/o/v1/realtime", REDACTOR)
    assert carried.headers == [
        *PLAIN,
        (b"Sec-WebSocket-Protocol", b"realtime, openai-beta.realtime-v1"),
        (b"authorization", b"Bearer " + SECRET),
    ]
    assert carried.change.removed == ["sec-websocket-protocol"]
    assert carried.change.headers[0] == ("Sec-WebSocket-Protocol", "realtime, openai-beta.realtime-v1")
    alone = BEARER.put_on([(b"Sec-WebSocket-Protocol", b"openai-insecure-api-key.sk")], b"/", b"/", REDACTOR)
    assert [name for name, _ in alone.headers] == [b"authorization"]
    kept = (b"Sec-WebSocket-Protocol", b"realtime ,  v1")
    assert BEARER.put_on([kept], b"/", b"/", REDACTOR).headers[0] == kept


def test_it_is_never_shown() -> None:
    carried = GOOGLE.put_on(PLAIN, b"/x?key=a", b"/g/x?key=a", REDACTOR)
    assert SECRET.decode() not in repr(GOOGLE) + repr(carried.change) + repr(carried.credential)
