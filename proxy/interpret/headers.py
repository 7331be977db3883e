"""What response and request headers mean: request ids, rate limits, retries. Pure; must not know bodies."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.interpret.meaning import Pairs, RateLimit
from proxy.interpret.values import HIGHEST

_IDS = (
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-amzn-requestid",
    "x-generation-id",
    "mistral-correlation-id",
    "x-ds-trace-id",
    "x-debug-trace-id",
    "inference-id",
    "x-ms-request-id",
)
_LIMIT = re.compile(r"x-ratelimit-(limit|remaining|reset)(?:-(.+))?")
_ANTHROPIC = re.compile(r"anthropic-(?:ratelimit-)?(.+)-(limit|remaining|reset)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_UNITS = {"ns": 0.001, "us": 1, "µs": 1, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6, "d": 86400e6}
_MOST = 64  # limits of one response


def value_of(headers: Pairs, name: str) -> str | None:
    """The value of the first header of this (lower case) name."""
    for each, value in headers:
        if each.lower() == name:
            return value
    return None


def joined(headers: Pairs, name: str) -> str | None:
    """All values of the headers of this (lower case) name, joined by commas."""
    found = [value for each, value in headers if each.lower() == name]
    return ", ".join(found) if found else None


def request_id(headers: Pairs) -> str | None:
    """The provider's id of the request, by the first name on our list that it sent."""
    named = {name.lower(): value for name, value in reversed(headers)}
    return next((named[name] for name in _IDS if named.get(name)), None)


def retry_count(headers: Pairs) -> int | None:
    """How often the SDK had tried before, as it says itself."""
    said = value_of(headers, "x-stainless-retry-count")
    return int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 10 else None


def retry_after(headers: Pairs) -> float | None:
    """Seconds to wait, by `retry-after-ms` or a `retry-after` in seconds, or one that is a date against Date."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        said = value_of(headers, name)
        if said is not None and re.fullmatch(r"\d{1,9}(\.\d{1,6})?", said):
            return float(said) / scale
    try:
        then, now = (parsedate_to_datetime(value_of(headers, name) or "") for name in ("retry-after", "date"))
        return max((then - now).total_seconds(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):  # no date, or one of the two has no time zone
        return None


def rate_limits(headers: Pairs) -> list[RateLimit]:
    """The limits that a response told of, by kind (`requests`, `tokens`, ...). -1 is unknown."""
    found: dict[str, dict[str, str]] = {}
    for name, value in headers:
        name = name.lower()
        if name.startswith("x-ratelimit-") and (match := _LIMIT.fullmatch(name)):
            found.setdefault(match[2] or "requests", {}).setdefault(match[1], value)
        elif name.startswith("anthropic-") and (match := _ANTHROPIC.fullmatch(name)):
            found.setdefault(match[1], {}).setdefault(match[2], value)
    if not found:
        return []
    date = value_of(headers, "date")
    limits = []
    for kind, said in list(found.items())[:_MOST]:
        limit = RateLimit(kind, _amount(said.get("limit")), _amount(said.get("remaining")), _reset(said, date))
        if limit[1:] != (None, None, None):
            limits.append(limit)
    return limits


def _amount(said: str | None) -> int | None:
    if said is None or not re.fullmatch(r"\d{1,18}(\.\d+)?", said.strip()):
        return None
    return int(float(said)) if "." in said else int(said)


def _reset(said: dict[str, str], date: str | None) -> int | None:
    """Microseconds until the limit is full again: a duration, a number of seconds, or a time of day against Date."""
    value = said.get("reset", "").strip()[:64]
    if not value:
        return None
    if re.fullmatch(r"\d{1,7}(\.\d+)?", value):
        return min(int(float(value) * 1e6), HIGHEST)
    pieces = _DURATION.findall(value)
    if pieces and "".join(amount + unit for amount, unit in pieces) == value:
        return min(int(sum(float(amount) * _UNITS[unit] for amount, unit in pieces)), HIGHEST)
    return _until(value, date)


def _until(value: str, date: str | None) -> int | None:
    if date is None:
        return None
    try:
        then = _at(value)
        now = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
    then, now = (each if each.tzinfo else each.replace(tzinfo=UTC) for each in (then, now))
    return max(int((then - now).total_seconds() * 1e6), 0)


def _at(value: str) -> datetime:
    """A time by RFC 3339, or in seconds or milliseconds since 1970 (Anthropic's subscriptions, OpenRouter)."""
    if re.fullmatch(r"\d{10}|\d{13}", value):
        return datetime.fromtimestamp(int(value) / (1000 if len(value) == 13 else 1), UTC)
    return datetime.fromisoformat(value)
