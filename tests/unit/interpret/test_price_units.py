"""What is billed and no token: seconds, characters, pages, pictures, searches; and shares of several models."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from proxy.interpret.dialects.base import MAX_CALLS
from proxy.interpret.dialects.several import Shares, share
from proxy.interpret.meaning import Meaning, Part, Usage
from proxy.interpret.price import UNITS, Asked, Cost, cost, per
from proxy.interpret.rates import OwnPrice, OwnPrices
from tests.unit.interpret.test_price import ANTHROPIC, LATELY, NONE, OPENAI, of_stream, pico

GROQ = "https://api.groq.com"
MISTRAL = "https://api.mistral.ai"
COHERE = "https://api.cohere.com"
LOCAL = "http://127.0.0.1:11434"


def priced(model: str, url: str, own: OwnPrices = NONE, state: Any = "non_token", **usage: Any) -> Cost:
    meaning = Meaning(model_asked=model, response_model=model, usage=Usage(**usage), usage_state=state)
    return cost(meaning, Asked("x", url, LATELY), own)


@pytest.mark.parametrize(
    ("model", "url", "others", "usd"),
    [
        ("whisper-large-v3", GROQ, {"audio_ms": 90_000}, "0.002775"),  # 0.111 an hour
        ("tts-1", OPENAI, {"characters": 2000}, "0.03"),  # 15 for a million
        ("mistral-ocr-2503", MISTRAL, {"pages": 7}, "0.007"),  # 1 for a thousand
    ],
)
def test_by_hand(model: str, url: str, others: dict[str, int], usd: str) -> None:
    found = priced(model, url, others=others)
    assert (found.pico, found.status) == (pico(usd), "estimated" if found.reason else "exact")


@pytest.mark.parametrize(
    ("model", "url", "others"),
    [
        ("dall-e-3", OPENAI, {"images": 1}),
        ("gpt-4o", OPENAI, {"images": 1}),
        ("rerank-v3.5", COHERE, {"search_units": 1}),
        ("llama3.2", LOCAL, {"audio_ms": 1000}),
    ],
)
def test_never_silently_free(model: str, url: str, others: dict[str, int]) -> None:
    found = priced(model, url, others=others)
    assert (found.pico, found.status) == (None, "unpriced")
    assert found.reason


@pytest.mark.parametrize(("name", "kind"), UNITS.items())
def test_every_unit_can_have_a_price_of_one_s_own(name: str, kind: str) -> None:
    own = OwnPrices((OwnPrice("m", {kind: Decimal(3)}),))
    amount = 3_600_000 if kind == "audio_hour" else 10**6 if kind == "character" else 1000
    found = priced("m", LOCAL, own, others={name: amount})
    assert (found.pico, found.status) == (pico("3"), "exact")


def test_embeddings_have_the_price_of_their_input() -> None:
    found = priced("text-embedding-3-small", OPENAI, state="complete", input_tokens=1_000_000, total_tokens=1_000_000)
    assert (found.pico, found.status) == (pico("0.02"), "exact")
    local = priced("nomic", LOCAL, state="complete", input_tokens=1000)
    assert (local.pico, local.status) == (None, "unpriced")


def test_pictures_by_the_token() -> None:
    usage: dict[str, Any] = {
        "input_tokens": 50,
        "output_tokens": 4160,
        "input_image_tokens": 40,
        "output_image_tokens": 4160,
    }
    found = priced("gpt-image-1", OPENAI, state="complete", **usage)
    assert found.pico is not None
    assert found.pico > pico("0.16")  # 40 for a million


def test_tokens_or_seconds_whichever_has_a_price() -> None:
    """A session that says both is billed by what its model has a rate for."""
    own = OwnPrices((OwnPrice("m", {"input": Decimal(1), "output": Decimal(1)}),))
    found = priced("m", LOCAL, own, "complete", input_tokens=10**6, output_tokens=0, others={"audio_ms": 5000})
    assert (found.pico, found.status) == (pico("1"), "exact")
    both = OwnPrices((OwnPrice("m", {"input": Decimal(1), "output": Decimal(1), "audio_hour": Decimal(36)}),))
    found = priced("m", LOCAL, both, "complete", input_tokens=10**6, output_tokens=0, others={"audio_ms": 5000})
    assert found.pico == pico("1.05")


def test_what_cohere_bills_is_less_than_what_it_counts() -> None:
    usage, billed = Usage(916, 54, 970), Usage(37, 20)
    meaning = Meaning(model_asked="command-a-03-2025", usage=usage, usage_state="complete")
    meaning.shares = [Part("billed", None, billed)]
    found = cost(meaning, Asked("cohere", COHERE, LATELY), NONE)
    assert sum(line.amount for line in found.lines) == 57
    stream = of_stream("cohere-v2-tool", COHERE)
    assert (stream.pico, {line.kind: line.amount for line in stream.lines}) == (found.pico, {"input": 37, "output": 20})


def test_each_share_has_the_price_of_its_model() -> None:
    own = OwnPrices((OwnPrice("a", {"input": Decimal(1)}), OwnPrice("b", {"input": Decimal(10)})))
    meaning = Meaning(usage=Usage(2 * 10**6), usage_state="complete")
    meaning.shares = [Part("batch", "a", Usage(10**6)), Part("batch", "b", Usage(10**6))]
    assert cost(meaning, Asked("x", LOCAL, LATELY), own).pico == pico("11")
    meaning.shares.append(Part("batch", "c", Usage(1)))
    found = cost(meaning, Asked("x", LOCAL, LATELY), own)
    assert (found.pico, found.status) == (pico("11"), "partial")


def test_results_of_a_batch_cost_half() -> None:
    found = of_stream("anthropic-batch-results", ANTHROPIC)
    assert (found.pico, found.status) == (pico("0.000045"), "exact")  # 10 at 1.5 and 4 at 7.5 for a million


def test_what_rates_are_for() -> None:
    kinds = ("input", "character", "web_search", "page", "request", "audio_hour")
    assert [per(kind) for kind in kinds] == ["million", "million", "1,000", "1,000", "1,000", "hour"]


GEMINI = "https://generativelanguage.googleapis.com"


@pytest.mark.parametrize(
    ("inputs", "usd"), [([1000] * 300, "0.375"), ([100_000] * 3, "0.375"), ([250_000, 50_000], "0.6875")]
)
def test_many_small_answers_do_not_cost_what_a_large_one_does(inputs: list[int], usd: str) -> None:
    """300,000 tokens at 1.25 for a million, or at 2.5 those of an input of more than 200,000."""
    shares = Shares()
    for given in inputs:
        shares.add("answer", "gemini-2.5-pro", Usage(given, 0))
    meaning = Meaning(response_model="gemini-2.5-pro", usage_state="complete")
    share(meaning, shares)
    assert meaning.usage is not None
    assert meaning.usage.input_tokens == 300_000
    found = cost(meaning, Asked("gemini", GEMINI, LATELY), NONE)
    assert (found.pico, found.status) == (pico(usd), "exact")


def test_shares_stay_few() -> None:
    shares = Shares()
    for number in range(MAX_CALLS + 100):
        shares.add("answer", f"m{number}", Usage(1))
    parts, total = shares.parts(), shares.total()
    assert total is not None
    assert (len(parts), total.input_tokens) == (MAX_CALLS, MAX_CALLS + 100)
