"""Whatever was recorded, what comes out of cleaning can be stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.store import clean

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_clean_text_is_storable_and_only_refused_characters_change(value: str) -> None:
    cleaned = clean.text(value)
    assert "\0" not in cleaned
    cleaned.encode()
    assert len(cleaned) == len(value)
    for before, after in zip(value, cleaned, strict=True):
        assert after == before or (after == "\ufffd" and (before == "\0" or "\ud800" <= before <= "\udfff"))


@given(ANY_TEXT, st.integers(0, 40))
def test_capped_text_is_the_longest_clean_beginning_within_the_limit(value: str, limit: int) -> None:
    capped = clean.capped(value, limit)
    whole = clean.text(value)
    assert whole.startswith(capped)
    assert len(capped.encode()) <= limit
    if capped != whole:
        assert len((capped + whole[len(capped)]).encode()) > limit


@given(st.integers())
def test_integers_end_at_64_bits(value: int) -> None:
    bounded = clean.integer(value)
    assert -(2**63) <= bounded < 2**63
    assert bounded == value or abs(value) >= 2**63


def test_the_hash_of_a_response_id_is_the_same_in_every_process() -> None:
    assert clean.short_hash("chatcmpl-1") == clean.short_hash("chatcmpl-1")
    assert clean.short_hash("chatcmpl-1") == 782545062854449915
