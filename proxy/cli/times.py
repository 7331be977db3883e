"""Times as people write them, and the time zone that days are counted in. Must not know the store's tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Annotated

import typer

from proxy.errors import UsageError

SinceFlag = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help='From this time on: "2h" or "7d" ago, or ISO, local.')
]
UntilFlag = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time.")]

_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?([smhdw])")
_DAYS_AGO = re.compile(r"(\d{1,5}) ?([dw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WORDS = {"today": 0, "yesterday": 1}
_EXAMPLES = '"2h", "7d", "today", "14:30", "2026-01-31" or "2026-01-31T14:30"'


def moment(flag: str, text: str | None, zone: tzinfo | None = None) -> int | None:
    """Microseconds since 1970. Without an offset a time is one of `zone`, else this machine's; without a date today's.

    Raises UsageError that shows what a time looks like.
    """
    if text is None:
        return None
    try:
        return round(_at(text.strip().lower(), zone).timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{flag} {text!r} is no time: use for example {_EXAMPLES}") from None


def day_or_moment(flag: str, text: str | None, zone: tzinfo) -> int | None:
    """As `moment`, but days ago are whole ones: "7d" is the beginning of the day that many days before today."""
    ago = _DAYS_AGO.fullmatch(text.strip().lower()) if text is not None else None
    if ago is None:
        return moment(flag, text, zone)
    days = int(ago[1]) * (7 if ago[2] == "w" else 1)
    try:
        return round(_day(days, zone).timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{flag} {text!r} is no time: use for example {_EXAMPLES}") from None


def _at(text: str, zone: tzinfo | None) -> datetime:
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    if text in _WORDS:
        return _day(_WORDS[text], zone)
    if re.match(r"\d\d:", text):
        found = datetime.combine(datetime.now(UTC).astimezone(zone).date(), time.fromisoformat(text))
    else:
        found = datetime.fromisoformat(text.upper())
    return found if found.tzinfo is not None else _local(found, zone)


def _day(days_ago: int, zone: tzinfo | None) -> datetime:
    today = datetime.now(UTC).astimezone(zone).date()
    return _local(datetime.combine(today - timedelta(days=days_ago), time()), zone)


def _local(found: datetime, zone: tzinfo | None) -> datetime:
    return found.astimezone() if zone is None else found.replace(tzinfo=zone)
