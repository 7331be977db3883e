"""The views: recorded rows as a person with an SQL prompt wants them, names and ids as text. SQLite's own SQL.

Built from the tables and the enumerations, so that a column or an outcome that was forgotten here cannot be.
"""

from __future__ import annotations

from enum import IntEnum

from proxy.exchange import Origin, Outcome, WireEnd
from proxy.store.schema import NAMED, exchanges

_ENUMERATED: dict[str, type[IntEnum]] = {"origin": Origin, "wire_end": WireEnd, "outcome": Outcome}
_UUIDS = ("id", "replay_of")
_HASHES = ("request_hash", "response_hash", "request_out_hash", "response_out_hash")


def _hex(column: str) -> str:
    return f"nullif(lower(hex({column})), '')"


def _uuid_text(column: str) -> str:
    pieces = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-'\n  || ".join(f"substr({_hex(column)}, {start}, {length})" for start, length in pieces)


def _name(column: str) -> str:
    return f"(SELECT value FROM names WHERE names.id = e.{column})"  # noqa: S608 - a column of ours


def _shown(column: str) -> str:
    """The expression that shows one column of `exchanges e` as text."""
    if column in _UUIDS:
        return _uuid_text(f"e.{column}")
    if column in _ENUMERATED:
        cases = "\n  ".join(f"WHEN {each.value} THEN '{each.name.lower()}'" for each in _ENUMERATED[column])
        return f"CASE e.{column}\n  {cases}\n  ELSE e.{column} END"
    if column == "record":
        return "CASE e.record WHEN 0 THEN 'all' WHEN 1 THEN 'meta' ELSE e.record END"
    if column in _HASHES:
        return _hex(f"e.{column}")
    if column == "target":
        return f"coalesce(e.target_long, {_name(column)})"
    return _name(column) if column in NAMED else f"e.{column}"


def _exchange_list() -> str:
    shown = [f"{_shown(each.name)} AS {each.name}" for each in exchanges.c if each.name != "target_long"]
    started = "strftime('%Y-%m-%dT%H:%M:%fZ', e.started_us / 1000000.0, 'unixepoch') AS started"
    lines = ["e.id AS exchange_id", *shown, started, "coalesce(e.cost_reported_pico, e.cost_pico) / 1e12 AS cost_usd"]
    return "SELECT " + ",\n  ".join(lines) + "\nFROM exchanges e"


VIEWS: dict[str, str] = {
    "exchange_list": _exchange_list(),
    "headers": """SELECT h.exchange_id, h.side, h.seq, item.key AS position,
  json_extract(item.value, '$[0]') AS name,
  CASE json_type(item.value, '$[1]')
    WHEN 'integer' THEN json_extract(h.volatile, '$[' || json_extract(item.value, '$[1]') || ']')
    ELSE json_extract(item.value, '$[1]')
  END AS value
FROM heads h JOIN header_sets s ON s.id = h.set_id JOIN json_each(s.items) item""",
    "tags": """SELECT e.id AS exchange_id, i.name, i.value
FROM exchanges e JOIN tag_set_items i ON i.set_id = e.tag_set
UNION ALL
SELECT exchange_id, name, value FROM exchange_tags""",
}
"""Name -> the SELECT behind it. `started` is UTC; `exchange_id` is the key, as the tables have it, `id` its text."""
