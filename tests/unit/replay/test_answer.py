"""What of a recorded response is played: what its client got of it."""

from __future__ import annotations

from proxy.exchange import Change, Side
from proxy.replay.answer import Heard


def test_what_was_withheld_is_not_played() -> None:
    heard = Heard([Change("usage_withheld", [], side=Side.RESPONSE, at=2, taken=4)])
    assert heard.chunks([(1, b"abc"), (2, b"de"), (3, b"fg")]) == [(1, b"ab"), (3, b"g")]
    assert Heard().chunks([(1, b"a"), (2, b"b")]) == [(1, b"a"), (2, b"b")]


def test_comments_of_ours_are_not_played() -> None:
    came = [(1, b"abc"), (2, b"de")]
    comments = [Change("keep_alive", [], side=Side.RESPONSE, at=at, put=":\n\n") for at in (0, 3, 5)]
    assert Heard(comments).chunks(came) == came
    assert Heard(comments).chunks([]) == []
    assert Heard([Change("x", [], side=Side.RESPONSE, put="y")]).chunks([]) == []


def test_headers_that_were_taken_off_are_not_played() -> None:
    heard = Heard([Change("response_header_removed", [("content-length", "3")]), Change("x", [("X-A", "1")])])
    assert heard.headers([("Content-Length", "3"), ("X-A", "1")]) == [("X-A", "1")]
