"""Which rates hold for a model: those of the configuration, else genai-prices'. Pure, and without a network.

Rates are in USD for a million tokens or characters, a thousand searches, requests or pages, an hour of sound, by the
names of KINDS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider

KINDS: Mapping[str, str] = {
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "input_image": "input_image_mtok",
    "cache_audio_read": "cache_audio_read_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
    "web_search": "web_searches_kcount",
    "file_search": "storage_searches_kcount",
    "request": "requests_kcount",
    "audio_hour": "input_audio_hours",
    "character": "input_mchars",
    "page": "input_document_kpages",
}
"""Our names of what has a rate -> genai-prices' names."""

_INSTEAD = {"audio_hour": "audio_hours"}
_TIERS = {
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
    "batch": {"processing": "batch"},
    "ON_DEMAND_FLEX": {"service_tier": "flex"},
    "ON_DEMAND_PRIORITY": {"service_tier": "priority"},
}
"""A service tier that has prices of its own -> how genai-prices is asked for them."""


class Tiered(NamedTuple):
    """A rate that depends on the size of the whole input: (tokens that must be exceeded, rate), growing."""

    base: Decimal
    bands: tuple[tuple[int, Decimal], ...]

    def at(self, input_tokens: int) -> tuple[Decimal, int]:
        """The rate for so large an input, and where its band begins."""
        for start, rate in reversed(self.bands):
            if input_tokens > start:
                return rate, start
        return self.base, 0


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one model at one time. `doubt` is why they may not be the ones that were billed."""

    source: str
    provider: str | None
    model: str
    tier: str | None
    by_kind: Mapping[str, Tiered]
    doubt: str | None = None


class OwnPrice(NamedTuple):
    """One table of `[prices]`: for `model` or `upstream/model`, which may end in `*`, from a day on."""

    name: str
    rates: Mapping[str, Decimal]
    since: date | None = None


@dataclass(frozen=True, slots=True)
class OwnPrices:
    """All of `[prices]`. The longest name that fits wins, among equals the latest day that has come."""

    prices: tuple[OwnPrice, ...] = ()
    _found: dict[tuple[str, str, date], Rates | None] = field(default_factory=dict, compare=False, repr=False)

    def find(self, upstream: str, model: str, day: date) -> Rates | None:
        """The rates that the configuration has for a model of an upstream."""
        if not self.prices:
            return None
        key = (upstream, model, day)
        if key not in self._found:
            if len(self._found) > 4096:
                self._found.clear()
            self._found[key] = self._find(upstream, model, day)
        return self._found[key]

    def _find(self, upstream: str, model: str, day: date) -> Rates | None:
        wanted = (f"{upstream}/{model}", model)
        fitting = [
            price
            for price in self.prices
            if (price.since is None or price.since <= day) and any(_fits(price.name, each) for each in wanted)
        ]
        if not fitting:
            return None
        best = max(fitting, key=lambda price: (len(price.name.rstrip("*")), price.since or date.min))
        rates = {kind: Tiered(rate, ()) for kind, rate in best.rates.items()}
        return Rates("configuration", None, best.name, None, rates)


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


class Unpriced(LookupError):
    """No rates are known; the message is a sentence."""


@cache
def _snapshot() -> DataSnapshot:
    """All of the library's prices. It is loaded when the first one is wanted: that takes a third as long as all else
    that an ingest loads, and many a start needs none."""
    found: DataSnapshot = import_module("genai_prices.data_snapshot").get_snapshot()
    return found


@cache
def _library() -> str:
    """What the prices are from, as it is kept with a cost."""
    return f"genai-prices {version('genai_prices')}"


@lru_cache(256)
def find_provider(url: str) -> str | None:
    """The library's name for who answers at an address, None for one it does not know."""
    for provider in _snapshot().providers:
        if re.match(provider.api_pattern, url):
            return provider.id
    return None


@lru_cache(4096)
def library_rates(provider_id: str | None, model: str, tier: str | None, hour: datetime) -> Rates:
    """The library's rates for a model at an hour; without a provider the one that the model's name belongs to.

    Raises Unpriced.
    """
    provider, found = _match(provider_id, model)
    context = _TIERS.get(tier or "")
    prices = found.get_prices(hour)
    doubt = None
    if context is not None:
        special = found.get_prices(hour, context) if any(found is each for each in provider.models) else prices
        if special == prices:
            doubt = f"no price of {found.id} for the tier {tier} is known: the standard one was taken"
        prices = special
    rates = {}
    for kind, key in KINDS.items():
        value = prices.__dict__.get(key)
        if value is None and kind in _INSTEAD:
            value = prices.__dict__.get(_INSTEAD[kind])
        if value is not None:
            rates[kind] = _tiered(value)
    return Rates(_library(), provider.id, found.id, tier if context is not None else None, rates, doubt)


def _match(provider_id: str | None, model: str) -> tuple[Provider, ModelInfo]:
    snapshot = _snapshot()
    wanted = model.lower()[:256]
    for provider in snapshot.providers:
        fits = provider.id == provider_id if provider_id is not None else _is_its(provider, wanted)
        if not fits:
            continue
        found = provider.find_model(wanted, all_providers=snapshot.providers)
        if found is not None:
            return provider, found
        raise Unpriced(f"no price of {model[:80]!r} at {provider.id} is known to {_library()}")
    raise Unpriced(f"no provider of {model[:80]!r} is known to {_library()}")


def _is_its(provider: Provider, model: str) -> bool:
    return provider.model_match is not None and provider.model_match.is_match(model)


def _tiered(value: Any) -> Tiered:
    if not isinstance(value, Decimal):
        return Tiered(value.base, tuple((tier.start, tier.price) for tier in value.tiers))
    return Tiered(value, ())


def hour_of(started_us: int) -> datetime:
    """The hour (UTC) of a time since 1970: prices change by the day, or by the time of day."""
    seconds = min(max(started_us // 10**6, 0), 253_402_300_799)
    return datetime.fromtimestamp(seconds - seconds % 3600, UTC)
