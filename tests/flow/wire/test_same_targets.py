"""Targets of any octets reach the origin as they do without us; what is no target of an origin reaches nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flow.wire.differential import (
    Run,
    answering,
    assert_same_requests,
    assert_same_responses,
    error_type,
    refused,
    twice,
)
from tests.flow.wire.stage import Stage, request, response
from tests.support.rawhttp import Peer

VISIBLE = bytes(octet for octet in range(0x21, 0x7F) if octet != ord("#"))
BEYOND = bytes(range(0x80, 0x100))
TARGETS: dict[str, list[bytes]] = {
    "every visible octet in the path": [b"/x/" + VISIBLE.replace(b"?", b"")],
    "every visible octet in the query": [b"/x?" + VISIBLE],
    "each visible octet first": [b"/%c?%c" % (octet, octet) for octet in VISIBLE],
    "every octet beyond ASCII in the path": [b"/x/" + BEYOND],
    "every octet beyond ASCII in the query": [b"/x?q=" + BEYOND],
    "each octet beyond ASCII first": [b"/%c?%c" % (octet, octet) for octet in BEYOND],
    "UTF-8": ["/modèles/日本語?frage=größe".encode()],
    "broken UTF-8": [b"/\xc3/\xe2\x82?\xff\xfe"],
    "beyond ASCII and a bare question mark": [b"/\xfc?", b"/?\xfc?", b"/\xfc??"],
    "beyond ASCII among dots and slashes": [b"//\xfc/../\xfc/.//%2F%3a%"],
}


@pytest.mark.parametrize("name", TARGETS)
def test_octets_pass(stage: Stage, name: str) -> None:
    targets = TARGETS[name]

    def client(peer: Peer, run: Run) -> None:
        for target in targets:
            peer.send(request(run.at(target), b"{}"))
            assert peer.read_message().body == b"answer", target

    both = twice(stage, client, answering(response(b"answer")))
    assert_same_requests(both)
    assert_same_responses(both)
    assert [each.target for each in both.proxied.requests] == targets


def test_a_target_that_comes_octet_by_octet(stage: Stage) -> None:
    def client(peer: Peer, run: Run) -> None:
        peer.send_bytewise(request(run.at("/modèles//%2f?größe?".encode()), b"{}"))
        peer.read_message()

    both = twice(stage, client)
    assert_same_requests(both)
    assert_same_responses(both)


def test_beyond_ascii_behind_a_base_path_and_tags(stage: Stage) -> None:
    target = "//modèles/../größe?ü".encode() + BEYOND

    def client(peer: Peer, run: Run) -> None:
        peer.send(request((b"/~a=b" if run.proxied else b"/base/v2") + run.at(target), b"{}"))
        assert peer.read_message().status == 200

    both = twice(stage, client, kind="based")
    assert_same_requests(both)
    assert stage.only(both.origin).tags == [("a", "b")]


REFUSED: dict[str, bytes] = {
    "a fragment": b"/x#y",
    "a fragment in the query": b"/x?y#z",
    "an empty fragment": b"/x#",
    "a space": b"/x y",
    "a space in the query": b"/x?y z",
    **{f"control {octet:02x}": b"/x%cy" % octet for octet in (0x00, 0x01, 0x08, 0x09, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)},
    "a bare CR": b"/x\ry",
    "a bare LF": b"/x\ny",
    "a control in the query": b"/x?\x00",
    "a control beyond ASCII": b"/\xfc\x00",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_target_may_hold(stage: Stage, name: str) -> None:
    refused(stage, lambda run: request(run.at(REFUSED[name]), b"{}"))


FORMS: dict[str, Callable[[Run], bytes]] = {
    "absolute": lambda run: b"http://wiretape.test" + run.at(),
    "absolute, of the origin": lambda run: b"http://127.0.0.1:%d/v1/x" % run.origin.port,
    "absolute, of another scheme": lambda run: b"ftp://wiretape.test" + run.at(),
    "absolute, without a host": lambda run: b"http:" + run.at(),
    "authority": lambda run: b"127.0.0.1:%d" % run.origin.port,
    "asterisk": lambda _: b"*",
    "without a slash": lambda run: run.at()[1:],
    "a question mark": lambda run: b"?" + run.at(),
    "a backslash": lambda run: b"\\" + run.at(),
    "beyond ASCII": lambda run: b"\xfc" + run.at(),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"PROPFIND"], ids=bytes.decode)
def test_forms_that_are_for_forward_proxies(stage: Stage, name: str, method: bytes) -> None:
    """Nor do those reach the upstream that could be understood."""
    refused(stage, lambda run: request(FORMS[name](run), method=method))


@pytest.mark.parametrize("name", [b"\xfc", "größe".encode(), b"\xff\xfe", b"plain-0\xfc"], ids=repr)
def test_a_name_beyond_ascii_is_unknown(stage: Stage, name: bytes) -> None:
    answer = stage.exchange(request(b"/%b/v1/x" % name, b"{}"))
    assert (answer.status, error_type(answer)) == (404, "wiretape_unknown_upstream")
