"""Limits in every spelling that providers have, and what any value does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret import headers
from proxy.interpret.meaning import RateLimit

DATE = ("Date", "Thu, 26 Nov 2026 09:00:00 GMT")


@pytest.mark.parametrize(
    ("reset", "us"),
    [
        ("2ms", 2000),
        ("0s", 0),
        ("1s", 10**6),
        ("6m0s", 360 * 10**6),
        ("2m59.56s", 179_560_000),
        ("1h2m3s", 3723 * 10**6),
        ("1d", 86400 * 10**6),
        ("30", 30 * 10**6),
        ("0.5", 500_000),
        ("2026-11-26T09:01:00Z", 60 * 10**6),
        ("2026-11-26T08:00:00Z", 0),
        ("soon", None),
        ("", None),
        ("9" * 50, None),
    ],
)
def test_when_a_limit_is_full_again(reset: str, us: int | None) -> None:
    found = headers.rate_limits([DATE, ("X-RateLimit-Limit-Tokens", "5"), ("x-ratelimit-reset-tokens", reset)])
    assert found == [RateLimit("tokens", 5, None, us)]


def test_limits_of_several_providers() -> None:
    given_ = [
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-requests", "-1"),  # Azure: unknown
        ("x-ratelimit-limit", "9"),  # Together: of requests
        ("anthropic-ratelimit-input-tokens-limit", "80000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-26T09:00:30Z"),
        ("anthropic-priority-output-tokens-remaining", "3"),
        ("x-ratelimit-limit-tokens", "many"),
    ]
    assert headers.rate_limits(given_) == [
        RateLimit("requests", 100, None, None),
        RateLimit("input-tokens", 80_000, None, None),
        RateLimit("priority-output-tokens", None, 3, None),
    ]


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        ([("Retry-After", "3")], 3.0),
        ([("retry-after", "3"), ("retry-after-ms", "12")], 0.012),
        ([("retry-after", "Thu, 26 Nov 2026 09:00:00 GMT")], None),
        ([], None),
    ],
)
def test_when_to_try_again(given_: list[tuple[str, str]], seconds: float | None) -> None:
    assert headers.retry_after(given_) == seconds


def test_ids_and_retries() -> None:
    assert headers.request_id([("Request-Id", "b"), ("X-Request-ID", "a")]) == "a"
    assert headers.request_id([("apim-request-id", "c")]) == "c"
    assert headers.request_id([]) is None
    assert headers.retry_count([("X-Stainless-Retry-Count", "2")]) == 2
    assert headers.retry_count([("x-stainless-retry-count", "²")]) is None


_NAMES = (
    "x-ratelimit-reset-a",
    "x-ratelimit-limit-a",
    "anthropic-ratelimit-b-reset",
    "date",
    "retry-after",
    "x-request-id",
)


@given(st.lists(st.tuples(st.sampled_from(_NAMES), st.text(max_size=12) | st.from_regex(r"\d{1,30}(ms|s|h)?"))))
def test_any_values(pairs: list[tuple[str, str]]) -> None:
    for limit in headers.rate_limits(pairs):
        assert all(each is None or each >= 0 for each in limit[1:])
    headers.retry_after(pairs)
    headers.request_id(pairs)
