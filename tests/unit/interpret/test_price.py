"""What exchanges cost, calculated by hand. Prices are in USD for a million tokens, as the providers published them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as LibraryUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.exchange import interpret
from proxy.interpret.meaning import Meaning, Part, Usage
from proxy.interpret.price import Asked, Cost, cost
from proxy.interpret.rates import OwnPrice, OwnPrices
from tests.support.streams import streams
from tests.unit.interpret.reading import recording

OPENAI = "https://api.openai.com"
ANTHROPIC = "https://api.anthropic.com"
GOOGLE = "https://generativelanguage.googleapis.com"
NONE = OwnPrices()


def at(year: int, month: int, day: int, hour: int = 0) -> int:
    """A time (UTC) in microseconds since 1970."""
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 10**6


LATELY = at(2026, 11, 20)


def of_stream(name: str, url: str, started: int = LATELY, own: OwnPrices = NONE, upstream: str = "x") -> Cost:
    return cost(interpret(recording(streams()[name])), Asked(upstream, url, started), own)


def meant(model: str, tier: str | None = None, state: Any = "complete", **counts: Any) -> Meaning:
    return Meaning(response_model=model, service_tier=tier, usage_state=state, usage=Usage(**counts))


def pico(usd: str) -> int:
    return int(Decimal(usd) * 10**12)


@pytest.mark.parametrize(
    ("name", "url", "usd"),
    [
        # gpt-4o-mini, since 2024-07-18: 0.15 in, 0.60 out. 11 x 0.15 + 5 x 0.60 = 1.65 + 3.00 = 4.65
        ("openai-chat-basic-usage", OPENAI, "0.00000465"),
        # the same, 0.075 cached: (1364 - 1280) x 0.15 + 1280 x 0.075 + 40 x 0.60 = 12.6 + 96 + 24 = 132.6
        ("openai-chat-tool-calls-cached", OPENAI, "0.0001326"),
        # gpt-5, since 2025-08-07: 1.25 in, 0.125 cached, 10 out, reasoning within it:
        # (1500 - 1408) x 1.25 + 1408 x 0.125 + 215 x 10 = 115 + 176 + 2150 = 2441
        ("openai-responses-reasoning-text", OPENAI, "0.002441"),
        # the same: 310 x 1.25 + 44 x 10 = 387.5 + 440 = 827.5
        ("openai-responses-tool-calls", OPENAI, "0.0008275"),
        # text-embedding-3-small, since 2024-01-25: 0.02. 8 x 0.02 = 0.16
        ("openai-embeddings", OPENAI, "0.00000016"),
        # gpt-3.5-turbo-instruct, since 2023-09-28: 1.50 in, 2 out. 4 x 1.5 + 2 x 2 = 10
        ("openai-completions-legacy", OPENAI, "0.00001"),
        # claude-sonnet-4-5, since 2025-09-29: 3 in, 15 out. 11 x 3 + 30 x 15 = 33 + 450 = 483
        ("anthropic-basic-ping-padding", ANTHROPIC, "0.000483"),
        # the same, 0.30 read, 3.75 written for 5 minutes, 6 for an hour:
        # 21 x 3 + 1800 x 0.3 + 120 x 3.75 + 400 x 6 + 97 x 15 = 63 + 540 + 450 + 2400 + 1455 = 4908
        ("anthropic-thinking-tool-cache", ANTHROPIC, "0.004908"),
        # gemini-2.5-flash, since 2025-06-17: 0.30 in, 2.50 out. 6 x 0.3 + 10 x 2.5 = 1.8 + 25 = 26.8
        ("gemini-sse-basic-crlf", GOOGLE, "0.0000268"),
        # the same: 6 x 0.3 + 12 x 2.5 = 1.8 + 30 = 31.8
        ("gemini-json-array", GOOGLE, "0.0000318"),
        # the same, a blocked prompt: 7 x 0.3 = 2.1
        ("gemini-blocked-prompt", GOOGLE, "0.0000021"),
        # deepseek-chat (V3.2), since 2025-09-29, by day: 0.28 in and 0.42 out were announced; the library has
        # 0.27 and 1.10 for the hours of the day: 6 x 0.27 + 1 x 1.10 = 1.62 + 1.10 = 2.72
        ("deepseek-nonstream-blank-lines", "https://api.deepseek.com", "0.00000272"),
        # claude-sonnet-4-5 on Vertex, since 2025-09-29: 3 in, 15 out. 12 x 3 + 4 x 15 = 36 + 60 = 96
        ("vertex-anthropic", "https://aiplatform.googleapis.com", "0.000096"),
    ],
)
def test_by_hand(name: str, url: str, usd: str) -> None:
    found = of_stream(name, url, at(2026, 11, 20, 9))
    assert (found.pico, found.status, found.reason) == (pico(usd), "exact", None)
    assert sum(line.pico for line in found.lines) == found.pico


def test_what_broke_off_is_a_lower_bound() -> None:
    # claude-sonnet-4-5: 15 x 3 + 1 x 15 = 60
    found = of_stream("anthropic-truncated", ANTHROPIC)
    assert (found.pico, found.status) == (pico("0.00006"), "partial")
    assert found.reason == "the response broke off: more may have been used"


@pytest.mark.parametrize(
    ("tier", "usd"),
    [
        ("default", "0.0185"),  # gpt-5: 10000 x 1.25 + 600 x 10 = 12500 + 6000 = 18500
        ("flex", "0.00925"),  # half of it
        ("priority", "0.037"),  # twice it
    ],
)
def test_service_tiers(tier: str, usd: str) -> None:
    meaning = meant("gpt-5-2025-08-07", tier, input_tokens=10_000, output_tokens=600)
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (pico(usd), "exact")


def test_batches_cost_half() -> None:
    # claude-sonnet-4-5 in a batch: 1.50 in, 7.50 out. 1000 x 1.5 + 100 x 7.5 = 2250
    meaning = meant("claude-sonnet-4-5-20250929", "batch", input_tokens=1000, output_tokens=100)
    assert cost(meaning, Asked("anthropic", ANTHROPIC, LATELY), NONE).pico == pico("0.00225")


def test_a_tier_without_a_price_is_an_estimate() -> None:
    meaning = meant("gpt-4o-mini", "flex", input_tokens=1000, output_tokens=0)
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (pico("0.00015"), "estimated")
    assert found.reason == "no price of gpt-4o-mini for the tier flex is known: the standard one was taken"


@pytest.mark.parametrize(
    ("tokens", "usd", "band"),
    [
        (200_000, "0.251", None),  # gemini-2.5-pro up to 200k: 1.25 in, 10 out. 250000 + 1000 = 251000
        (200_001, "0.5015025", 200_000),  # beyond: 2.50 in, 15 out, for all of it. 500002.5 + 1500 = 501502.5
    ],
)
def test_context_bands(tokens: int, usd: str, band: int | None) -> None:
    found = cost(meant("gemini-2.5-pro", input_tokens=tokens, output_tokens=100), Asked("gemini", GOOGLE, LATELY), NONE)
    assert found.pico == pico(usd)
    assert found.price is not None
    assert found.price.get("band") == band


def test_audio_has_rates_of_its_own() -> None:
    # gpt-realtime, since 2025-08-28: text 4 in, 16 out; audio 32 in, 64 out; 0.40 cached, audio too.
    # in: 1000 = 100 read (40 of audio) + 300 of audio not read + 600 of text
    # 60 x 0.4 + 40 x 0.4 + 300 x 32 + 600 x 4 = 24 + 16 + 9600 + 2400 = 12040; out: 50 x 64 + 20 x 16 = 3520
    meaning = meant(
        "gpt-realtime",
        input_tokens=1000,
        output_tokens=70,
        cache_read_tokens=100,
        cache_audio_read_tokens=40,
        input_audio_tokens=340,
        output_audio_tokens=50,
    )
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (pico("0.01556"), "exact")


def test_audio_without_a_rate_is_an_estimate() -> None:
    # gpt-4o-audio-preview has only the rate of its text here, 2.50: 100 x 2.5 = 250
    meaning = meant("gpt-4o-audio-preview", input_tokens=100, output_tokens=0, input_audio_tokens=90)
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (pico("0.00025"), "estimated")


def test_prices_are_those_of_the_day_and_the_hour() -> None:
    # deepseek-chat in February 2025: 0.27 in, 1.10 out by day; half of it from 16:30 to 00:30 UTC
    meaning = meant("deepseek-chat", input_tokens=1000, output_tokens=1000)
    by_day = cost(meaning, Asked("deepseek", "https://api.deepseek.com", at(2025, 2, 20, 9)), NONE)
    by_night = cost(meaning, Asked("deepseek", "https://api.deepseek.com", at(2025, 2, 20, 20)), NONE)
    assert (by_day.pico, by_night.pico) == (pico("0.00137"), pico("0.000685"))


def test_searches_are_paid_by_the_thousand() -> None:
    # claude-sonnet-4-5: 1000 x 3 + 2 searches at 10 for a thousand = 3000 + 20000
    meaning = meant("claude-sonnet-4-5", input_tokens=1000, output_tokens=0)
    assert meaning.usage is not None
    meaning.usage.others["web_searches"] = 2
    assert cost(meaning, Asked("anthropic", ANTHROPIC, LATELY), NONE).pico == pico("0.023")


def test_other_models_within_an_exchange_have_their_own_prices() -> None:
    # claude-sonnet-4-5: 200 x 3 + 100 x 15 = 2100; compaction by the same: 50000 x 3 + 1000 x 15 = 165000;
    # an advisor, claude-haiku-4-5 (1 in, 5 out): 1000 x 1 + 10 x 5 = 1050
    meaning = meant("claude-sonnet-4-5", input_tokens=200, output_tokens=100)
    meaning.parts = [
        Part("compaction", None, Usage(50_000, 1000)),
        Part("advisor_message", "claude-haiku-4-5", Usage(1000, 10)),
    ]
    found = cost(meaning, Asked("anthropic", ANTHROPIC, LATELY), NONE)
    assert (found.pico, found.status) == (pico("0.16815"), "exact")
    assert {line.model for line in found.lines} == {"claude-sonnet-4-5", "claude-haiku-4-5"}


def test_what_the_provider_says_stands_beside_ours() -> None:
    # claude-sonnet-4 at OpenRouter: 3 in, 0.3 read, 3.75 written, 15 out; the provider says 0.00219855:
    # (3329 - 3211 - 115) x 3 + 3211 x 0.3 + 115 x 3.75 + 53 x 15 = 9 + 963.3 + 431.25 + 795 = 2198.55
    found = of_stream("openrouter-processing-cost", "https://openrouter.ai")
    assert found.reported_pico == pico("0.00219855")
    assert found.pico == pico("0.00219855")


def test_unknown_is_not_free() -> None:
    found = cost(meant("gpt-17-ultra", input_tokens=5, output_tokens=5), Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (None, "unpriced")
    assert found.reason is not None
    assert "'gpt-17-ultra' at openai" in found.reason


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://llm.internal/v1", ""])
def test_a_private_address_has_no_price(url: str) -> None:
    found = cost(meant("gpt-4o", input_tokens=5, output_tokens=5), Asked("vllm", url, LATELY), NONE)
    assert (found.pico, found.status) == (None, "unpriced")
    assert found.reason == 'no prices of the upstream vllm are known; set [prices."vllm/MODEL"]'


def test_a_gateway_under_a_presets_name_is_an_estimate() -> None:
    asked = Asked("openai", "http://gateway.internal", LATELY, OPENAI)
    found = cost(meant("gpt-4o-mini", input_tokens=1000, output_tokens=0), asked, NONE)
    assert (found.pico, found.status) == (pico("0.00015"), "estimated")


@pytest.mark.parametrize("state", ["missing", "none", None])
def test_nothing_known_is_no_cost(state: Any) -> None:
    meaning = replace(meant("gpt-4o", state=state), usage=None)
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status, found.lines) == (None, None, ())


def test_the_asked_model_stands_in_for_the_served_one() -> None:
    meaning = meant("our-deployment", input_tokens=1000, output_tokens=0)
    meaning.model_asked = "gpt-4o-mini"
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (pico("0.00015"), "estimated")


OWN = OwnPrices(
    (
        OwnPrice("local/llama*", {"input": Decimal("0.1"), "output": Decimal("0.3")}),
        OwnPrice("local/llama-3", {"input": Decimal(0), "output": Decimal(0)}),
        OwnPrice("gpt-4o-mini", {"input": Decimal("0.2"), "output": Decimal(1)}, date(2026, 6, 1)),
        OwnPrice("gpt-4o-mini", {"input": Decimal("0.3"), "output": Decimal(1)}, date(2026, 10, 1)),
    )
)


@pytest.mark.parametrize(
    ("model", "upstream", "started", "usd", "status"),
    [
        ("llama-2", "local", LATELY, "0.00025", "exact"),  # 1000 x 0.1 + 500 x 0.3 = 250
        ("llama-3", "local", LATELY, "0", "exact"),  # the longer name; free because somebody says so
        ("llama-2", "other", LATELY, None, "unpriced"),
        ("gpt-4o-mini", "openai", at(2026, 5, 31), "0.00045", "exact"),  # not yet: 1000 x 0.15 + 500 x 0.60
        ("gpt-4o-mini", "openai", at(2026, 6, 1), "0.0007", "exact"),  # 1000 x 0.2 + 500 x 1
        ("gpt-4o-mini", "openai", LATELY, "0.0008", "exact"),  # 1000 x 0.3 + 500 x 1
    ],
)
def test_own_prices(model: str, upstream: str, started: int, usd: str | None, status: str) -> None:
    url = OPENAI if upstream == "openai" else "http://127.0.0.1:1"
    found = cost(meant(model, input_tokens=1000, output_tokens=500), Asked(upstream, url, started), OWN)
    assert (found.pico, found.status) == (None if usd is None else pico(usd), status)


def test_parts_beyond_their_total_are_an_estimate() -> None:
    meaning = replace(meant("gpt-4o-mini", input_tokens=100, output_tokens=0, cache_read_tokens=300))
    meaning.usage_conflict = True
    found = cost(meaning, Asked("openai", OPENAI, LATELY), NONE)
    assert (found.pico, found.status) == (pico("0.0000075"), "estimated")  # 100 x 0.075: never more than came


_TOKENS = st.integers(0, 3_000_000)


@given(
    model=st.sampled_from(
        ("gpt-4o-mini", "gpt-5", "o3", "claude-sonnet-4-5", "claude-haiku-4-5", "gemini-2.5-pro", "gemini-2.5-flash")
    ),
    parts=st.tuples(_TOKENS, _TOKENS, _TOKENS, _TOKENS),
    made=_TOKENS,
)
def test_agrees_with_the_library(model: str, parts: tuple[int, int, int, int], made: int) -> None:
    """To 10^-12 USD a line."""
    plain, read, written, hour = parts
    provider = {"g": "openai", "o": "openai", "c": "anthropic"}[model[0]] if "gemini" not in model else "google"
    if provider != "anthropic":
        written = hour = 0
    counts: dict[str, Any] = {
        "input_tokens": plain + read + written + hour,
        "output_tokens": made,
        "cache_read_tokens": read,
    }
    kinds: dict[str, Any] = (
        {"cache_write_tokens": written + hour, "cache_write_1h_tokens": hour} if written + hour else {}
    )
    url = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE}[provider]
    found = cost(meant(model, **counts, **kinds), Asked("x", url, LATELY), NONE)
    when = datetime(2026, 11, 20, tzinfo=UTC)
    theirs = calc_price(
        LibraryUsage(**counts, **kinds), model, provider_id=provider, genai_request_timestamp=when
    ).total_price
    assert found.pico is not None
    assert abs(found.pico - theirs * 10**12) <= len(found.lines)


@given(st.data())
def test_never_negative_and_every_token_once(data: st.DataObject) -> None:
    """Whatever a provider reports: no line is negative, and no more tokens are charged than it says there were."""
    count = st.none() | st.integers(0, 2**63 - 1)
    names = [name for name in Usage.__slots__ if name != "others"]
    counts: dict[str, Any] = {name: data.draw(count) for name in names}
    usage = Usage(**counts)
    model = data.draw(st.sampled_from(("gpt-realtime", "claude-sonnet-4-5", "gemini-2.5-flash", "gpt-5")))
    meaning = Meaning(response_model=model, usage=usage, usage_state="complete")
    url = {"c": ANTHROPIC}.get(model[0], GOOGLE if "gemini" in model else OPENAI)
    found = cost(meaning, Asked("x", url, LATELY), NONE)
    assert all(line.pico >= 0 and line.amount >= 0 for line in found.lines)
    charged = sum(line.amount for line in found.lines)
    assert charged == (usage.input_tokens or 0) + (usage.output_tokens or 0)
    assert found.pico == sum(line.pico for line in found.lines)
