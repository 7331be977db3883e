"""THE TABLES, as this version wants them; the revisions under migrations/ bring a database there.

Must not know connections or rows. What repeats is an id into `names`; money is BIGINT in 10^-12 USD; times are
microseconds, since 1970 in `started_us`, else since the exchange began.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from sqlalchemy import Column, Index, Table, TextClause, UniqueConstraint, text

from proxy.store import schema_types as t
from proxy.store.schema_meaning import OF_MEANING

metadata = t.metadata

REVISIONS = ("0001", "0002")
"""Every revision that this version knows, oldest first; the last is the one it works with."""


class NameKind(IntEnum):
    """What a row of `names` names. The numbers are stored: never renumber, only add, stay below 64."""

    NODE = 1
    UPSTREAM = 2
    DIALECT = 3
    METHOD = 4
    TARGET = 5
    CLIENT = 6
    CLIENT_KIND = 7
    CREDENTIAL = 8
    SESSION = 9
    HTTP_VERSION = 10
    REASON = 11
    GAP_REASON = 12
    OPERATION = 13
    VIRTUAL_KEY = 14
    MODEL = 15
    FINISH_REASON = 16
    SERVICE_TIER = 17
    USAGE_STATE = 18
    USAGE_KIND = 19
    COST_STATUS = 20
    RATE_LIMIT = 21
    SAFETY = 22
    ROLE = 23
    TAG = 24


# Conditions of the partial indexes. SQLite uses such an index only for a query that repeats its condition literally.
FAILED = "status >= 400"
NOT_COMPLETED = "outcome IS NULL OR outcome <> 0"
COSTLY_PICO = 10**11
COSTLY = f"coalesce(cost_reported_pico, cost_pico) > {COSTLY_PICO}"
SLOW = "first_visible_us > 2000000"
NOT_LIVE = "origin <> 0"
SERVED_ANOTHER = "model_served <> coalesce(model_asked, 0)"
UNREAD = "outcome IS NOT NULL AND interpreter IS NULL"
NOT_UNDERSTOOD = "interpreter IS NOT NULL AND usage_state IS NULL"


def literally(condition: str) -> TextClause:
    """A condition for a query's WHERE, as it stands."""
    return text(f"({condition})")


meta = t.table("meta", "key", t.text("key", null=False), t.text("value", null=False))

# A kind below zero: the row is set apart by a sweep (sweep.py), found by id but no longer by its value.
names = Table(
    "names",
    t.metadata,
    t.serial(),
    t.big("kind", null=False),
    t.text("value", null=False),
    UniqueConstraint("kind", "value"),
)

journals = Table(
    "journals",
    t.metadata,
    t.serial(),
    t.uuid("worker"),
    t.ref("node", null=False),
    t.big("started_us", null=False),
    t.big("segment", null=False),
    t.big("offset", null=False),
    t.big("stored", null=False),
    t.big("highest_ordinal", null=False),
    t.big("lost_records", null=False),
    t.flag("ended", null=False),
    UniqueConstraint("worker"),
)

_CARRIAGE: tuple[Column[Any], ...] = (
    t.uuid("id"),
    t.ref("journal"),
    t.big("ordinal"),
    t.small("origin", null=False),
    t.big("started_us", null=False),
    t.ref("node"),
    t.ref("upstream"),
    t.ref("dialect"),
    t.ref("method"),
    t.ref("target"),
    t.text("target_long"),
    t.ref("client"),
    t.ref("client_kind"),
    t.ref("credential"),
    t.ref("session"),
    t.ref("tag_set"),
    t.small("record", null=False),
    t.ref("http_version"),
    t.small("status"),
    t.ref("reason"),
    t.small("wire_end"),
    t.text("error"),
    t.small("outcome"),
    t.big("request_bytes", null=False),
    t.big("response_bytes", null=False),
    t.big("request_chunks", null=False),
    t.big("response_chunks", null=False),
    t.big("unrecorded_bytes", null=False),
    t.big("lost_records", null=False),
    t.big("masked", null=False),
    t.big("request_sent_us"),
    t.big("head_us"),
    t.big("first_byte_us"),
    t.big("last_byte_us"),
    t.big("end_us"),
    t.big("overhead_us"),
    t.blob("request_hash"),
    t.blob("response_hash"),
    t.blob("request_out_hash"),
    t.blob("response_out_hash"),
)
CARRIAGE = (*[column.name for column in _CARRIAGE], "replay_of")
"""The columns of `exchanges` that ingest writes as it copies; all others are meaning, which it must leave alone."""

# `failed`: HTTP 400 and above, an error in mid-stream, or not completed. `counted`: its tokens and cost are in the
# rollups. `interpreter`: the version of the lens that read it. `cost_pico`: by our prices. All null until it is read.
exchanges = t.table(
    "exchanges",
    "id",
    *_CARRIAGE,
    t.ref("operation"),
    t.ref("virtual_key"),
    t.uuid("replay_of", null=True),
    t.small("retry_count"),
    t.ref("model_asked"),
    t.ref("model_served"),
    t.text("response_id"),
    t.text("request_id"),
    t.text("billed_as"),
    t.flag("streaming"),
    t.ref("finish_reason"),
    t.ref("finish_reason_norm"),
    t.ref("service_tier"),
    t.flag("terminated"),
    t.big("first_event_us"),
    t.big("first_reasoning_us"),
    t.big("first_visible_us"),
    t.big("terminal_event_us"),
    t.big("input_tokens"),
    t.big("output_tokens"),
    t.big("total_tokens"),
    t.big("cache_read_tokens"),
    t.big("cache_write_tokens"),
    t.big("reasoning_tokens"),
    t.big("estimated_input_tokens"),
    t.big("estimated_output_tokens"),
    t.ref("usage_state"),
    t.big("cost_pico"),
    t.big("cost_reported_pico"),
    t.ref("cost_status"),
    t.ref("price"),
    t.text("interpretation_error"),
    t.ref("interpreter"),
    t.flag("failed"),
    t.flag("counted"),
    by="id",
)
_LATER = ("virtual_key",)  # of features to come
MEANING = ("outcome", *[each.name for each in exchanges.c if each.name not in (*CARRIAGE, *_LATER, "counted")])
"""The columns of `exchanges` that are written once it is understood; with it the outcome may be corrected."""

NAMED = {
    "node": NameKind.NODE,
    "upstream": NameKind.UPSTREAM,
    "dialect": NameKind.DIALECT,
    "method": NameKind.METHOD,
    "target": NameKind.TARGET,
    "client": NameKind.CLIENT,
    "client_kind": NameKind.CLIENT_KIND,
    "credential": NameKind.CREDENTIAL,
    "session": NameKind.SESSION,
    "http_version": NameKind.HTTP_VERSION,
    "reason": NameKind.REASON,
    "operation": NameKind.OPERATION,
    "virtual_key": NameKind.VIRTUAL_KEY,
    "model_asked": NameKind.MODEL,
    "model_served": NameKind.MODEL,
    "finish_reason": NameKind.FINISH_REASON,
    "finish_reason_norm": NameKind.FINISH_REASON,
    "service_tier": NameKind.SERVICE_TIER,
    "usage_state": NameKind.USAGE_STATE,
    "cost_status": NameKind.COST_STATUS,
}
"""The columns of `exchanges` that are ids of `names`, with the kind that each refers to."""


def _partial(name: str, condition: str, *columns: str) -> None:
    wanted = [exchanges.c[column] for column in columns]
    Index(f"exchanges_{name}", *wanted, sqlite_where=text(condition), postgresql_where=text(condition))


for _column in ("model_asked", "credential", "virtual_key", "session"):
    _partial(_column, f"{_column} IS NOT NULL", _column, "id")
_partial("model_served", SERVED_ANOTHER, "model_served", "id")
_partial("failed", FAILED, "id")
_partial("status", FAILED, "status", "id")
_partial("outcome", NOT_COMPLETED, "outcome", "id")
_partial("origin", NOT_LIVE, "origin", "id")
_partial("costly", COSTLY, "id")
_partial("slow", SLOW, "id")
_partial("unread", UNREAD, "id")
_partial("not_understood", NOT_UNDERSTOOD, "id")

# An index on the text would cost 46 us an insert at ten million rows; the first 8 bytes of its hash cost 9 to 12.
response_ids = t.table("response_ids", "hash exchange_id", t.big("hash", null=False), t.uuid("exchange_id"))

chunks = t.table(
    "chunks",
    "exchange_id seq",
    t.uuid("exchange_id"),
    t.small("side", null=False),
    t.big("seq", null=False),
    t.big("at_us", null=False),
    t.blob("data", null=False),
    rowid=True,
)
# All chunks of one side of an ended exchange, with their boundaries and times, in the packed form `format`.
tapes = t.table(
    "tapes",
    "exchange_id side",
    t.uuid("exchange_id"),
    t.small("side", null=False),
    t.small("format", null=False),
    t.big("chunks", null=False),
    t.big("bytes", null=False),
    t.blob("data", null=False),
    rowid=True,
)

# `items`: [[name, value], ...] in order; a number in a value's place points into `volatile` of the head.
# `hash` is null once a sweep has set the row apart.
header_sets = Table("header_sets", t.metadata, t.serial(), t.blob("hash"), t.json("items"), UniqueConstraint("hash"))
heads = t.table(
    "heads",
    "exchange_id side seq",
    t.uuid("exchange_id"),
    t.small("side", null=False),
    t.big("seq", null=False),
    t.big("at_us", null=False),
    t.small("status"),
    t.ref("reason"),
    t.ref("set_id", null=False),
    t.json("volatile"),
    rowid=True,
)

changes = t.table(
    "changes",
    "exchange_id seq",
    t.uuid("exchange_id"),
    t.big("seq", null=False),
    t.big("at_us", null=False),
    t.text("data", null=False),
    rowid=True,
)
gaps = t.table(
    "gaps",
    "exchange_id seq",
    t.uuid("exchange_id"),
    t.big("seq", null=False),
    t.big("at_us", null=False),
    t.small("side", null=False),
    t.big("bytes", null=False),
    t.ref("reason"),
)

tag_sets = Table("tag_sets", t.metadata, t.serial(), t.blob("hash"), UniqueConstraint("hash"))
tag_set_items = t.table(
    "tag_set_items",
    "set_id name value",
    t.ref("set_id", null=False),
    t.text("name", null=False),
    t.text("value", null=False),
)
Index("tag_set_items_value", tag_set_items.c.name, tag_set_items.c.value, tag_set_items.c.set_id)
# For tags with too many values to share sets.
exchange_tags = t.table(
    "exchange_tags",
    "exchange_id name value",
    t.uuid("exchange_id"),
    t.text("name", null=False),
    t.text("value", null=False),
)
Index("exchange_tags_value", exchange_tags.c.name, exchange_tags.c.value, exchange_tags.c.exchange_id)

_carried = [each for each in metadata.sorted_tables if "exchange_id" in each.c and each not in OF_MEANING]
OF_EXCHANGE = (*[each for each in _carried if each is not response_ids], *OF_MEANING)
"""Every table whose rows belong to one exchange and are found by `exchange_id` (`response_ids` only by its hash)."""
