"""What an exchange meant, as `show` tells it: to programs under the names of the dialects' fixtures, and to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.cli import money, render

if TYPE_CHECKING:
    from proxy.store.meant import Meant
    from proxy.store.rows import Exchange

_SIDES = ("prompt", "completion")
_SHOWN = 2000  # characters of an answer that a person is shown

_OF_DATA = (
    "events",
    "comment_lines",
    "terminator",
    "complete",
    "usage_conflict",
    "parts",
    "shares",
    "media",
    "problem",
)


def meaning_facts(exchange: Exchange, meant: Meant) -> dict[str, Any]:
    """What `show --format json` says besides the row: `error` is the provider's, `usage` has all that is counted.

    `units` are what is billed and no token: milliseconds heard, pages, pictures. What only some providers tell stands
    beside it under names of its own. `text`, `reasoning` and `tool_calls` are null where nothing was understood, or
    where bodies are not kept.
    """
    data = meant.data
    reported = exchange.cost_reported_pico
    kept = bool(data) and not exchange.record
    cost = data.get("cost") or {}
    usage = data.get("usage") or {}
    return {
        **(data.get("facts") or {}),
        "requested_model": exchange.model_asked,
        "response_model": exchange.model_served,
        "usage": None if exchange.usage_state == "non_token" else data.get("usage"),
        "units": usage.get("others") or {},
        "uncached_input_tokens": _uncached(usage),
        "cost_usd": None if exchange.cost_pico is None else money.plain_usd(exchange.cost_pico),
        "cost_reported_usd": None if reported is None else float(money.plain_usd(reported)),
        "cost_reason": cost.get("reason"),
        "text": (meant.text or "") if kept else None,
        "reasoning": (meant.reasoning or "") if kept else None,
        "tool_calls": data.get("tool_calls") if kept else None,
        "error": data.get("error"),
        "safety": _safety(meant),
        "rate_limits": [
            {"kind": kind, "limit": limit, "remaining": remaining, "reset_us": reset_us}
            for kind, limit, remaining, reset_us in meant.limits
        ],
        "usage_raw": meant.usage_raw,
        "credential_name": meant.credential_name,
        **{name: data.get(name) for name in _OF_DATA},
    }


def _uncached(usage: dict[str, Any]) -> int | None:
    given = usage.get("input_tokens")
    if given is None:
        return None
    return int(max(given - (usage.get("cache_read_tokens") or 0) - (usage.get("cache_write_tokens") or 0), 0))


def _safety(meant: Meant) -> dict[str, Any] | None:
    """Ratings by side, each with what the provider said of it."""
    blocked = meant.data.get("prompt_block_reason")
    if not meant.ratings and blocked is None:
        return None
    found: dict[str, Any] = {"prompt_block_reason": blocked, "prompt": [], "completion": []}
    for rating in meant.ratings:
        said = {
            "category": rating.category,
            "probability": rating.level,
            "score": rating.score,
            "blocked": rating.blocked,
        }
        known = {name: value for name, value in said.items() if value is not None}
        found[_SIDES[rating.side] if rating.side in (0, 1) else str(rating.side)].append(known)
    return found


# --- for people ---


def meaning_pairs(exchange: Exchange, meant: Meant) -> list[tuple[str, str]]:
    """Names and values of what was understood; what is not known is left out."""
    models = dict.fromkeys(each for each in (exchange.model_asked, exchange.model_served) if each)
    said = [
        ("operation", exchange.operation),
        ("model", " → ".join(models)),
        ("response id", exchange.response_id),
        ("request id", exchange.request_id),
        ("streaming", None if exchange.streaming is None else "yes" if exchange.streaming else "no"),
        ("finish", _finish(exchange)),
        ("service tier", exchange.service_tier),
        ("retry", None if not exchange.retry_count else f"number {exchange.retry_count}"),
        ("tokens", _tokens(exchange)),
        ("units", _units(meant)),
        ("media", _media(meant)),
        ("besides", _facts(meant)),
        ("cost", _cost(exchange, meant)),
        ("error", _error(meant.data.get("error"))),
        ("safety", _ratings(meant)),
        ("credential", meant.credential_name),
        ("problem", exchange.interpretation_error or meant.data.get("problem")),
    ]
    return [(name, value) for name, value in said if value]


def limit_pairs(meant: Meant) -> list[tuple[str, str]]:
    """The rate limits that the response told of."""
    rows = []
    for kind, limit, remaining, reset_us in meant.limits:
        left = f"{money.tokens(remaining)} of {money.tokens(limit)} left"
        rows.append((kind, left if reset_us is None else f"{left}, full again after {render.duration(reset_us)}"))
    return rows


def answer_lines(meant: Meant) -> None:
    """Print what was answered: reasoning, text, tool calls."""
    calls = "\n".join(
        f"{call.get('name') or '-'}({call.get('arguments') or ''})" for call in meant.data.get("tool_calls") or ()
    )
    for title, text in (("reasoning", meant.reasoning), ("answer", meant.text), ("tool calls", calls)):
        if text:
            render.say(f"\n{title}")
            shown = render.safe_lines(text[:_SHOWN])
            for line in shown.split("\n"):
                render.say(f"  {line}".rstrip())
            if len(text) > _SHOWN:
                render.say(f"  … ({len(text) - _SHOWN:,} characters more: --format json)")


def _finish(exchange: Exchange) -> str | None:
    reason, norm = exchange.finish_reason, exchange.finish_reason_norm
    return reason or norm if reason == norm or not norm or not reason else f"{reason} ({norm})"


def _tokens(exchange: Exchange) -> str | None:
    """`1,364 in (1,280 from the cache), 40 out`; and what is not known of them."""
    if exchange.usage_state in (None, "none"):
        return None
    state = "" if exchange.usage_state == "complete" else f" ({exchange.usage_state})"
    if exchange.input_tokens is None and exchange.output_tokens is None:
        return f"unknown{state}{_estimate(exchange)}" if exchange.usage_state != "non_token" else None
    parts = {
        "from the cache": exchange.cache_read_tokens,
        "into the cache": exchange.cache_write_tokens,
    }
    cached = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    reasoned = f" ({exchange.reasoning_tokens:,} reasoning)" if exchange.reasoning_tokens else ""
    given = f"{money.tokens(exchange.input_tokens)} in" + (f" ({cached})" if cached else "")
    return f"{given}, {money.tokens(exchange.output_tokens)} out{reasoned}{state}"


def _estimate(exchange: Exchange) -> str:
    given, made = exchange.estimated_input_tokens, exchange.estimated_output_tokens
    if given is None and made is None:
        return ""
    return f"; estimated from the texts: {money.tokens(given)} in, {money.tokens(made)} out"


def _units(meant: Meant) -> str | None:
    others = (meant.data.get("usage") or {}).get("others") or {}
    said = [
        f"{amount / 1000:,.1f} s heard" if kind == "audio_ms" else f"{amount:,} {kind.replace('_', ' ')}"
        for kind, amount in others.items()
    ]
    return ", ".join(said) or None


def _facts(meant: Meant) -> str | None:
    """What only some providers tell."""
    facts = meant.data.get("facts") or {}
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in facts.items()) or None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {each}" for name, each in value.items()) + ")"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _chunks(first: int, last: int) -> str:
    return f"chunk {first}" if first == last else f"chunks {first} to {last}"


def _media(meant: Meant) -> str | None:
    found = [
        f"{each['kind']} in the {each['side']} ({_chunks(each['first'], each['last'])})"
        for each in (meant.data.get("media") or ())[:8]
    ]
    more = len(meant.data.get("media") or ()) - len(found)
    return "; ".join([*found, *([f"{more} more"] if more > 0 else [])]) or None


def _cost(exchange: Exchange, meant: Meant) -> str | None:
    ours, reported = exchange.cost_pico, exchange.cost_reported_pico
    reason = (meant.data.get("cost") or {}).get("reason")
    said = [] if reported is None else [f"{money.usd(reported)} by the provider"]
    if ours is not None:
        said.append(f"{money.usd(ours)} by our prices ({exchange.cost_status})")
    elif exchange.cost_status is not None:
        said.append(str(exchange.cost_status))
    return "; ".join([*said, *([reason] if reason else [])]) or None


def _error(error: dict[str, Any] | None) -> str | None:
    if error is None:
        return None
    words = [str(error[name]) for name in ("status", "type", "code") if error.get(name) is not None]
    return ": ".join(filter(None, (" ".join(dict.fromkeys(words)), error.get("message")))) or "without a word"


def _ratings(meant: Meant) -> str | None:
    blocked = meant.data.get("prompt_block_reason")
    said = [f"prompt blocked: {blocked}"] if blocked else []
    said += [
        f"{rating.category} {rating.level or ''}{' (blocked)' if rating.blocked else ''}".strip()
        for rating in meant.ratings
        if rating.blocked or rating.level not in (None, "NEGLIGIBLE", "safe")
    ]
    return "; ".join(said) or None
