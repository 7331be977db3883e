"""The spend rollups: what each counted exchange adds to them, and taking it away again when it is read anew.

Both are computed from the stored row by the same SQL, so that what is taken away is what was added. Knows which columns
count as what; must not know who counts (billing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection, Table

from proxy.store.backend import lots, marks
from proxy.store.engine import execute, execute_many, upsert_many
from proxy.store.intern import Interner
from proxy.store.schema import NameKind
from proxy.store.schema_meaning import SPENT, spend_hours, spend_keys, spend_tags
from proxy.store.zone import day_counter, hour

HIGHEST_TOKENS = 10**12
"""More tokens of one exchange than that are no count; sums of such numbers would leave 64 bits."""

HIGHEST_PICO = 10**17
"""More than that (100,000 USD) is no cost of one exchange."""

_AT_ONCE = 500


COST = "coalesce(cost_reported_pico, cost_pico)"


def spent_sql(connection: Connection) -> dict[str, str]:
    """What one row of `exchanges` adds to each column of SPENT, as SQL; only rows with `counted` do."""
    sql = "SELECT value, id FROM names WHERE kind = ?"
    ids = {row[0]: row[1] for row in execute(connection, sql, (int(NameKind.USAGE_STATE),)).fetchall()}

    def state(*states: str) -> str:
        """Whether `usage_state` is one of these: false, never null."""
        named = ", ".join(str(ids[each]) for each in states if each in ids)
        return f"coalesce(usage_state IN ({named}), FALSE)" if named else "FALSE"

    unknown = f"({state('missing', 'partial')} AND coalesce(input_tokens, output_tokens, total_tokens) IS NULL)"
    known = state("complete", "partial", "derived", "non_token")
    amounts = {column: column for column in SPENT if column.endswith("_tokens")} | {"cost_pico": COST}
    return {
        "exchanges": "1",
        "errors": "CASE WHEN failed THEN 1 ELSE 0 END",
        "unknown": f"CASE WHEN {unknown} THEN 1 ELSE 0 END",
        "unpriced": f"CASE WHEN {known} AND NOT {unknown} AND {COST} IS NULL THEN 1 ELSE 0 END",
        **{column: f"CASE WHEN {state('none')} THEN 0 ELSE coalesce({sql}, 0) END" for column, sql in amounts.items()},
    }


def sums_sql(amounts: Iterable[str]) -> str:
    """Sums as whole numbers of 64 bits; Postgres would make them decimal."""
    return ", ".join(f"CAST(sum({each}) AS BIGINT)" for each in amounts)


MODEL = "coalesce(model_served, model_asked, 0)"
"""The `model` of a rollup."""

_KEYS = f"""id, started_us, coalesce(node, 0), coalesce(upstream, 0), {MODEL}, coalesce(cost_status, 0),
coalesce(credential, 0), coalesce(virtual_key, 0), tag_set"""
_WIDTH = 9  # of _KEYS
_Key = tuple[int, ...]
_Sums = dict[_Key, list[int]]


class Ledger:
    """What one transaction changes in the rollups: collected here, written once at its end. `sums` is by SPENT."""

    def __init__(self, connection: Connection, intern: Interner, zone: tzinfo) -> None:
        self._connection = connection
        self._intern = intern
        self._day: Callable[[int], int] = day_counter(zone)
        self._changed: dict[Table, _Sums] = {spend_hours: {}, spend_keys: {}, spend_tags: {}}

    def take_away(self, ids: Iterable[bytes]) -> tuple[int, ...]:
        """Take back what those of the exchanges added that are counted, as their rows stand now; how much that is."""
        return self._enter(ids, -1)

    def add(self, ids: Iterable[bytes]) -> tuple[int, ...]:
        """Add those of the exchanges that are counted, as their rows stand now; how much that is."""
        return self._enter(ids, 1)

    def _enter(self, ids: Iterable[bytes], sign: int) -> tuple[int, ...]:
        total = [0] * len(SPENT)
        amounts_sql = spent_sql(self._connection)
        spent = ", ".join(amounts_sql[column] for column in SPENT)
        for lot in lots(ids):
            sql = f"SELECT {_KEYS}, {spent} FROM exchanges WHERE id IN ({marks(lot)}) AND counted"  # noqa: S608 - ours
            rows = execute(self._connection, sql, tuple(lot)).fetchall()
            tags = self._tags(lot, {row[8] for row in rows} - {None})
            for row in rows:
                amounts = row[_WIDTH:]
                for place, amount in enumerate(amounts):
                    total[place] += amount
                self._spread(row[:_WIDTH], tags.get(row[0], set()) | tags.get(row[8], set()), amounts, sign)
        return tuple(total)

    def _spread(self, key: Sequence[Any], tags: set[tuple[int, int]], amounts: Sequence[int], sign: int) -> None:
        _, started_us, node, upstream, model, cost_status, credential, virtual_key, _ = key
        day = self._day(started_us)
        places: list[tuple[Table, _Key]] = [
            (spend_hours, (hour(started_us), upstream, model, cost_status, node)),
            (spend_keys, (day, model, credential, virtual_key, node)),
            *((spend_tags, (day, name, value, model, node)) for name, value in tags),
        ]
        for table, place in places:
            sums = self._changed[table].setdefault(place, [0] * len(SPENT))
            for at, amount in enumerate(amounts):
                sums[at] += sign * amount

    def _tags(self, ids: Sequence[bytes], sets: set[int]) -> dict[bytes | int, set[tuple[int, int]]]:
        """Tag sets, and exchanges with tags of their own -> (name, value) as ids of `names`; 0 for a value that is one
        of too many."""
        found: dict[bytes | int, set[tuple[int, int]]] = {}
        connection = self._connection
        for lot in lots(sets):
            sql = f"SELECT set_id, name, value FROM tag_set_items WHERE set_id IN ({marks(lot)})"  # noqa: S608 - ours
            for set_id, name, value in execute(connection, sql, tuple(lot)).fetchall():
                found.setdefault(set_id, set()).add((self._tag(name), self._tag(value)))
        sql = f"SELECT exchange_id, name FROM exchange_tags WHERE exchange_id IN ({marks(ids)})"  # noqa: S608 - ours
        for exchange, name in execute(connection, sql, tuple(ids)).fetchall():
            found.setdefault(exchange, set()).add((self._tag(name), 0))
        return found

    def _tag(self, text: str) -> int:
        return self._intern.name_id(self._connection, NameKind.TAG, text) or 0

    def write(self) -> None:
        """Bring the rollups up to date; rows to which nothing adds any more go."""
        for table, sums in self._changed.items():
            changed = [(*key, *amounts) for key, amounts in sums.items() if any(amounts)]
            if not changed:
                continue
            keys = tuple(column.name for column in table.primary_key)
            # In one order everywhere: two who add to the same rows must not wait for one another.
            changed.sort()
            upsert_many(self._connection, table, (*keys, *SPENT), changed, added=SPENT)
            empty = [row[: len(keys)] for row in changed if row[len(keys)] < 0]
            if empty:
                same = " AND ".join(f"{column} = ?" for column in keys)
                gone = f"DELETE FROM {table.name} WHERE {same} AND exchanges = 0"  # noqa: S608 - our tables
                execute_many(self._connection, gone, empty)
        for sums in self._changed.values():
            sums.clear()
