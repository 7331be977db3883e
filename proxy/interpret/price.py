"""What an exchange cost: each kind of token once, times its rate, as an exact sum of lines. Pure.

Money is an integer in 10^-12 USD. What the provider says itself comes first, ours stands beside it. An unknown price is
`unpriced`, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal, NamedTuple

from proxy.interpret.meaning import Meaning, Part, Usage
from proxy.interpret.rates import OwnPrices, Rates, Unpriced, find_provider, hour_of, library_rates

CostStatus = Literal["exact", "partial", "estimated", "unpriced"]

PICO = 10**12
_TOKEN = Decimal(PICO // 10**6)  # USD for a million -> 10^-12 USD for one
_THOUSANDTH = Decimal(PICO // 10**3)
_MILLISECOND = Decimal(PICO) / 3_600_000  # USD for an hour
UNITS = {
    "web_searches": "web_search",
    "file_searches": "file_search",
    "search_units": "search_unit",
    "classifications": "classification",
    "images": "image",
    "pages": "page",
    "characters": "character",
    "audio_ms": "audio_hour",
}
"""What is billed and no token: the name in a usage -> the name of its rate."""

_SCALES = dict.fromkeys((*UNITS.values(), "request"), _THOUSANDTH) | {
    "audio_hour": _MILLISECOND,
    "character": _TOKEN,
}


def per(kind: str) -> str:
    """What a rate is for: so many tokens, searches or pages, or an hour."""
    scale = _SCALES.get(kind, _TOKEN)
    return {_TOKEN: "million", _THOUSANDTH: "1,000"}.get(scale, "hour")


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom and when it was asked. `url` is the upstream's address; `known_url` the provider's own, where an upstream
    with a preset's name has another one."""

    upstream: str
    url: str
    started_us: int
    known_url: str | None = None


class Address(NamedTuple):
    """Where an upstream is; `known` is the address of the preset of its name, if it has one."""

    url: str
    known: str | None = None


@dataclass(frozen=True, slots=True)
class Pricing:
    """Everything that prices are found by: those of the configuration, and who answers under an upstream's name."""

    own: OwnPrices = field(default_factory=OwnPrices)
    addresses: Mapping[str, Address] = field(default_factory=dict)

    def cost(self, meaning: Meaning, upstream: str | None, started_us: int) -> Cost:
        """What an exchange with an upstream cost. Does not raise."""
        url, known = self.addresses.get(upstream or "", Address(""))
        return cost(meaning, Asked(upstream or "", url, started_us, known), self.own)


class Line(NamedTuple):
    """One kind of tokens, or of what else is billed: `amount` times `rate` is `pico`, whatever the rate is for."""

    kind: str
    amount: int
    rate: str
    pico: int
    model: str


@dataclass(frozen=True, slots=True)
class Cost:
    """`pico` is ours, the sum of `lines`. `price` says where the rates come from; `reason` why it is not `exact`.

    `status` is None where nothing is to be paid, or how much was used is not known.
    """

    pico: int | None = None
    reported_pico: int | None = None
    status: CostStatus | None = None
    lines: tuple[Line, ...] = ()
    price: dict[str, Any] | None = None
    reason: str | None = None


class _Sum:
    """Lines, and what makes their sum less than exact; the worst is kept."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.partial: str | None = None
        self.estimated: str | None = None
        self.prices: list[dict[str, Any]] = []

    def charge(self, rates: Rates, kind: str, amount: int, input_tokens: int, used: dict[str, str]) -> int:
        """Add a line; where its rate's band begins."""
        rate, band = rates.by_kind[kind].at(input_tokens)
        pico = int((amount * rate * _SCALES.get(kind, _TOKEN)).to_integral_value(ROUND_HALF_EVEN))
        self.lines.append(Line(kind, amount, _plain(rate), pico, rates.model))
        used[kind] = _plain(rate)
        return band


def cost(meaning: Meaning, asked: Asked, own: OwnPrices) -> Cost:
    """What the exchange cost. Does not raise."""
    reported = meaning.cost_reported_pico
    usage = meaning.usage
    if usage is None or meaning.usage_state in (None, "none", "missing"):
        reason = "how much was used is not known" if meaning.usage_state == "missing" else None
        return Cost(reported_pico=reported, reason=reason)
    found = _Sum()
    unpriced: str | None = None
    for share in meaning.shares or (Part("usage", None, usage),):
        served = share.model or meaning.response_model
        try:
            rates, doubt = _rates(asked, own, served, meaning.model_asked, meaning.service_tier)
        except Unpriced as why:
            unpriced = unpriced or str(why)
            continue
        found.estimated = found.estimated or doubt
        _charge(found, rates, share)
    if unpriced is not None and not found.prices:
        return Cost(reported_pico=reported, status="unpriced", reason=unpriced)
    found.partial = unpriced or found.partial
    for part in meaning.parts:
        try:
            its, doubt = _rates(asked, own, part.model or meaning.response_model, None, meaning.service_tier)
            found.estimated = found.estimated or doubt
            _charge(found, its, part)
        except Unpriced as why:
            found.partial = f"the part {part.kind}: {why}"
    return _concluded(found, meaning, reported)


def _concluded(found: _Sum, meaning: Meaning, reported: int | None) -> Cost:
    if meaning.usage_state == "partial":
        found.partial = found.partial or "the response broke off: more may have been used"
    if meaning.usage_state == "derived":
        found.estimated = found.estimated or "the counts are derived from timings"
    if meaning.usage_conflict:
        found.estimated = found.estimated or "the parts of the usage exceed its totals"
    if not found.lines:
        reason = found.partial or "no rate fits what was used"
        return Cost(reported_pico=reported, status="unpriced", reason=reason)
    status: CostStatus = "partial" if found.partial else "estimated" if found.estimated else "exact"
    prices = found.prices
    price = prices[0] if len(prices) == 1 else {**prices[0], "others": prices[1:]}
    total = sum(line.pico for line in found.lines)
    return Cost(total, reported, status, tuple(found.lines), price, found.partial or found.estimated)


def _rates(
    asked: Asked, own: OwnPrices, served: str | None, wanted: str | None, tier: str | None
) -> tuple[Rates, str | None]:
    """The rates, and why they may not be the right ones. Raises Unpriced."""
    models = [model for model in dict.fromkeys((served, wanted)) if model]
    if not models:
        raise Unpriced("which model answered is not known")
    hour = hour_of(asked.started_us)
    for model in models:
        rates = own.find(asked.upstream, model, hour.date())
        if rates is not None:
            return rates, None
    provider, doubt = _provider(asked)
    problem: Unpriced | None = None
    for model in models:
        try:
            rates = library_rates(provider, model, tier, hour)
        except Unpriced as error:
            problem = problem or error
            continue
        if model != served:
            doubt = doubt or f"the price is that of the model that was asked for, {model[:80]}"
        return rates, doubt or rates.doubt
    assert problem is not None
    raise problem


def _provider(asked: Asked) -> tuple[str | None, str | None]:
    """Whose prices hold, and why that is a guess. Raises Unpriced."""
    if asked.url == "demo:":
        return None, None
    provider = find_provider(asked.url)
    if provider is not None:
        return provider, None
    provider = find_provider(asked.known_url) if asked.known_url else None
    if provider is None:
        raise Unpriced(f'no prices of the upstream {asked.upstream} are known; set [prices."{asked.upstream}/MODEL"]')
    return provider, f"the prices are those of {provider}, at whose own address the upstream is not"


def _charge(found: _Sum, rates: Rates, part: Part) -> None:
    """Add the lines of one model's usage: every token in exactly one of them."""
    usage = part.usage
    size = (usage.input_tokens or 0) if part.size is None else part.size
    used: dict[str, str] = {}
    band = 0
    for kind, amount in _disjoint(found, rates, usage):
        if amount > 0 and kind in rates.by_kind:
            band = max(band, found.charge(rates, kind, amount, size, used))
        elif amount > 0:
            found.partial = found.partial or f"no rate for {kind} of {rates.model} is known"
    if not any(line.model == rates.model for line in found.lines):
        # Nothing was used: that is 0, and exact.
        known = next((kind for kind in ("input", "output") if kind in rates.by_kind), None)
        if known is not None and not found.partial:
            found.charge(rates, known, 0, size, used)
    price = {"source": rates.source, "model": rates.model, "rates": used}
    extra = {"provider": rates.provider, "tier": rates.tier, "band": band or None}
    found.prices.append({**price, **{name: value for name, value in extra.items() if value is not None}})


def _disjoint(found: _Sum, rates: Rates, usage: Usage) -> Iterator[tuple[str, int]]:
    """Kinds and amounts that add up to the usage's totals; a part without a rate of its own stays in the larger one."""
    yield from _input(found, rates, usage)
    yield from _output(found, rates, usage)
    if "request" in rates.by_kind:
        yield "request", 1
    counted = usage.input_tokens is not None or usage.output_tokens is not None
    for name, kind in UNITS.items():
        amount = usage.others.get(name, 0)
        if amount and not (kind == "audio_hour" and counted and kind not in rates.by_kind):
            yield kind, amount  # where a model has a price for tokens only, they are what is billed of a sound


def _input(found: _Sum, rates: Rates, usage: Usage) -> Iterator[tuple[str, int]]:
    rest = usage.input_tokens or 0
    written, read = usage.cache_write_tokens or 0, usage.cache_read_tokens or 0
    for_hour = min(usage.cache_write_1h_tokens or 0, written)
    audio_read = min(usage.cache_audio_read_tokens or 0, read)
    audio = max((usage.input_audio_tokens or 0) - audio_read, 0)
    parts = [
        ("cache_audio_read", audio_read, "cache_read"),
        ("cache_read", read - audio_read, "input"),
        ("cache_write_1h", for_hour, "cache_write"),
        ("cache_write", written - for_hour, "input"),
        ("input_audio", audio, "input"),
        ("input_image", usage.input_image_tokens or 0, "input"),
    ]
    for kind, amount, instead in parts:
        amount = min(amount, rest)  # parts that exceed their total count only as far as it goes
        taken = _own_or(found, rates, kind, amount, instead)
        if taken is not None:
            rest -= amount
            yield taken, amount
    yield "input", rest


def _output(found: _Sum, rates: Rates, usage: Usage) -> Iterator[tuple[str, int]]:
    rest = usage.output_tokens or 0
    parts = [
        ("output_audio", usage.output_audio_tokens or 0),
        ("output_image", usage.output_image_tokens or 0),
    ]
    for kind, amount in parts:
        amount = min(amount, rest)
        taken = _own_or(found, rates, kind, amount, "output")
        if taken is not None:
            rest -= amount
            yield taken, amount
    reasoning = min(usage.reasoning_tokens or 0, rest) if "reasoning" in rates.by_kind else 0
    if reasoning:
        yield "reasoning", reasoning
    yield "output", rest - reasoning


def _own_or(found: _Sum, rates: Rates, kind: str, amount: int, instead: str) -> str | None:
    """The kind under which a part is charged: its own, or the one that stands in; None to leave it in the rest."""
    if amount <= 0:
        return None
    if kind in rates.by_kind:
        return kind
    if kind not in ("input_image", "output_image"):  # most models have one rate for what they see and say
        found.estimated = found.estimated or f"no rate for {kind} of {rates.model} is known: {instead}'s was taken"
    return instead if instead in rates.by_kind and instead not in ("input", "output") else None


def _plain(rate: Decimal) -> str:
    text = f"{rate:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
