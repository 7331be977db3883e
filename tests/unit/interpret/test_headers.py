"""What headers tell: rate limits in all the ways that providers write them, waits, ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret import headers
from proxy.interpret.meaning import RateLimit
from proxy.interpret.values import HIGHEST

DATE = ("Date", "Thu, 26 Nov 2026 10:00:00 GMT")


@pytest.mark.parametrize(
    ("value", "reset_us"),
    [
        ("2ms", 2000),
        ("0s", 0),
        ("6m0s", 360_000_000),
        ("2m59.56s", 179_560_000),
        ("1h2m3s", 3_723_000_000),
        ("12", 12_000_000),
        ("1.5", 1_500_000),
        ("2026-11-26T10:01:00Z", 60_000_000),
        ("2026-11-26T09:00:00Z", 0),
        ("1795687260", 60_000_000),
        ("1795687260000", 60_000_000),
        ("soon", None),
        ("", None),
        ("5 parsecs", None),
        ("9999-12-31T00:00:00", 251_606_527_200_000_000),
    ],
)
def test_when_a_limit_is_full_again(value: str, reset_us: int | None) -> None:
    (limit,) = headers.rate_limits([DATE, ("x-ratelimit-limit-requests", "5"), ("x-ratelimit-reset-requests", value)])
    assert limit == RateLimit("requests", 5, None, reset_us)


def test_limits_by_kind() -> None:
    found = headers.rate_limits(
        [
            DATE,
            ("X-RateLimit-Limit-Tokens", "150000000"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-remaining-req-minute", "7"),
            ("x-ratelimit-limit", "9"),
            ("anthropic-ratelimit-input-tokens-remaining", "3"),
            ("anthropic-priority-output-tokens-limit", "4"),
            ("anthropic-ratelimit-unified-5h-reset", "1795687260"),
            ("anthropic-version", "2023-06-01"),
            ("x-ratelimit-limit-audio", "many"),
        ]
    )
    assert found == [
        RateLimit("tokens", 150_000_000, None, None),
        RateLimit("req-minute", None, 7, None),
        RateLimit("requests", 9, None, None),
        RateLimit("input-tokens", None, 3, None),
        RateLimit("priority-output-tokens", 4, None, None),
        RateLimit("unified-5h", None, None, 60_000_000),
    ]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ([("Retry-After", "7")], 7.0),
        ([("retry-after", "0.5")], 0.5),
        ([("retry-after", "7"), ("retry-after-ms", "1500")], 1.5),
        ([DATE, ("retry-after", "Thu, 26 Nov 2026 10:00:09 GMT")], 9.0),
        ([DATE, ("retry-after", "Thu, 26 Nov 2026 09:00:00 GMT")], 0.0),
        ([("retry-after", "Thu, 26 Nov 2026 10:00:09 GMT")], None),
        ([DATE, ("retry-after", "Thu, 26 Nov 2026 10:00:09")], None),
        ([DATE, ("retry-after", "later")], None),
        ([DATE], None),
    ],
)
def test_how_long_to_wait(given: list[tuple[str, str]], seconds: float | None) -> None:
    assert headers.retry_after(given) == seconds


@pytest.mark.parametrize(("said", "count"), [("2", 2), ("", None), ("-1", None), ("\u0662", None), ("9" * 40, None)])
def test_retries(said: str, count: int | None) -> None:
    assert headers.retry_count([("X-Stainless-Retry-Count", said)]) == count


def test_the_first_name_of_our_list_has_the_id() -> None:
    assert headers.request_id([("request-id", "b"), ("X-Request-Id", "a"), ("x-request-id", "c")]) == "a"
    assert headers.request_id([("x-request-id", ""), ("apim-request-id", "d")]) == "d"
    assert headers.request_id([]) is None


VALUES = st.text("0123456789.-:TZ+ smhdGMThu,NovOct", max_size=40) | st.text(max_size=10)


@given(VALUES, VALUES)
def test_nothing_that_a_header_says_is_harmful(value: str, date: str) -> None:
    given = [("date", date), ("x-ratelimit-reset", value), ("x-ratelimit-limit", value), ("retry-after", value)]
    for limit in headers.rate_limits(given):
        amounts = (limit.limit, limit.remaining, limit.reset_us)
        assert all(each is None or 0 <= each <= HIGHEST for each in amounts)
    waited = headers.retry_after(given)
    assert waited is None or waited >= 0
