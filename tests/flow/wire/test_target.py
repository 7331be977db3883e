"""A request's target reaches the upstream octet by octet, as it would without a proxy between."""

from __future__ import annotations

import pytest

from tests.flow.wire.stage import Answering, Stage, request, response
from tests.support.rawhttp import RawUpstream, connect

TARGETS = [
    b"/",
    b"/v1/models",
    b"/v1/models/",
    b"/x?",
    b"/?",
    b"/x??",
    b"/x?a=b?c=d",
    b"/x?a=1&a=2&b=&c",
    b"/x?q=http://other.example/path",
    b"//",
    b"//host/x",
    b"///x//y///",
    b"/a/../b",
    b"/../../etc",
    b"/a/./b/.",
    b"/%2e%2E/x",
    b"/a%2Fb%3A%3f",
    b"/%zz%%/%",
    b"/%00/%0d%0a",
    b"/[x]/{y}|z^`",
    b'/"<>"',
    b"/a\\b\\..\\c",
    b"/user@host:8080/x",
    b"/a;b=c;d,e",
    b"/!$&'()*+,=:-._~",
    b"/~tag=kept/x",
    b"/models/gemini-pro:streamGenerateContent?alt=sse",
    b"/http://host/x",
    b"/long/" + b"x" * 30_000 + b"?" + b"y" * 30_000,
]
ENDS = [b"", b"?", b"?a=b"]


def _shown(target: bytes) -> str:
    return target[:60].decode() or "nothing"


@pytest.mark.parametrize("target", TARGETS, ids=_shown)
def test_octets_pass_as_they_are(stage: Stage, target: bytes) -> None:
    direct, proxied = Answering(), Answering()
    with RawUpstream(direct) as origin, connect(origin.port) as client:
        assert client.send(request(target, b"{}")).read_message().status == 200
    with stage.origin(proxied) as origin:
        assert stage.exchange(request(origin.at(target), b"{}")).status == 200
        assert stage.only(origin).facts["target"] == origin.at(target).decode()
    assert proxied.requests[0].start == direct.requests[0].start == b"POST " + target + b" HTTP/1.1"


@pytest.mark.parametrize("rest", ENDS, ids=_shown)
def test_nothing_behind_the_name_is_the_root(stage: Stage, rest: bytes) -> None:
    """And no redirect to the same with a slash."""
    script = Answering()
    with stage.origin(script) as origin:
        assert stage.exchange(request(origin.at(rest), method=b"GET")).status == 200
    assert script.requests[0].target == b"/" + rest


@pytest.mark.parametrize("target", TARGETS, ids=_shown)
def test_a_base_path_stands_before_it(stage: Stage, target: bytes) -> None:
    script = Answering()
    with stage.origin(script, kind="based") as origin:
        assert stage.exchange(request(origin.at(target), method=b"GET")).status == 200
    assert script.requests[0].target == b"/base/v2" + target


@pytest.mark.parametrize("rest", ENDS, ids=_shown)
def test_nothing_behind_the_name_is_the_base_path(stage: Stage, rest: bytes) -> None:
    script = Answering()
    with stage.origin(script, kind="based") as origin:
        assert stage.exchange(request(origin.at(rest), method=b"GET")).status == 200
    assert script.requests[0].target == b"/base/v2" + rest


def test_tags_in_the_path_are_taken_off(stage: Stage) -> None:
    script = Answering()
    with stage.origin(script) as origin:
        target = b"/~a=b,c=%20d" + origin.at(b"//x/%2f?")
        assert stage.exchange(request(target, method=b"GET")).status == 200
    assert script.requests[0].target == b"//x/%2f?"


@pytest.mark.parametrize("target", [b"/x#part", b"#part", b"/x?a#b?c"], ids=_shown)
def test_a_fragment_is_refused(stage: Stage, target: bytes) -> None:
    with stage.origin(Answering()) as origin:
        assert stage.exchange(request(origin.at(target), method=b"GET")).status == 400
        assert not origin.peers


def test_requests_on_one_connection_keep_their_own_targets(stage: Stage) -> None:
    script = Answering()
    with stage.origin(script) as origin, stage.client() as client:
        for number in range(5):
            client.send(request(origin.at(b"/%d?" % number), method=b"GET"))
            assert client.read_message().status == 200
    assert [each.target for each in script.requests] == [b"/%d?" % number for number in range(5)]


def test_requests_sent_at_once_keep_their_own_targets(stage: Stage) -> None:
    """Pipelined: answered one after the other, in order."""
    script = Answering(response(b"answer"))
    with stage.origin(script) as origin, stage.client() as client:
        client.send(*[request(origin.at(b"/%d?" % number), b"body %d" % number) for number in range(5)])
        assert [client.read_message().body for _ in range(5)] == [b"answer"] * 5
        targets = [each.facts["target"].encode() for each in stage.recorded(origin, 5)]
    assert [each.target for each in script.requests] == [b"/%d?" % number for number in range(5)]
    assert [each.body for each in script.requests] == [b"body %d" % number for number in range(5)]
    assert targets == [origin.at(b"/%d?" % number) for number in range(5)]
