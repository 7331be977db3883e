"""What a plan hands on of our own headers: to playback what it needs, to anybody else nothing."""

from __future__ import annotations

from dataclasses import replace

from proxy.exchange import Origin
from proxy.forward.plan import Planner
from proxy.forward.policy import Policy, Rules
from proxy.forward.redact import Redactor
from proxy.wire.interface import ClientRequest
from tests.unit.forward.serving import destination

LIVE = destination(1)
PLAYED = replace(LIVE, name="p", origin=Origin.PLAYBACK, whole=True)
POLICY = Policy(
    Rules(expose_id=False, max_request_body=None), record_bodies=True, strip_attribution=False, templates={}
)


def head_at(upstream: str) -> bytes:
    """The head that a request gets there."""
    planner = Planner({b"o": LIVE, b"p": PLAYED}, Redactor(b"k" * 32), POLICY)
    headers = [
        (b"Host", b"h"),
        (b"X-Wiretape-Fault", b"cut=5 times=1"),
        (b"x-wiretape-session", b"s"),
        (b"x-wiretape-tags", b"a=b"),
        (b"x-wiretape-fault", b"every=2"),
    ]
    asked = ClientRequest(b"POST", f"/{upstream}/v1/x".encode(), "1.1", headers)
    return planner.plan(asked).request(asked).head.lower()


def test_playback_hears_of_session_and_fault() -> None:
    head = head_at("p")
    assert b"\r\nx-wiretape-fault: cut=5 times=1\r\n" in head
    assert b"\r\nx-wiretape-fault: every=2\r\n" in head
    assert b"\r\nx-wiretape-session: s\r\n" in head


def test_an_upstream_hears_of_neither() -> None:
    assert b"x-wiretape" not in head_at("o")
