"""What is sent again: the recorded head without what belonged to its connection, and keys from elsewhere only."""

from __future__ import annotations

from uuid import UUID

import pytest

from proxy.errors import UsageError, WiretapeError
from proxy.exchange import Outcome
from proxy.replay.edits import parse_edit
from proxy.replay.resend import Move, Original, Request, original, request
from proxy.store.engine import open_engine
from proxy.store.rows import Exchange
from tests.support.databases import PostgresDatabase, SqliteDatabase

ID = UUID("01920000-0000-7abc-8000-00000000000a")
HIDDEN = "redacted:0123456789abcdef"
TARGET = "/openai/v1/chat/completions"


def recorded(*headers: tuple[str, str], target: str = TARGET, body: bytes = b'{"model":"m"}') -> Original:
    exchange = Exchange(ID, None, 0, outcome=Outcome.COMPLETED, upstream="openai", method="POST", target=target)
    return Original(exchange, headers, body)


def made(again: Original, *changes: str, move: Move | None = None, model: str | None = None) -> Request:
    return request(again, lambda: "sk-new", move, model, [parse_edit(each) for each in changes])


def sent(again: Original) -> list[tuple[bytes, bytes]]:
    *headers, last = made(again).headers
    assert last == (b"x-wiretape-replay-of", str(ID).encode())
    return headers


def test_headers_in_order_as_recorded() -> None:
    headers = [("X-Two", "a"), ("x-one", "gr\xfc\xdfe"), ("X-Two", "b")]
    gone = [("Host", "h"), ("Content-Length", "13"), ("Connection", "close, X-Hop"), ("x-hop", "1"), ("TE", "trailers")]
    gone += [("X-Wiretape-Tags", "a=b"), ("x-wiretape-replay-of", str(UUID(int=1))), ("Expect", "100-continue")]
    kept = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    assert sent(recorded(*gone[:4], *headers, *gone[4:])) == kept


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Authorization", f"Bearer {HIDDEN}", b"Bearer sk-new"),
        ("authorization", f"bearer  {HIDDEN}", b"bearer  sk-new"),
        ("X-Api-Key", HIDDEN, b"sk-new"),
        ("api-key", HIDDEN, b"sk-new"),
        ("x-goog-api-key", HIDDEN, b"sk-new"),
    ],
)
def test_a_key_is_put_where_one_was(name: str, value: str, expected: bytes) -> None:
    assert sent(recorded((name, value))) == [(name.encode(), expected)]


@pytest.mark.parametrize("value", [f"Basic {HIDDEN}", f"AWS4-HMAC-SHA256 {HIDDEN}", f"Bearer {HIDDEN}, {HIDDEN}"])
def test_what_is_more_than_a_key_is_refused(value: str) -> None:
    with pytest.raises(WiretapeError, match="more than a key"):
        made(recorded(("Authorization", value)))


def test_a_key_goes_nowhere_else() -> None:
    again = recorded(("Cookie", HIDDEN), ("Helicone-Auth", f"Bearer {HIDDEN}"), ("Referer", f"http://h/?key={HIDDEN}"))
    assert sent(again) == []
    assert made(again).left_out == ("Cookie", "Helicone-Auth", "Referer")


def test_no_key_where_none_is_needed() -> None:
    again = recorded(("Authorization", f"Bearer {HIDDEN}"), ("A", "b"))
    assert [name for name, _ in request(again, lambda: None, None, None, ()).headers] == [b"A", b"x-wiretape-replay-of"]


def test_a_key_is_asked_for_only_where_one_was() -> None:
    def never() -> str:
        raise AssertionError

    request(recorded(("A", "b")), never, None, None, ())


def test_keys_in_the_query() -> None:
    again = recorded(target=f"/gemini/v1beta/models/g:generateContent?alt=sse&key={HIDDEN}")
    assert made(again).target == "/gemini/v1beta/models/g:generateContent?alt=sse&key=sk-new"
    with pytest.raises(WiretapeError, match="signed"):
        made(recorded(target=f"/x/y?X-Amz-Signature={HIDDEN}"))


@pytest.mark.parametrize(
    ("target", "moved"),
    [
        ("/openai/v1/x?a=/v1/b", "/groq/openai/v1/x?a=/v1/b"),
        ("/~a=b,c=d/openai/v1/x", "/~a=b,c=d/groq/openai/v1/x"),
        ("/openai/v2/x", "/groq/v2/x"),
        ("/openai", "/groq"),
        ("/openai?x=/openai", "/groq?x=/openai"),
    ],
)
def test_to_another_upstream(target: str, moved: str) -> None:
    assert made(recorded(target=target), move=Move("groq", "/openai/v1", "/v1")).target == moved


def test_another_model() -> None:
    assert made(recorded(), model="n").body == b'{"model":"n"}'
    in_path = recorded(target="/gemini/v1beta/models/g-1:streamGenerateContent?alt=sse", body=b"{}")
    asked = made(in_path, model="g-2")
    assert (asked.target, asked.body) == ("/gemini/v1beta/models/g-2:streamGenerateContent?alt=sse", b"{}")
    assert made(recorded(target="/bedrock/model/a:0/converse"), model="b:1").target == "/bedrock/model/b%3A1/converse"
    with pytest.raises(UsageError, match="names no model"):
        made(recorded(body=b"{}"), model="n")


def test_places_of_the_body() -> None:
    assert made(recorded(), "a=1", 'model="x"', model="n").body == b'{"model":"x","a":1}'
    with pytest.raises(UsageError, match="compressed"):
        made(recorded(("Content-Encoding", "gzip")), "a=1")


def test_no_body_is_none() -> None:
    assert made(recorded(body=b"")).body is None
    assert made(recorded(("content-length", "0"), body=b"")).body == b""


@pytest.mark.parametrize(
    ("name", "why"),
    [("bodiless", "not kept"), ("running", "still running"), ("hostile", None), ("lossy", "records of it were lost")],
)
def test_what_cannot_be_sent_again(
    database: SqliteDatabase | PostgresDatabase, ids: dict[str, UUID], name: str, why: str | None
) -> None:
    if name == "lossy":
        database.execute("UPDATE exchanges SET lost_records = 1 WHERE status = 404")
    engine = open_engine(database.url, create=False)
    try:
        if why is None:
            assert original(engine, str(ids[name])).body
            return
        with pytest.raises(WiretapeError, match=why):
            original(engine, str(ids[name]))
    finally:
        engine.dispose()


def test_a_body_that_is_not_all_there(database: SqliteDatabase | PostgresDatabase, ids: dict[str, UUID]) -> None:
    database.execute("DELETE FROM chunks WHERE seq = 2 AND side = 0")
    engine = open_engine(database.url, create=False)
    try:
        with pytest.raises(WiretapeError, match="not recorded whole"):
            original(engine, str(ids["stream"]))
    finally:
        engine.dispose()
