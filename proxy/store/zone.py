"""The reporting time zone: whose days the rollups count. Set once per database; from then on the database's own holds.

Must not know rollups.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from proxy.errors import UsageError
from proxy.store.engine import execute, one

ZONE = "reporting_time_zone"
"""The key in `meta`."""

DEFAULT_ZONE = "UTC"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal()
_LAST_US = 250_000_000_000 * 1_000_000  # in the year 9892: beyond it dates have no form


def zone_named(name: str) -> tzinfo:
    """The time zone of an IANA name such as `Europe/Berlin`. Raises UsageError if this machine does not know it."""
    if name == DEFAULT_ZONE:
        return UTC  # also where no time zones are installed
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such zone, a folder, no path at all
        raise UsageError(
            f"the reporting time zone {name!r} is not known here: use an IANA name such as Europe/Berlin or UTC"
        ) from None


def database_zone(connection: Connection) -> str:
    """The name of the zone that the database counts days in."""
    found = one(connection, "SELECT value FROM meta WHERE key = ?", ZONE)
    return DEFAULT_ZONE if found is None else str(found)


def claim_zone(connection: Connection, wanted: str | None) -> str:
    """Make `wanted` (None: whatever there is, else UTC) the database's zone if it has none. The zone that holds."""
    name = wanted or DEFAULT_ZONE
    zone_named(name)
    sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
    execute(connection, sql, (ZONE, name))
    return database_zone(connection)


def zone_differs(wanted: str | None, holds: str) -> str | None:
    """The sentence for a configuration that names another zone than the database has."""
    if wanted is None or wanted == holds:
        return None
    return (
        f"reporting_time_zone is {wanted}, but this database counts its days in {holds} and goes on to:"
        " the zone is set once per database"
    )


def day_counter(zone: tzinfo) -> Callable[[int], int]:
    """What turns microseconds since 1970 into the zone's day, counted from 1970-01-01."""

    def day(at_us: int) -> int:
        seconds = min(max(at_us, 0), _LAST_US) // 1_000_000
        return datetime.fromtimestamp(seconds, zone).toordinal() - _EPOCH

    return day


def hour(at_us: int) -> int:
    """The hour in UTC, counted from 1970."""
    return min(max(at_us, 0), _LAST_US) // 3_600_000_000
