"""Days are those of the database's reporting time zone, set once, right when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from proxy.errors import UsageError
from proxy.store.engine import reading
from proxy.store.write import Writer
from proxy.store.zone import database_zone, day_counter, hour, zone_differs, zone_named
from tests.unit.store.meaning import meant, record, understand
from tests.unit.store.support import ids, sql


def at(text: str) -> int:
    """Microseconds since 1970 of a time in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def day(text: str) -> int:
    return datetime.fromisoformat(text).toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()


@pytest.mark.parametrize(
    ("zone", "moment", "expected"),
    [
        ("UTC", "2026-03-28T23:59:59.999999", "2026-03-28"),
        ("UTC", "2026-03-29T00:00:00", "2026-03-29"),
        # In Berlin the clocks went forward at 01:00 UTC on 29 March 2026 (a day of 23 hours) ...
        ("Europe/Berlin", "2026-03-28T22:59:59", "2026-03-28"),
        ("Europe/Berlin", "2026-03-28T23:00:00", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T21:59:59", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T22:00:00", "2026-03-30"),
        # ... and back at 01:00 UTC on 25 October (a day of 25 hours).
        ("Europe/Berlin", "2026-10-24T21:59:59", "2026-10-24"),
        ("Europe/Berlin", "2026-10-24T22:00:00", "2026-10-25"),
        ("Europe/Berlin", "2026-10-25T22:59:59", "2026-10-25"),
        ("Europe/Berlin", "2026-10-25T23:00:00", "2026-10-26"),
        # In Chile they change at midnight: 6 September 2026 begins at one o'clock.
        ("America/Santiago", "2026-09-06T03:59:59", "2026-09-05"),
        ("America/Santiago", "2026-09-06T04:00:00", "2026-09-06"),
        ("Asia/Kathmandu", "2026-01-01T18:15:00", "2026-01-02"),
    ],
)
def test_the_day_of_a_moment(zone: str, moment: str, expected: str) -> None:
    assert day_counter(zone_named(zone))(at(moment)) == day(expected)


def test_no_time_is_out_of_range() -> None:
    for number in (-(2**63), -1, 0, 2**63 - 1):
        assert -1 <= day_counter(ZoneInfo("Pacific/Kiritimati"))(number) < 2**31
        assert 0 <= hour(number) < 2**31


@pytest.mark.parametrize(
    "zone", ["Europe/Atlantis", "", "Europe", "../../etc/passwd", "/etc/localtime", "UTC+1\0", "\ud800"]
)
def test_an_unknown_zone_is_met_with_a_sentence(zone: str) -> None:
    with pytest.raises(UsageError, match="is not known here: use an IANA name such as Europe/Berlin"):
        zone_named(zone)


def test_a_zone_is_set_once(engine: Engine, writer: Writer) -> None:
    with reading(engine) as connection:
        assert database_zone(connection) == "UTC", "of a database that has none yet"
    for wanted, holds in (("Europe/Berlin", "Europe/Berlin"), ("UTC", "Europe/Berlin"), (None, "Europe/Berlin")):
        with writer.transaction():
            assert writer.claim_zone(wanted) == holds
    with reading(engine) as connection:
        assert database_zone(connection) == "Europe/Berlin"
    assert "goes on to: the zone is set once" in (zone_differs("UTC", "Europe/Berlin") or "")
    assert zone_differs(None, "Europe/Berlin") is None
    assert zone_differs("Europe/Berlin", "Europe/Berlin") is None


def test_a_database_that_was_told_none_counts_in_utc(writer: Writer) -> None:
    with writer.transaction():
        assert writer.claim_zone(None) == "UTC"
        assert writer.claim_zone("Europe/Berlin") == "UTC"


def test_rollups_by_day_and_by_hour(engine: Engine, writer: Writer) -> None:
    new = ids()
    berlin = ZoneInfo("Europe/Berlin")
    for moment in ("2026-10-24T22:00:00", "2026-10-25T22:59:59", "2026-10-25T23:00:00"):
        each = new()
        record(writer, each, started_us=at(moment))
        understand(writer, meant(each), zone=berlin)
    days = "SELECT day, exchanges FROM spend_keys ORDER BY day"
    assert sql(engine, days) == [(day("2026-10-25"), 2), (day("2026-10-26"), 1)]
    hours = [row[0] for row in sql(engine, "SELECT hour FROM spend_hours ORDER BY hour")]
    assert [each - hours[0] for each in hours] == [0, 24, 25]
