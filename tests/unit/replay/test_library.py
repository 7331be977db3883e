"""Whose turn it is, per session; what a miss says; the report."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from proxy.replay.fault_words import Fault, parse
from proxy.replay.library import Library, Miss, Order, Recording
from proxy.replay.match import Canonical, Matcher, Request

MATCHER = Matcher()


def form(body: bytes, target: str = "/v1/x") -> Canonical:
    return MATCHER.canonical(Request("POST", target, [], body))


def recording(number: int, body: bytes = b'{"a":1}', upstream: str = "openai") -> Recording:
    return Recording(UUID(int=number), upstream, "POST /v1/x", form(body))


def found(library: Library, body: bytes = b'{"a":1}', session: str = "", upstream: str = "openai") -> int:
    """The number of the recording; 0 for a miss."""
    result = library.find(upstream, "POST /v1/x", form(body), session)
    return 0 if isinstance(result, Miss) else result.id.int


@pytest.mark.parametrize(
    ("order", "expected"),
    [("sequence", [1, 2, 0, 0]), ("repeat_last", [1, 2, 2, 2]), ("any", [1, 2, 1, 2])],
)
def test_equal_requests_get_their_recordings_in_turn(order: Order, expected: list[int]) -> None:
    library = Library([recording(1), recording(2), recording(3, b'{"a":2}')], order)
    assert [found(library) for _ in range(4)] == expected
    assert found(library, b'{"a":2}') == 3


def test_sessions_have_turns_of_their_own() -> None:
    library = Library([recording(1), recording(2)])
    assert [found(library, session=name) for name in ("a", "b", "a", "b", "a")] == [1, 1, 2, 2, 0]
    library.forget("a")
    assert found(library, session="a") == 1


def test_a_fault_that_spoils_the_answer_does_not_use_it_up() -> None:
    library = Library([recording(1), recording(2)])
    cut, slow = parse("cut=0 times=2"), parse("slow=9")

    def asked(fault: Fault | None) -> tuple[int, bool]:
        result = library.find("openai", "POST /v1/x", form(b'{"a":1}'))
        assert isinstance(result, Recording)
        return result.id.int, library.hit(result, fault) is not None

    assert asked(cut) == (1, True)
    assert library.report().unused == [recording(2)], "somebody asked for it"
    assert [asked(cut), asked(cut)] == [(1, True), (1, False)]
    assert asked(slow) == (2, True)
    assert found(library) == 0


def test_faults_are_counted_by_session_and_those_of_cassettes_by_recording() -> None:
    once = parse("slow=9 times=1")
    own = [replace(recording(number), fault=once) for number in (1, 2)]
    library = Library(own, "any")

    def hit(asked: Fault | None = None, usual: Fault | None = None, session: str = "") -> bool:
        result = library.find("openai", "POST /v1/x", form(b'{"a":1}'), session)
        assert isinstance(result, Recording)
        return library.hit(result, asked, usual, session) is not None

    assert [hit() for _ in range(4)] == [True, True, False, False]
    assert [hit(session="other") for _ in range(4)] == [True, True, False, False]
    assert [hit(usual=parse("slow=1")) for _ in range(2)] == [False, False], "its own comes before the usual one"
    assert [hit(once) for _ in range(3)] == [True, False, False], "what is asked for comes before both"
    assert [hit(parse("none"), session="third") for _ in range(2)] == [False, False]
    library.forget()
    assert hit(once)


def test_upstreams_do_not_answer_for_each_other() -> None:
    library = Library([recording(1, upstream="anthropic")])
    assert found(library) == 0
    assert found(library, upstream="anthropic") == 1


def test_a_miss_says_what_differs() -> None:
    library = Library([recording(1), recording(2, b'{"a":{"b":[1]}}')])
    miss = library.find("openai", "POST /v1/x", form(b'{"a":{"b":[2]}}'))
    assert isinstance(miss, Miss)
    assert (miss.nearest, miss.rule) == (recording(2, b'{"a":{"b":[1]}}'), "body")
    assert [each.place for each in miss.differences] == ["body a.b[0]"]
    assert str(UUID(int=2)) in miss.sentence
    nothing = library.find("gemini", "POST /v1/x", form(b""))
    assert isinstance(nothing, Miss)
    assert "nothing is recorded" in nothing.sentence


def test_the_report() -> None:
    library = Library([recording(1), recording(2), recording(3, b'{"a":2}')])
    found(library, session="s")
    found(library, b"[]", session="s")
    report = library.report("s")
    assert [each.id.int for each in report.unused] == [2, 3]
    assert [each.title for each in report.unmatched] == ["POST /v1/x"]
    assert [[each.id.int for each in shelf] for shelf in report.equal] == [[1, 2]]
    assert library.report("another").unmatched == []
    assert len(library) == 3
