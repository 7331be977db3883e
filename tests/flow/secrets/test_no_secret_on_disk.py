"""No credential that was given to wiretape is left anywhere: not in a file, not in a log, not in what it prints."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.flow.secrets.conftest import Evidence
from tests.flow.secrets.marks import SHAPES, Mint, leaks

WAITING = ("while a stream runs", "after forward's death")
STORED = ("when all is stored", "after the end")


@pytest.mark.parametrize("name", [*WAITING, *STORED])
def test_no_file_of_the_home_holds_one(evidence: Evidence, name: str) -> None:
    files = {path: path.read_bytes() for path in evidence.snapshots[name].rglob("*") if path.is_file()}
    places = [path for path in files if path.name.startswith("wiretape.db") or path.suffix == ".journal"]
    looked_at = [path for path in places if (path.suffix == ".journal") == (name in WAITING)]
    assert any(b"/leaky/v1/models/m:generate?" in files[path] for path in looked_at), "what was asked is there"
    assert {path.name: leaks(data, evidence.marks) for path, data in files.items()} == {path.name: [] for path in files}


def test_no_role_and_no_command_prints_one(evidence: Evidence) -> None:
    assert all(evidence.printed[each] for each in evidence.printed)
    assert {name: leaks(said, evidence.marks) for name, said in evidence.printed.items()} == {
        name: [] for name in evidence.printed
    }


def test_what_is_forwarded_has_them_all(evidence: Evidence) -> None:
    heard = evidence.leaky.heard
    for asked in evidence.asked:
        if asked.recorded:
            target = asked.target.partition("/leaky")[2]
            assert b"POST " + target.encode() + b" " in heard, asked.place
            assert asked.body in heard
            for name, value in asked.headers:
                assert name.lower().startswith("x-wiretape-") or f"{name}: {value}\r\n".encode() in heard, asked.place


def test_clients_get_the_answers_with_all_that_is_in_them(evidence: Evidence) -> None:
    assert all(key.encode() in evidence.answers["sdk stream"] for key in evidence.leaky.said)
    came = b"".join(re.findall(rb"\r\n[0-9a-f]+\r\n(.*?)(?=\r\n)", evidence.answers["cut"], re.DOTALL))
    assert all(key.encode() in came for key in evidence.leaky.cut)
    plain = evidence.answers["cookie"]
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n")
    assert plain.lower().count(b"set-cookie: ") == 2
    assert b"&x-amz-signature=" in plain.lower()


def test_everything_else_is_recorded(evidence: Evidence) -> None:
    """Redacting is no excuse for losing: each exchange is there, with its outcome and what is no secret of it."""
    outcomes = dict(_rows(evidence, "select outcome, count(*) from exchange_list group by 1"))
    assert sum(outcomes.values()) == evidence.accepted
    assert outcomes["interrupted"] == 1
    assert outcomes["upstream_failed"] == 6
    (headers,) = _rows(evidence, "select group_concat(name || ': ' || value, char(10)) from headers")
    for kept in (
        "AUTHORIZATION: Bearer redacted:",
        "AUTHORIZATION: Basic redacted:",
        "x-note: mine is redacted:",
        "OpenAI-Organization: org-kept",
        "openai-project.p",
        "Location: https://bucket.example.com/a?X-Amz-Credential=redacted:",
        "Content-Location: /signed?se=1&sig=redacted:",
        "Operation-Location: https://example.com/operations/1?api-version=1&sig=redacted:",
    ):
        assert kept.lower() in headers[0].lower(), kept
    targets = {row[0] for row in _rows(evidence, "select target from exchange_list")}
    assert any(re.fullmatch(r"/leaky/v1/models/m:generate\?alt=sse&key=redacted:\w{16}&x=1", each) for each in targets)
    assert any(re.fullmatch(r"/leaky/v1/keys/redacted:\w{16}/models", each) for each in targets)


def test_keys_in_bodies_are_masked_and_keep_their_length(evidence: Evidence) -> None:
    bodies: dict[bytes, bytes] = {}
    query = "select exchange_id, side, data from chunks order by exchange_id, seq"
    for exchange, side, data in _rows(evidence, query):
        bodies[exchange + bytes([side])] = bodies.get(exchange + bytes([side]), b"") + data
    recorded = b"\n".join(bodies.values())
    for key in (*evidence.leaky.said, *evidence.leaky.cut):
        begin = re.escape(key[:6].encode())
        assert re.search(b'it is(?: |\\\\n)%b[^"\\\\]{%d}["\\\\]' % (begin, len(key) - 6), recorded), key[:6]
    masked = [row[0] for row in _rows(evidence, "select masked from exchange_list where session = 'openai'")]
    assert masked == [1, 1]


def test_a_credential_has_one_fingerprint_wherever_it_stands(evidence: Evidence) -> None:
    found: dict[str, set[str]] = {}
    for session, credential in _rows(evidence, "select session, credential from exchange_list"):
        found.setdefault(session, set()).add(credential)
    by_sdk = {session: found[session] for session in evidence.by_sdk}
    assert all(len(each) == 1 for each in by_sdk.values())
    assert by_sdk["anthropic"] == by_sdk["anthropic again"], "the same key"
    assert len({*map(tuple, by_sdk.values())}) == 3, "three keys"
    assert all(re.fullmatch("[0-9a-f]{16}", str(each)) for some in by_sdk.values() for each in some)
    headers = _rows(
        evidence,
        "select value from headers join exchange_list using (exchange_id) where session = 'openai' and side = 0"
        " and lower(name) = 'authorization'",
    )
    assert {row[0] for row in headers} == {f"Bearer redacted:{next(iter(by_sdk['openai']))}"}


def test_the_search_finds_what_it_looks_for() -> None:
    mint = Mint(1)
    for shape in SHAPES:
        key = mint.shaped(shape)
        encoded = [
            key,
            json.dumps(key).replace("e", "\\u0065"),
            json.dumps(json.dumps({"a": f"/{key}\n"})).replace("/", "\\/"),
            quote(key, safe="").replace("A", "%41"),
            key.encode().hex(),
            key[len(key) // 3 :],
            *(base64.b64encode((before + key).encode()).decode() for before in ("", "a:", "user:")),
        ]
        for text in encoded:
            assert leaks(b"\0\xff" + text.encode() + b"\n", mint.marks) == [mint.marks[-1].name], (shape, text)
    assert not leaks(b"".join(mark.text[:6].encode() + b"*" * 40 for mark in mint.marks), mint.marks)


def _rows(evidence: Evidence, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{evidence.home / 'wiretape.db'}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
