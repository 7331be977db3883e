"""`show`: everything about one exchange, as text that a terminal does not obey, and as JSON with every byte."""

from __future__ import annotations

import base64
import hashlib
from uuid import UUID

import pytest

from tests.support.recordings import EVENTS, HOSTILE_CHUNKS, HOSTILE_LATIN
from tests.unit.cli.conftest import Command, tame

Ids = dict[str, UUID]


def data_of(shown: dict[str, str]) -> bytes:
    return shown["text"].encode() if "text" in shown else base64.b64decode(shown["base64"])


def test_the_facts(wiretape: Command, ids: Ids) -> None:
    text = wiretape("show", ids["stream"]).text
    for said in (
        "POST /v1/chat/completions HTTP/1.1",
        "200 OK",
        "completed (upstream_end)",
        "612.3 ms",
        "59 B in 5 chunks",
        "0123456789abcdef",
        "project  search",
        "response header added",
        "response trailers, after 900.0 ms",
        hashlib.sha256(b"".join(EVENTS)).hexdigest(),
        "identical     yes",
        'data: {"n":0}\\x0a\\x0a',
        "data: gr\\xc3",
    ):
        assert said in text


def test_headers_stand_in_order_with_case_and_doubles(wiretape: Command, ids: Ids) -> None:
    lines = [line.split() for line in wiretape("show", ids["stream"]).lines]
    heads = [line for line in lines if line and line[0] in ("X-Twice", "x-twice", "Set-Cookie", "Host")]
    assert heads == [
        ["Host", "127.0.0.1"],
        ["X-Twice", "a"],
        ["x-twice", "b"],
        ["Set-Cookie", "a=1"],
        ["Set-Cookie", "b=2"],
    ]


@pytest.mark.parametrize("named", ["whole", "prefix", "suffix", "last"])
def test_ways_to_name_an_exchange(wiretape: Command, ids: Ids, named: str) -> None:
    whole = str(ids["running"])
    given = {"whole": whole.upper(), "prefix": whole[:20], "suffix": whole[-10:], "last": "last"}[named]
    assert wiretape("show", given, "--format", "json").json["id"] == whole


@pytest.mark.parametrize("given", ["01", "ffffffff", "\x1b[2J", "01a"])
def test_an_exchange_that_cannot_be_found(wiretape: Command, given: str) -> None:
    ran = wiretape("show", given)
    assert (ran.code, ran.out) == (2, b"")
    assert tame(ran.err)
    assert ran.err.count("\n") == 1


def test_an_ambiguous_prefix_lists_what_it_may_be(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("show", str(ids["stream"])[:4])
    assert ran.code == 2
    assert str(ids["running"]) in ran.err


@pytest.mark.parametrize(("name", "said"), [("stream", "yes"), ("refused", "no"), ("running", "unknown")])
def test_identical(wiretape: Command, ids: Ids, name: str, said: str) -> None:
    assert wiretape("show", ids[name]).text.split("identical")[1].split()[0] == said
    known = wiretape("show", ids[name], "--format", "json").json
    assert known["identical"] is {"yes": True, "no": False, "unknown": None}[said]


def test_what_is_not_all_there_is_said(wiretape: Command, ids: Ids) -> None:
    assert "70 B not recorded (journal)" in wiretape("show", ids["lossy"]).text
    assert "bodies are not kept" in wiretape("show", ids["bodiless"]).text
    assert "… (still running)" in wiretape("show", ids["running"]).text
    assert "own response" in wiretape("show", ids["refused"]).text


def test_chunks_are_limited(wiretape: Command, ids: Ids) -> None:
    some = wiretape("show", ids["stream"], "--chunks", 4).lines
    assert [line.split()[0] for line in some[some.index("chunks") + 1 :]] == [
        "request",
        "request",
        "response",
        "response",
        "more",
    ]
    assert not any(line == "chunks" for line in wiretape("show", ids["stream"], "--chunks", 0).lines)
    assert len(wiretape("show", ids["stream"], "--chunks", 1, "--format", "json").json["chunks"]) == 1


def test_json_has_every_byte(wiretape: Command, ids: Ids) -> None:
    known = wiretape("show", ids["stream"], "--format", "json").json
    came = [each for each in known["chunks"] if each["side"] == "response"]
    assert [data_of(each) for each in came] == EVENTS
    assert [each["at_us"] for each in came] == [100_000, 200_000, 300_000, 400_000, 500_000]
    assert "base64" in came[3]
    assert [head["side"] for head in known["heads"]] == ["request", "response", "response_trailers"]
    assert known["heads"][1]["headers"][1:] == [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]]
    assert known["changes"][0]["change"]["kind"] == "response_header_added"
    assert known["tags"] == [["env", "ci"], ["project", "search"]]
    assert (known["outcome"], known["origin"], known["record"]) == ("completed", "live", "all")
    assert known["started"].endswith("Z")
    assert wiretape("show", ids["lossy"], "--format", "json").json["gaps"] == [
        {"side": "response", "seq": 50, "at_us": 250_000, "bytes": 70, "reason": "journal"}
    ]


def test_hostile_text_is_shown_not_obeyed(wiretape: Command, terminal: Command, ids: Ids) -> None:
    for ran in (wiretape("show", ids["hostile"]), terminal("show", ids["hostile"], columns=60)):
        assert ran.code == 0
        assert tame(ran.out)
        assert "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m" in ran.text
        assert "\\u202e" in ran.text
    for ran in (
        wiretape("show", "--format", "json", ids["hostile"]),
        terminal("show", "--format", "json", ids["hostile"]),
    ):
        assert tame(ran.out)
        known = ran.json
        assert [data_of(each) for each in known["chunks"][1:]] == HOSTILE_CHUNKS
        assert known["heads"][1]["headers"][0] == ["x-\x1b[1mname", HOSTILE_LATIN]
        assert known["target"].startswith(f"/v1/{HOSTILE_LATIN}?")
