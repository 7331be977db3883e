"""What is turned away, and how: each answer is JSON with a type of ours and a sentence that says what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Answering, Body, Stage, chunk, request, response, staged
from tests.support.rawhttp import DEADLINE, Message, Peer

LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("limited"), f"forward.max_request_body = {LIMIT}", upstreams=8) as stage:
        yield stage


def _error(message: Message) -> dict[str, Any]:
    assert message.one("content-type") == b"application/json"
    error = json.loads(message.body)["error"]
    assert isinstance(error, dict)
    assert error["type"].startswith("wiretape_")
    assert error["message"]
    return error


def _turned_away(stage: Stage, target: bytes, *headers: bytes, status: int, method: bytes = b"GET") -> str:
    """The sentence with which a request is refused that names an upstream, or none."""
    answer = stage.exchange(request(target, None, *headers, method=method))
    assert answer.status == status
    assert answer.all("x-wiretape-exchange") == []
    return str(_error(answer)["message"])


# Bodies


def test_a_body_of_just_the_limit_passes(limited: Stage) -> None:
    script = Answering()
    with limited.origin(script) as origin:
        body = b"x" * LIMIT
        assert limited.exchange(request(origin.at(), body)).status == 200
        chunks = [chunk(body[:100]), chunk(body[100:]), LAST_CHUNK]
        assert limited.exchange(request(origin.at(), None, b"Transfer-Encoding: chunked"), *chunks).status == 200
    assert [message.body for message in script.requests] == [body, body]


def test_a_length_over_the_limit_is_refused_before_the_body_came(limited: Stage) -> None:
    with limited.origin(Answering()) as origin:
        answer = limited.exchange(request(origin.at(), None, b"Content-Length: %d" % (LIMIT + 1)))
        assert answer.status == 413
        error = _error(answer)
        assert error["type"] == "wiretape_request_too_large"
        assert str(LIMIT) in error["message"]
        assert origin.peers == []


def test_a_chunked_body_over_the_limit_is_refused_when_it_gets_there(limited: Stage) -> None:
    """What the upstream has of it by then is never made to look complete."""
    came: list[bytes] = []
    begun = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        begun.set()
        peer.read_to_end()
        came.append(bytes(peer.received))

    with limited.origin(script) as origin, limited.client() as client:
        client.send(request(origin.at(), None, b"Transfer-Encoding: chunked"), chunk(b"x" * 1000))
        assert begun.wait(DEADLINE)
        client.send(chunk(b"x" * LIMIT))
        answer = client.read_message()
        assert (answer.status, _error(answer)["type"]) == (413, "wiretape_request_too_large")
        origin.wait_idle()
        recorded = limited.only(origin)
    assert len(came[0]) < LIMIT
    assert not came[0].endswith(LAST_CHUNK)
    assert (recorded.outcome, recorded.facts["wire_end"]) == ("refused", "refused")
    assert recorded.changes[-1]["kind"] == "own_response"


def test_a_chunked_body_over_the_limit_breaks_an_answer_that_began(limited: Stage) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(STREAM, chunk(b"began"))
        peer.read_to_end()

    with limited.origin(script) as origin, limited.client() as client:
        client.send(request(origin.at(), None, b"Transfer-Encoding: chunked"), chunk(b"x"))
        _, headers = client.read_head()
        Body(client, headers).until(5)
        client.send(chunk(b"x" * LIMIT))
        assert not client.read_to_end().endswith(LAST_CHUNK)
        assert limited.only(origin).outcome == "refused"


def test_the_dialects_shape_of_a_refusal(limited: Stage) -> None:
    with limited.origin(Answering(), kind="anthropic") as origin:
        answer = limited.exchange(request(origin.at(), None, b"Content-Length: %d" % (LIMIT + 1)))
    assert json.loads(answer.body)["type"] == "error"
    assert json.loads(answer.body)["error"]["type"] == "wiretape_request_too_large"


# Targets


@pytest.mark.parametrize(
    ("target", "nearest"),
    [(b"/opnai/v1/models", "openai"), (b"/Anthropic/v1/messages", "anthropic"), (b"/gemni?x=1", "gemini")],
)
def test_an_unknown_upstream_is_told_of_the_known_ones(limited: Stage, target: bytes, nearest: str) -> None:
    said = _turned_away(limited, target, status=404)
    assert f"did you mean {nearest!r}?" in said
    for name in ("openai", "anthropic", "ollama", "demo", "plain-0"):
        assert name in said


@pytest.mark.parametrize("target", [b"/", b"/v1/chat/completions", b"/?x", b"/xyzzy", b"/~a=b", b"/~a=b/"])
def test_no_upstream_at_all(limited: Stage, target: bytes) -> None:
    said = _turned_away(limited, target, status=404)
    assert "openai" in said
    assert "did you mean" not in said


def test_a_long_or_wild_name_is_not_thrown_back(limited: Stage) -> None:
    assert len(_turned_away(limited, b"/" + b"x" * 5000, status=404)) < 2000
    assert "sk-abcdefghijklmnopqrstuvwx" not in _turned_away(limited, b"/sk-abcdefghijklmnopqrstuvwx/v1", status=404)


@pytest.mark.parametrize("name", ["azure", "bedrock", "vertex"])
def test_a_template_says_what_it_needs(limited: Stage, name: str) -> None:
    assert f"upstreams.{name}.url" in _turned_away(limited, f"/{name}/v1/x".encode(), status=404)


@pytest.mark.parametrize("rest", [b"/v1/v1/models", b"/v1/v1", b"/v1/v1?x", b"/v1/v1/"])
def test_a_doubled_segment_is_explained(limited: Stage, rest: bytes) -> None:
    with limited.origin(Answering()) as origin:
        said = _turned_away(limited, origin.at(rest), status=404)
        assert "v1 twice" in said
        assert origin.name in said
        assert origin.peers == []


@pytest.mark.parametrize("rest", [b"/v1/v1beta/x", b"/a/a/b", b"/v1//v1/x", b"/x?/v1/v1/", b"/x/y/v1/v1/z"])
def test_what_only_resembles_one_passes(stage: Stage, rest: bytes) -> None:
    script = Answering()
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(rest), method=b"GET")).status == 200
    assert script.requests[0].target == rest


# Wishes


@pytest.mark.parametrize("tags", [b"novalue", b"=x", b"a=b,,c=d", b"a=b,c", b"%20=x"], ids=bytes.decode)
def test_bad_tags_are_refused_wherever_they_stand(stage: Stage, tags: bytes) -> None:
    with stage.origin(Answering()) as origin:
        said = _turned_away(stage, b"/~" + tags + origin.at(), status=400)
        assert "name=value" in said
        if b"%" not in tags:
            said = _turned_away(stage, origin.at(), b"x-wiretape-tags: " + tags, status=400)
            assert "name=value" in said
        assert origin.peers == []


@pytest.mark.parametrize(
    "tags", [b",".join(b"t%d=x" % number for number in range(33)), b"a=" + b"x" * 257, b"x" * 257 + b"=a"]
)
def test_too_many_or_too_long_tags_are_refused(stage: Stage, tags: bytes) -> None:
    with stage.origin(Answering()) as origin:
        assert "at most" in _turned_away(stage, b"/~" + tags + origin.at(), status=400)
        assert "at most" in _turned_away(stage, origin.at(), b"x-wiretape-tags: " + tags, status=400)
        assert origin.peers == []


def test_a_wish_to_record_that_is_none(stage: Stage) -> None:
    with stage.origin(Answering()) as origin:
        said = _turned_away(stage, origin.at(), b"x-wiretape-record: some", status=400)
        assert "all, meta, none" in said
        assert origin.peers == []


# What is not relayed


def test_an_upgrade_that_can_be_ignored_is(stage: Stage) -> None:
    """As Java's HttpClient asks for HTTP/2, with a body behind."""
    script = Answering(response(b"plain"))
    h2c = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(), b"body", *h2c)).body == b"plain"
    assert script.requests[0].body == b"body"
    assert [name for name, _ in script.requests[0].headers] == [b"Host", b"Content-Length"]


def test_health_is_not_an_upstream(stage: Stage) -> None:
    assert stage.exchange(request(b"/-/live", method=b"GET")).status == 200
    assert stage.exchange(request(b"/-/ready", method=b"GET")).status == 200
    assert stage.exchange(request(b"/-/other", method=b"GET")).status == 404
