"""What of a recorded response is played: what its client got of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Change, Side, as_passed
from proxy.replay.answer import Heard


@given(
    st.lists(st.binary(min_size=1, max_size=9), max_size=6),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), max_size=4),
)
def test_what_was_withheld_is_not_played(pieces: list[bytes], gaps: list[tuple[int, int]]) -> None:
    withheld, at = [], 0
    for before, size in gaps:
        withheld.append((at + before, at + before + size))
        at += before + size
    chunks = Heard(withheld, frozenset()).chunks(list(enumerate(pieces)))
    changes = [Change("usage_withheld", [], side=Side.RESPONSE, at=begin, taken=end - begin) for begin, end in withheld]
    assert b"".join(data for _, data in chunks) == as_passed(b"".join(pieces), changes, Side.RESPONSE)
    assert all(pieces[when].find(data[:1]) >= 0 for when, data in chunks)


def test_headers_that_were_taken_off_are_not_played() -> None:
    heard = Heard([], frozenset(("content-length",)))
    assert heard.headers([("Content-Length", "3"), ("X-A", "1")]) == [("X-A", "1")]
