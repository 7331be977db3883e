"""What was spent: sums over the exchanges that count, by any of the DIMENSIONS. From the rollups where they can tell,
else from the exchanges themselves; both agree, but for deleted exchanges: those are in the rollups only.

Every function takes a connection of `engine.reading`. Must not write anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from proxy.exchange import Origin
from proxy.store import clean
from proxy.store.backend import lots, marks
from proxy.store.engine import execute, one
from proxy.store.names import first_id, name_ids, name_texts
from proxy.store.rollups import MODEL, spent_sql, sums_sql
from proxy.store.schema import UNREAD, NameKind
from proxy.store.schema_meaning import SPENT
from proxy.store.zone import database_zone, day_counter, zone_named

DIMENSIONS = ("model", "day", "hour", "upstream", "credential", "session", "status")
"""By what spend is told, besides `tag:NAME`."""

TAG = "tag:"
HOUR_US = 3_600_000_000
_QUARTER_US = HOUR_US // 4  # every time zone's days and hours begin at one
_EPOCH = date(1970, 1, 1).toordinal()
_FOREVER = 2**62
_CLOCK_US = HOUR_US  # by so much an id may be ahead of, or behind, the time at which its exchange began
_NAMED = {"model": MODEL, "upstream": "upstream", "credential": "credential", "session": "session"}


class Spent(NamedTuple):
    """Sums, in the order of SPENT. `unknown`: exchanges whose tokens nobody told; `unpriced`: whose tokens nobody can
    price; neither is in `cost_pico`, which is what the provider reported, else ours."""

    exchanges: int = 0
    errors: int = 0
    unknown: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_pico: int = 0

    @property
    def uncached_tokens(self) -> int:
        """Input that no cache had to do with."""
        return max(self.input_tokens - self.cache_read_tokens - self.cache_write_tokens, 0)

    @property
    def known_cost_pico(self) -> int | None:
        """None where not a single exchange has a cost that is known."""
        return None if self.cost_pico == 0 and self.unknown + self.unpriced >= self.exchanges else self.cost_pico

    def __add__(self, other: Spent) -> Spent:  # type: ignore[override]  # two sums, not two tuples behind one another
        return self.plus(other)

    def plus(self, other: Sequence[int]) -> Spent:
        return Spent(*(one + more for one, more in zip(self, other, strict=True)))

    def minus(self, other: Sequence[int]) -> Spent:
        return Spent(*(one - less for one, less in zip(self, other, strict=True)))


assert Spent._fields == SPENT


@dataclass(frozen=True, slots=True)
class Question:
    """What to add up. `by`: DIMENSIONS and `tag:NAME`; times in microseconds since 1970, `until_us` exclusive.

    `models`, `credentials`: ids of `names`, any of which may fit. `tag` is a name and a value, or None for any.
    """

    by: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    models: tuple[int, ...] | None = None
    credentials: tuple[int, ...] | None = None
    upstream: int | None = None
    session: int | None = None
    status: int | None = None
    tag: tuple[str, str | None] | None = None


class Row(NamedTuple):
    """One line: a value for each dimension (text, a status, or None for none), and its sums."""

    keys: tuple[str | int | None, ...]
    spent: Spent


class Answer(NamedTuple):
    """`rows` in no order; `total` counts each exchange once, also one with two values of a tag."""

    rows: list[Row]
    total: Spent
    zone: str


def spend(connection: Connection, question: Question) -> Answer:
    """Add up what was spent."""
    name = database_zone(connection)
    adder = _Adder(connection, question, zone_named(name))
    sums = adder.sums()
    if any(each.startswith(TAG) for each in question.by):  # who has two values of a tag is in two rows
        whole = _Adder(connection, replace(question, by=()), zone_named(name)).sums()
        total = next(iter(whole.values()), Spent())
    else:
        total = Spent(*map(sum, zip(*sums.values(), strict=True)))
    return Answer(adder.rows(sums), total, name)


class _Adder:
    """One question on its way to its rows. Sums are collected by keys of plain numbers, which are named at the end."""

    def __init__(self, connection: Connection, question: Question, zone: tzinfo) -> None:
        self._connection = connection
        self._question = question
        self._zone = zone
        self._day = day_counter(zone)
        self._tag = next((each.removeprefix(TAG) for each in question.by if each.startswith(TAG)), None)

    def rows(self, sums: dict[tuple[Any, ...], Spent]) -> list[Row]:
        """All lines, named."""
        names = self._names(sums)
        shown = [
            {key: self._shown(by, key, names) for key in {keys[place] for keys in sums}}
            for place, by in enumerate(self._question.by)
        ]
        return [
            Row(tuple(texts[key] for texts, key in zip(shown, keys, strict=True)), spent)
            for keys, spent in sums.items()
        ]

    def sums(self) -> dict[tuple[Any, ...], Spent]:
        """Keys in the order of `by` -> sums; from the first source that can tell."""
        for source in (self._from_keys, self._from_hours, self._from_tags):
            found = source()
            if found is not None:
                return found
        return self._from_exchanges()

    # The rollups

    def _from_keys(self) -> dict[tuple[Any, ...], Spent] | None:
        asked = self._question
        if not set(asked.by) <= {"day", "model", "credential"} or not self._narrows_only("models", "credentials"):
            return None
        bounds = self._days()
        return None if bounds is None else self._rollup("spend_keys", "day", bounds, asked.by)

    def _from_hours(self) -> dict[tuple[Any, ...], Spent] | None:
        asked = self._question
        if not set(asked.by) <= {"day", "hour", "model", "upstream"} or not self._narrows_only("models", "upstream"):
            return None
        since, until = asked.since_us or 0, _FOREVER if asked.until_us is None else asked.until_us
        if since % HOUR_US or (asked.until_us is not None and until % HOUR_US):
            return None
        if "day" in asked.by and not self._whole_hours():
            return None
        columns = ["hour" if each == "day" else each for each in asked.by]
        found = self._rollup("spend_hours", "hour", (since // HOUR_US, until // HOUR_US), columns)
        return _added(
            (tuple(self._time(by, key * HOUR_US) if by == "day" else key for by, key in zip(asked.by, keys)), spent)  # noqa: B905 - as long as each other
            for keys, spent in found.items()
        )

    def _from_tags(self) -> dict[tuple[Any, ...], Spent] | None:
        """By tag; what has not got it is what is left of all."""
        asked, tag = self._question, f"{TAG}{self._tag}"
        if self._tag is None or not set(asked.by) <= {"day", "model", tag} or not self._narrows_only("models"):
            return None
        bounds = self._days()
        if bounds is None:
            return None
        name = self._id(NameKind.TAG, self._tag)
        columns = ["tag_value" if each == tag else each for each in asked.by]
        found = self._rollup("spend_tags", "day", bounds, columns, f"tag_name = {name}")
        place = asked.by.index(tag)
        if any(keys[place] == 0 for keys in found):
            return None  # of too many values there is only the sum
        others = tuple(each for each in asked.by if each != tag)
        left = self._rollup("spend_keys", "day", bounds, others)
        tagged = _added((_without(keys, place), spent) for keys, spent in found.items())
        for keys, spent in left.items():
            rest = spent.minus(tagged.get(keys, Spent()))
            if any(amount < 0 for amount in rest):
                return None  # some have two values of it
            if any(rest):
                found[(*keys[:place], None, *keys[place:])] = rest
        return found

    def _narrows_only(self, *names: str) -> bool:
        """Whether the question narrows by nothing but times and these."""
        narrowing = ("models", "credentials", "upstream", "session", "status", "tag")
        return all(getattr(self._question, each) is None for each in narrowing if each not in names)

    def _days(self) -> tuple[int, int] | None:
        """The days from and until which is asked; None if a bound is not where a day begins."""
        since, until = self._question.since_us, self._question.until_us
        if any(at is not None and day_start(self._day(at), self._zone) != at for at in (since, until)):
            return None
        return (0 if since is None else self._day(since)), (_FOREVER if until is None else self._day(until))

    def _whole_hours(self) -> bool:
        """Whether each of the zone's days begins with an hour of UTC."""
        now = datetime.now(self._zone)
        offsets = [(now - timedelta(days=days)).utcoffset() or timedelta() for days in range(0, 3650, 91)]
        return all(offset % timedelta(hours=1) == timedelta() for offset in offsets)

    def _rollup(
        self, table: str, unit: str, bounds: tuple[int, int], by: Sequence[str], where: str = "1 = 1"
    ) -> dict[tuple[Any, ...], Spent]:
        asked = self._question
        conditions = [where, f"{unit} >= ? AND {unit} < ?"]
        if asked.models is not None:
            conditions.append(f"model IN ({_numbers(asked.models)})")
        if asked.credentials is not None:
            conditions.append(f"credential IN ({_numbers(asked.credentials)})")
        if asked.upstream is not None:
            conditions.append(f"upstream = {int(asked.upstream)}")
        sums = sums_sql(SPENT)
        groups = f"GROUP BY {', '.join(by)}" if by else "HAVING count(*) > 0"
        sql = f"""SELECT {"".join(each + ", " for each in by)}{sums} FROM {table}
            WHERE {" AND ".join(conditions)} {groups}"""  # noqa: S608 - our tables, columns and numbers
        rows = execute(self._connection, sql, bounds).fetchall()
        return {tuple(row[: len(by)]): Spent(*row[len(by) :]) for row in rows}

    # The exchanges

    def _from_exchanges(self) -> dict[tuple[Any, ...], Spent]:
        by = self._question.by
        columns = [self._expression(each) for each in by]
        sums = sums_sql(spent_sql(self._connection).values())
        conditions, values = self._conditions()
        groups = f"GROUP BY {', '.join(str(place) for place in range(1, len(by) + 1))}" if by else "HAVING count(*) > 0"
        tagged = "" if self._tag is None else _TAGGED
        given = () if self._tag is None else (clean.capped(self._tag),) * 2
        sql = f"""SELECT {"".join(each + ", " for each in columns)}{sums} FROM exchanges {tagged}
            WHERE {" AND ".join(conditions)} {groups}"""  # noqa: S608 - our columns
        rows = execute(self._connection, sql, (*given, *values)).fetchall()
        return _added(
            (tuple(self._time(each, key) for each, key in zip(by, row, strict=False)), row[len(by) :]) for row in rows
        )

    def _expression(self, by: str) -> str:
        if by in ("day", "hour"):
            return f"CASE WHEN started_us > 0 THEN started_us ELSE 0 END / {_QUARTER_US} * {_QUARTER_US}"
        if by.startswith(TAG):
            return "tagged.value"
        return "status" if by == "status" else f"coalesce({_NAMED[by]}, 0)"

    def _conditions(self) -> tuple[list[str], list[Any]]:
        asked = self._question
        conditions, values = ["counted"], []
        for at, sign, margin in ((asked.since_us, ">=", -_CLOCK_US), (asked.until_us, "<", _CLOCK_US)):
            if at is not None:
                # The id finds them, the time at which they began decides.
                conditions += [f"id {sign} ?", f"started_us {sign} ?"]
                values += [first_id(at + margin).bytes, at]
        for column, wanted in ((MODEL, asked.models), ("credential", asked.credentials)):
            if wanted is not None:
                conditions.append(f"{column} IN ({_numbers(wanted)})")
        for column, wanted_one in (
            ("upstream", asked.upstream),
            ("session", asked.session),
            ("status", asked.status),
        ):
            if wanted_one is not None:
                conditions.append(f"{column} = ?")
                values.append(wanted_one)
        if asked.tag is not None:
            name, value = asked.tag
            same, given = ("", (name,)) if value is None else (" AND value = ?", (name, value))
            conditions.append(
                f"""(tag_set IN (SELECT set_id FROM tag_set_items WHERE name = ?{same})
                OR id IN (SELECT exchange_id FROM exchange_tags WHERE name = ?{same}))"""  # noqa: S608 - ours
            )
            values += [clean.capped(each) for each in given] * 2
        return conditions, values

    # Keys

    def _time(self, by: str, key: Any) -> Any:
        """A time in microseconds as the day or the hour that it is in; other keys as they are."""
        return self._day(key) if by == "day" else key // HOUR_US if by == "hour" else key

    def _names(self, keys: Iterable[tuple[Any, ...]]) -> dict[int, str]:
        places = [place for place, each in enumerate(self._question.by) if each in _NAMED or each.startswith(TAG)]
        ids = {each[place] for each in keys for place in places if type(each[place]) is int}
        return name_texts(self._connection, ids)

    def _shown(self, by: str, key: Any, names: dict[int, str]) -> str | int | None:
        if by == "day":
            return date.fromordinal(key + _EPOCH).isoformat()
        if by == "hour":
            return datetime.fromtimestamp(key * 3600, UTC).astimezone(self._zone).isoformat(timespec="minutes")
        if by in _NAMED or (by.startswith(TAG) and type(key) is int):
            return names.get(key)
        found: str | int | None = key
        return found

    def _id(self, kind: NameKind, value: str) -> int:
        return next(iter(name_ids(self._connection, kind, value)), -1)


_TAGGED = """LEFT JOIN (SELECT e.id AS of, i.value FROM exchanges e JOIN tag_set_items i ON i.set_id = e.tag_set
    WHERE i.name = ? UNION ALL SELECT exchange_id, value FROM exchange_tags WHERE name = ?) tagged ON tagged.of = id"""


def spent_by(connection: Connection, workers: Sequence[UUID]) -> list[tuple[str | None, Spent]]:
    """What the exchanges of forward workers took, by model; those of the demo too, at what they would have cost, but
    none that was played."""
    sums = sums_sql(spent_sql(connection).values())
    found: dict[int, Spent] = {}
    for lot in lots(each.bytes for each in workers):
        sql = f"""SELECT {MODEL}, {sums} FROM exchanges
            WHERE journal IN (SELECT id FROM journals WHERE worker IN ({marks(lot)})) AND outcome IS NOT NULL
              AND origin <> {Origin.PLAYBACK:d} GROUP BY 1"""  # noqa: S608 - our columns
        for model, *spent in execute(connection, sql, tuple(lot)):
            found[model] = found.get(model, Spent()).plus(spent)
    names = name_texts(connection, found)
    return sorted(((names.get(model), spent) for model, spent in found.items()), key=lambda each: -each[1].cost_pico)


def played_by(connection: Connection, workers: Sequence[UUID]) -> int:
    """How many exchanges of forward workers were answered out of recordings."""
    count = 0
    for lot in lots(each.bytes for each in workers):
        sql = f"""SELECT count(*) FROM exchanges WHERE origin = {Origin.PLAYBACK:d}
            AND journal IN (SELECT id FROM journals WHERE worker IN ({marks(lot)}))"""  # noqa: S608 - ours
        count += one(connection, sql, *lot)
    return count


def unread_of(connection: Connection, workers: Sequence[UUID]) -> int:
    """How many ended exchanges of forward workers nobody has interpreted yet."""
    count = 0
    for lot in lots(each.bytes for each in workers):
        sql = f"""SELECT count(*) FROM exchanges WHERE ({UNREAD})
            AND journal IN (SELECT id FROM journals WHERE worker IN ({marks(lot)}))"""  # noqa: S608 - ours
        count += one(connection, sql, *lot)
    return count


def day_start(day: int, zone: tzinfo) -> int:
    """When a day of a zone, counted from 1970-01-01, begins, in microseconds since 1970."""
    ordinal = min(max(day + _EPOCH, 2), date.max.toordinal() - 1)
    start = datetime.combine(date.fromordinal(ordinal), datetime.min.time(), zone)
    return round(start.timestamp()) * 1_000_000


def _added(rows: Iterable[tuple[tuple[Any, ...], Sequence[int]]]) -> dict[tuple[Any, ...], Spent]:
    """Rows of the same keys in one."""
    found: dict[tuple[Any, ...], Spent] = {}
    for keys, spent in rows:
        found[keys] = found.get(keys, Spent()).plus(spent)
    return found


def _without(keys: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return keys[:place] + keys[place + 1 :]


def _numbers(ids: Sequence[int]) -> str:
    return ", ".join(str(int(each)) for each in ids) or "-1"
