"""What a plan hands on of our own headers: to playback what it needs, to anybody else nothing; a key that is held here:
to its upstream alone, also where playback sends on what it has no recording of; and who is asked for usage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy import passes
from proxy.exchange import Origin
from proxy.forward.access import Access
from proxy.forward.destinations import UpstreamOptions
from proxy.forward.destinations import destination as configured
from proxy.forward.held import HeldKey
from proxy.forward.plan import Planner, TurnedAway
from proxy.forward.policy import Policy, Rules
from proxy.forward.redact import Redactor
from proxy.forward.routes import Wish
from proxy.wire.interface import ClientRequest, KnownHead, Timeouts
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


# Keys that are held here

KEYED = replace(LIVE, key=HeldKey(b"authorization", b"Bearer ", b"held"))
ELSE = replace(PLAYED, name="e", live=KEYED)
PAGE = b"http://localhost:3000"


def keyed() -> Planner:
    policy = replace(POLICY, access=Access((), [PAGE.decode()]))
    return Planner({b"o": LIVE, b"k": KEYED, b"e": ELSE}, Redactor(b"k" * 32), policy, admit=lambda _: True)


def planned(upstream: str, *headers: tuple[bytes, bytes]) -> bytes:
    asked = ClientRequest(b"POST", f"/{upstream}/v1/x".encode(), "1.1", list(headers))
    return keyed().plan(asked).request(asked).head


LOCAL = (b"Host", b"localhost")
A_PASS = (passes.HEADER, b"p")


def test_only_its_own_upstream_gets_it() -> None:
    assert planned("k", LOCAL).endswith(b"\r\nauthorization: Bearer held\r\n\r\n")
    assert b"held" not in planned("o", LOCAL)


def test_playback_does_not_get_it() -> None:
    assert b"held" not in planned("e", LOCAL)
    assert b"authorization: Bearer held" in planned("e", LOCAL, A_PASS)


@pytest.mark.parametrize("more", [(), (A_PASS,)])
@pytest.mark.parametrize("headers", [((b"Host", b"evil.example"),), (LOCAL, (b"Origin", b"https://evil.example"))])
def test_playback_leads_nobody_to_it(
    headers: tuple[tuple[bytes, bytes], ...], more: tuple[tuple[bytes, bytes], ...]
) -> None:
    """It sends on in its own name, so who asks is looked at before."""
    with pytest.raises(TurnedAway):
        planned("e", *headers, *more)


def test_playback_answers_a_page_that_may_ask() -> None:
    head = planned("e", LOCAL, (b"Origin", PAGE), (b"Sec-Fetch-Site", b"cross-site"), (b"sec-fetch-mode", b"cors"))
    assert b"origin" not in head.lower()
    assert b"sec-fetch" not in head.lower()
    assert b"Origin: " + PAGE in planned("o", LOCAL, (b"Origin", PAGE))


def test_only_who_is_to_tell_usage_is_asked() -> None:
    headers = [(b"Host", b"h"), (b"Content-Type", b"application/json"), (b"Content-Length", b"0"), (b"X-A", b"1")]
    first = ClientRequest(b"POST", b"/o/v1/chat/completions", "1.1", headers, length=0, length_at=2)
    first.known = KnownHead(first)
    assert Planner({b"o": LIVE}, Redactor(b"k" * 32), POLICY).plan(first).asking is None
    planner = Planner({b"o": replace(LIVE, usage=Wish())}, Redactor(b"k" * 32), POLICY)
    planner.plan(first)
    second = replace(first, headers=[*headers[:2], (b"Content-Length", b"12"), headers[3]], length=12)
    plan = planner.plan(second)
    plain = plan.request(second)
    assert plain.head.endswith(b"\r\nContent-Length: 12\r\nX-A: 1\r\n\r\n")
    assert plan.asking is not None
    asked = plan.asking.request(plain, 345)
    assert asked.head == plain.head.replace(b"Length: 12", b"Length: 345")[:-2] + b"accept-encoding: identity\r\n\r\n"
    assert planner.plan(replace(first, headers=headers[:2], length=None, length_at=-1, known=None)).asking is None


def test_who_is_played_is_asked_only_where_it_is_live() -> None:
    options = UpstreamOptions("x", "http://127.0.0.1:1", "openai", Timeouts(), False, "all", ask_usage=True)
    assert configured(options).usage == Wish()
    assert configured(replace(options, url="demo:")).usage == Wish()
    assert configured(replace(options, ask_usage=False)).usage is None
    played = configured(replace(options, playback=("127.0.0.1", 1), else_record=True))
    assert played.usage is None
    assert played.live is not None
    assert played.live.usage == Wish()


def test_comments_are_put_in_once() -> None:
    options = UpstreamOptions("x", "http://127.0.0.1:1", "openai", Timeouts(), False, "all", keep_alive=15.0)
    assert configured(options).keep_alive == configured(replace(options, url="demo:")).keep_alive == 15
    assert configured(replace(options, keep_alive=None)).keep_alive is None
    played = configured(replace(options, playback=("127.0.0.1", 1), else_record=True))
    assert played.live is not None
    assert (played.keep_alive, played.live.keep_alive) == (15, None)


def test_only_what_is_configured_alters_what_passes() -> None:
    asked = ClientRequest(b"GET", b"/o/v1/x", "1.1", [(b"Host", b"h")])
    for here, special in ((LIVE, False), (replace(LIVE, usage=Wish()), False), (replace(LIVE, keep_alive=15.0), True)):
        assert Planner({b"o": here}, Redactor(b"k" * 32), POLICY).plan(asked).special is special
