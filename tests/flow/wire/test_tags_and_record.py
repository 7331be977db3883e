"""What a request says about itself: tags, session, how much to record; ours and that of other gateways."""

from __future__ import annotations

import secrets

import pytest

from tests.flow.wire.stage import Answering, Origin, Recorded, Stage, request, response
from tests.support.rawhttp import connect
from tests.support.running import files_of

BODY, ANSWER = b'{"ask": 1}', b'{"answer": 2}'


def _recorded(stage: Stage, *headers: bytes, prefix: bytes = b"", kind: str = "plain") -> Recorded:
    """The one exchange that a request with such headers makes."""
    with stage.origin(Answering(response(ANSWER)), kind=kind) as origin:
        assert stage.exchange(request(prefix + origin.at(), BODY, *headers)).body == ANSWER
        return stage.only(origin)


def test_tags_in_the_path(stage: Stage) -> None:
    recorded = _recorded(stage, prefix=b"/~project=search,env=ci,text=a%20b%2Fc%C3%BC")
    assert recorded.tags == [("env", "ci"), ("project", "search"), ("text", "a b/cü")]
    assert recorded.facts["target"].startswith("/~project=search,env=ci,text=a%20b%2Fc%C3%BC/plain-")


def test_tags_in_a_path_that_is_quoted_throughout(stage: Stage) -> None:
    assert _recorded(stage, prefix=b"/~project%3Dsearch%2Cenv%3Dci").tags == [("env", "ci"), ("project", "search")]


def test_tags_in_headers(stage: Stage) -> None:
    recorded = _recorded(stage, b"X-Wiretape-Tags: project=search, env = ci ,empty=", b"x-wiretape-tags: a=b=c")
    assert recorded.tags == [("a", "b=c"), ("empty", ""), ("env", "ci"), ("project", "search")]


def test_tags_of_path_and_headers_together(stage: Stage) -> None:
    recorded = _recorded(stage, b"x-wiretape-tags: a=2,b=3", prefix=b"/~a=1")
    assert recorded.tags == [("a", "1"), ("a", "2"), ("b", "3")]


FOREIGN: dict[str, tuple[list[bytes], list[tuple[str, str]], str | None]] = {
    "Helicone": (
        [
            b"Helicone-Property-App: chat",
            b"Helicone-User-Id: u1",
            b"Helicone-Session-Id: s1",
            b"Helicone-Auth: Bearer x",
        ],
        [("app", "chat"), ("user", "u1")],
        "s1",
    ),
    "LiteLLM": ([b"x-litellm-tags: one, two,,"], [("tag", "one"), ("tag", "two")], None),
    "Portkey": (
        [b'x-portkey-metadata: {"_user": "u2", "n": 7, "deep": {"no": 1}}', b"x-portkey-trace-id: t1"],
        [("_user", "u2"), ("n", "7")],
        "t1",
    ),
    "Cloudflare": ([b'cf-aig-metadata: {"team": "x", "on": true}'], [("on", "True"), ("team", "x")], None),
    "nonsense": ([b"x-portkey-metadata: {", b"cf-aig-metadata: [1]", b"x-litellm-tags:"], [], None),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_gateways_headers_are_tags_and_pass(stage: Stage, name: str) -> None:
    headers, tags, session = FOREIGN[name]
    script = Answering()
    with stage.origin(script) as origin:
        stage.exchange(request(origin.at(), BODY, *headers))
        recorded = stage.only(origin)
    assert recorded.tags == tags
    assert recorded.facts["session"] == session
    sent = [key + b":" + (b" " + value if value else b"") for key, value in script.requests[0].headers]
    assert sent[1:-1] == headers


def test_our_session_wins(stage: Stage) -> None:
    for headers in (
        [b"x-wiretape-session: ours", b"helicone-session-id: theirs"],
        [b"helicone-session-id: theirs", b"x-wiretape-session: ours"],
    ):
        assert _recorded(stage, *headers).facts["session"] == "ours"


def test_a_session_in_the_path(stage: Stage) -> None:
    """Where a tool can only be given a base URL; a header is nearer to the request, and wins."""
    for headers, session in (([], "s%1"), ([b"x-wiretape-session: ours"], "ours")):
        with stage.origin(Answering()) as origin:
            stage.exchange(request(b"/~session=s%251,a=b" + origin.at(), BODY, *headers))
            recorded = stage.only(origin)
        assert (recorded.tags, recorded.facts["session"]) == ([("a", "b")], session)


def test_nothing_said(stage: Stage) -> None:
    recorded = _recorded(stage)
    assert (recorded.tags, recorded.facts["session"], recorded.facts["record"]) == ([], None, "all")


# What is sent again


def test_what_is_sent_again(stage: Stage) -> None:
    """On one connection, where heads that differ in nothing else follow one another."""
    ids = [f"01920000-0000-7abc-8000-{number:012x}" for number in (1, 2)]
    lines = [b"X-Wiretape-Replay-Of: " + ids[0].encode(), b"x-wiretape-replay-of: " + ids[1].upper().encode(), None]
    script = Answering(response(ANSWER))
    with stage.origin(script) as origin, connect(stage.port) as client:
        for line in [*lines, *lines]:
            client.send(request(origin.at(), BODY, *([line] if line else [])))
            assert client.read_message().body == ANSWER
        found = [(each.facts["origin"], each.facts["replay_of"]) for each in stage.recorded(origin, 6)]
    assert found == [("resend", ids[0]), ("resend", ids[1]), ("live", None)] * 2
    assert not any(name.lower().startswith(b"x-wiretape-") for sent in script.requests for name, _ in sent.headers)


def test_what_is_sent_again_has_an_id(stage: Stage) -> None:
    with stage.origin(Answering()) as origin:
        refused = stage.exchange(request(origin.at(), BODY, b"x-wiretape-replay-of: last"))
        assert (refused.status, b"x-wiretape-replay-of" in refused.body) == (400, True)
        assert stage.recorded(origin, 0) == []


# How much to record


@pytest.mark.parametrize(
    ("kind", "header"),
    [("meta", b"A: b"), ("meta", b"x-wiretape-record: all"), ("plain", b"x-wiretape-record: meta")],
    ids=["upstream", "upstream, and the request wants more", "request"],
)
def test_meta_keeps_all_but_bodies(stage: Stage, kind: str, header: bytes) -> None:
    recorded = _recorded(stage, header, kind=kind)
    facts = recorded.facts
    assert recorded.chunks == []
    assert (recorded.outcome, facts["status"], facts["record"]) == ("completed", 200, "meta")
    assert (facts["request_bytes"], facts["response_bytes"]) == (len(BODY), len(ANSWER))
    assert len(facts["request_hash"]) == len(facts["response_hash"]) == 64
    assert [side for side, _ in recorded.heads] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("none", b"A: b"),
        ("none", b"x-wiretape-record: meta"),
        ("plain", b"x-wiretape-record: None"),
        ("meta", b"x-wiretape-record: none"),
    ],
    ids=["upstream", "upstream, and the request wants more", "request", "request of an upstream of meta"],
)
def test_none_relays_and_keeps_nothing(stage: Stage, kind: str, header: bytes) -> None:
    script, mark = Answering(response(ANSWER)), secrets.token_hex(16).encode()
    with stage.origin(script, kind=kind) as origin:
        assert stage.exchange(request(origin.at(), BODY, header, b"X-Mark: %b" % mark)).body == ANSWER
        _after(stage)
        assert stage.recorded(origin, 0) == []
    assert script.requests[0].body == BODY
    for data in files_of(stage.wiretape.home / "journal").values():
        assert mark not in data


def _after(stage: Stage) -> Origin:
    """An exchange that is stored: so is what came before it."""
    with stage.origin(Answering()) as origin:
        stage.exchange(request(origin.at(), BODY))
        stage.only(origin)
    return origin
