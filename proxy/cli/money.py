"""Amounts of money and of tokens as commands print them. Money is in 10^-12 USD and printed exactly."""

from __future__ import annotations

from decimal import Decimal

_MOST_DIGITS = 12


def usd(pico: int | None) -> str:
    """`$12.34`, `$0.001234`: at least two digits behind the point, then as many as there are; `-` for none."""
    return "-" if pico is None else f"${plain_usd(pico, 2)}"


def short_usd(pico: int | None) -> str:
    """As `usd`, to four digits that matter; what is not zero is never shown as zero."""
    if pico is None:
        return "-"
    amount = Decimal(pico).scaleb(-_MOST_DIGITS)
    places = max(2, min(3 - amount.adjusted(), _MOST_DIGITS)) if amount else 2
    return f"${round(amount, places):,f}"


def plain_usd(pico: int, least: int = 0) -> str:
    """The exact amount as a decimal number, without a sign for the currency."""
    whole, _, digits = f"{Decimal(pico).scaleb(-_MOST_DIGITS):.{_MOST_DIGITS}f}".partition(".")
    digits = digits.rstrip("0").ljust(least, "0")
    return f"{whole}.{digits}" if digits else whole


def tokens(count: int | None) -> str:
    """`12,345`; `-` for what nobody told."""
    return "-" if count is None else f"{count:,}"
