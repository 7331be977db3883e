"""The views: recorded rows as a person with an SQL prompt wants them, names and ids as text, for either database.

Built from the tables and the enumerations, so that a column or an outcome that was forgotten here cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from proxy.exchange import Origin, Outcome, WireEnd
from proxy.store.schema import NAMED, SLOW, exchanges
from proxy.store.schema_meaning import SPENT

_ENUMERATED: dict[str, type[IntEnum]] = {"origin": Origin, "wire_end": WireEnd, "outcome": Outcome}
_UUIDS = ("id", "replay_of")
_HASHES = ("request_hash", "response_hash", "request_out_hash", "response_out_hash")
_LAST_US = 253_402_300_799_999_999  # of the year 9999: beyond it dates have no form


def _sqlite_uuid(column: str) -> str:
    pieces = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-'\n  || ".join(f"substr({_sqlite_hex(column)}, {start}, {length})" for start, length in pieces)


def _sqlite_hex(column: str) -> str:
    return f"nullif(lower(hex({column})), '')"


@dataclass(frozen=True)
class _Dialect:
    """How each database says what the views need; `{}` is a column."""

    text_id: dict[str, str]
    hex: dict[str, str]
    time: str
    day: str
    usd: str
    headers: str


_SQLITE = _Dialect(
    text_id={column: _sqlite_uuid(f"e.{column}") for column in _UUIDS},
    hex={column: _sqlite_hex(f"e.{column}") for column in _HASHES},
    time="strftime('%Y-%m-%dT%H:%M:%fZ', e.started_us / 1000000.0, 'unixepoch')",
    day="date('1970-01-01', {} || ' days')",
    usd="{} / 1e12",
    headers="""SELECT h.exchange_id, h.side, h.seq, item.key AS position,
  json_extract(item.value, '$[0]') AS name,
  CASE json_type(item.value, '$[1]')
    WHEN 'integer' THEN json_extract(h.volatile, '$[' || json_extract(item.value, '$[1]') || ']')
    ELSE json_extract(item.value, '$[1]')
  END AS value
FROM heads h JOIN header_sets s ON s.id = h.set_id JOIN json_each(s.items) item""",
)
_POSTGRES = _Dialect(
    text_id={column: f"CAST(e.{column} AS text)" for column in _UUIDS},
    hex={column: f"encode(e.{column}, 'hex')" for column in _HASHES},
    time=f"""CASE WHEN e.started_us BETWEEN 0 AND {_LAST_US}
  THEN to_char(to_timestamp(e.started_us / 1e6) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END""",
    day="DATE '1970-01-01' + {}",
    usd="CAST({} AS double precision) / 1e12",
    headers="""SELECT h.exchange_id, h.side, h.seq, CAST(item.place - 1 AS integer) AS position,
  item.pair ->> 0 AS name,
  CASE json_typeof(item.pair -> 1)
    WHEN 'number' THEN h.volatile ->> CAST(item.pair ->> 1 AS integer)
    ELSE item.pair ->> 1
  END AS value
FROM heads h JOIN header_sets s ON s.id = h.set_id
CROSS JOIN LATERAL json_array_elements(s.items) WITH ORDINALITY AS item(pair, place)""",
)


def _shown(column: str, dialect: _Dialect) -> str:
    """The expression that shows one column of `exchanges e` as text."""
    if column in _UUIDS:
        return dialect.text_id[column]
    if column in _ENUMERATED:
        return _words(column, {each.value: each.name.lower() for each in _ENUMERATED[column]})
    if column == "record":
        return _words(column, {0: "all", 1: "meta"})
    if column in _HASHES:
        return dialect.hex[column]
    if column == "target":
        return f"coalesce(e.target_long, n_{column}.value)"
    return f"n_{column}.value" if column in NAMED else f"e.{column}"


def _words(column: str, words: dict[int, str]) -> str:
    cases = "\n  ".join(f"WHEN {number} THEN '{word}'" for number, word in words.items())
    return f"CASE e.{column}\n  {cases}\n  ELSE CAST(e.{column} AS text) END"


def _joins(*columns: str) -> str:
    """Joins rather than look-ups among the columns: who asks for few columns pays for those only."""
    return "\n".join(f"LEFT JOIN names n_{each} ON n_{each}.id = e.{each}" for each in columns)


_COST = "coalesce(e.cost_reported_pico, e.cost_pico)"


def _exchange_list(dialect: _Dialect) -> str:
    shown = [f"{_shown(each.name, dialect)} AS {each.name}" for each in exchanges.c if each.name != "target_long"]
    lines = ["e.id AS exchange_id", *shown, f"{dialect.time} AS started", f"{dialect.usd.format(_COST)} AS cost_usd"]
    return "SELECT " + ",\n  ".join(lines) + f"\nFROM exchanges e\n{_joins(*NAMED)}"


def _spend_daily(dialect: _Dialect) -> str:
    sums = ",\n  ".join(f"CAST(sum(k.{each}) AS bigint) AS {each}" for each in SPENT)
    return f"""SELECT {dialect.day.format("k.day")} AS day, m.value AS model, c.value AS credential,
  a.name AS credential_name, v.value AS virtual_key,
  {sums},
  {dialect.usd.format("sum(k.cost_pico)")} AS cost_usd
FROM spend_keys k LEFT JOIN names m ON m.id = k.model LEFT JOIN names c ON c.id = k.credential
LEFT JOIN credential_names a ON a.credential = k.credential LEFT JOIN names v ON v.id = k.virtual_key
GROUP BY k.day, m.value, c.value, a.name, v.value"""  # noqa: S608 - our columns


def _exchange_text(dialect: _Dialect) -> str:
    return f"""SELECT t.exchange_id, {dialect.text_id["id"]} AS id, {dialect.time} AS started,
  n_upstream.value AS upstream, n_model_asked.value AS model_asked, n_session.value AS session,
  CASE WHEN t.seq < 0 THEN 'answer' ELSE 'prompt' END AS part, r.value AS role, t.seq, t.data AS text
FROM texts t JOIN exchanges e ON e.id = t.exchange_id LEFT JOIN names r ON r.id = t.role
{_joins("upstream", "model_asked", "session")}"""  # noqa: S608 - our columns


def _slow_streams(dialect: _Dialect) -> str:
    return f"""SELECT e.id AS exchange_id, {dialect.text_id["id"]} AS id, {dialect.time} AS started,
  n_upstream.value AS upstream, coalesce(n_model_served.value, n_model_asked.value) AS model,
  e.first_visible_us / 1000 AS first_visible_ms, e.end_us / 1000 AS end_ms, e.output_tokens,
  CASE WHEN e.end_us > e.first_visible_us
    THEN e.output_tokens * 1e6 / (e.end_us - e.first_visible_us) END AS tokens_per_second
FROM exchanges e
{_joins("upstream", "model_asked", "model_served")}
WHERE {SLOW.replace("first_visible_us", "e.first_visible_us")}"""  # noqa: S608 - our columns


_TAGS = """SELECT e.id AS exchange_id, i.name, i.value
FROM exchanges e JOIN tag_set_items i ON i.set_id = e.tag_set
UNION ALL
SELECT exchange_id, name, value FROM exchange_tags"""


def views(*, postgres: bool) -> dict[str, str]:
    """Name -> the SELECT behind it. `started` is UTC; `exchange_id` is the tables' key, `id` its text."""
    dialect = _POSTGRES if postgres else _SQLITE
    return {
        "exchange_list": _exchange_list(dialect),
        "headers": dialect.headers,
        "tags": _TAGS,
        "spend_daily": _spend_daily(dialect),
        "exchange_text": _exchange_text(dialect),
        "slow_streams": _slow_streams(dialect),
    }
