"""THE TABLES, second half: what exchanges meant, what was counted and paid. `schema.py` has the first, and the words.

Must not know connections or rows. Money is BIGINT in 10^-12 USD; marks are microseconds since the exchange began.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Table, UniqueConstraint
from sqlalchemy import text as sql_text

from proxy.store import schema_types as t

# Kinds of usage that have no column on the exchange (seconds, pages, audio tokens, ...).
usage = t.table(
    "usage", "exchange_id kind", t.uuid("exchange_id"), t.ref("kind", null=False), t.big("amount", null=False)
)
# The provider's usage object, verbatim.
usage_raw = t.table("usage_raw", "exchange_id", t.uuid("exchange_id"), t.text("data", null=False), rowid=True)
# What has no column, as one JSON object: events, comment_lines, terminator, complete, error {type, code, message, ...},
# tool_calls [{id, name, arguments}], prompt_block_reason, usage {all kinds}, usage_conflict,
# parts [{kind, model, usage, size}], shares [the same], media [{side, kind, first, last, size}], facts {...}, problem,
# cost {lines, reason}.
meanings = t.table("meanings", "exchange_id", t.uuid("exchange_id"), t.json("data"), rowid=True)
rate_limits = t.table(
    "rate_limits",
    "exchange_id kind",
    t.uuid("exchange_id"),
    t.ref("kind", null=False),
    t.big("limit_count"),
    t.big("remaining"),
    t.big("reset_us"),
)
# `side`: 0 the prompt's rating, 1 the answer's.
safety = t.table(
    "safety",
    "exchange_id seq",
    t.uuid("exchange_id"),
    t.big("seq", null=False),
    t.small("side", null=False),
    t.ref("category", null=False),
    t.ref("level"),
    Column("score", Float),
    t.flag("blocked"),
)
# Answers (`seq` below zero, role `assistant` or `reasoning`), and prompt messages that no earlier exchange of the
# session has: those have `session` and `hash`, by which they are found again.
texts = Table(
    "texts",
    t.metadata,
    t.serial(),
    t.uuid("exchange_id"),
    t.big("seq", null=False),
    t.ref("role"),
    t.ref("session"),
    t.blob("hash"),
    t.text("data", null=False),
    UniqueConstraint("exchange_id", "seq"),
)
PROMPT = "session IS NOT NULL"
Index("texts_session", texts.c.session, texts.c.hash, sqlite_where=sql_text(PROMPT), postgresql_where=sql_text(PROMPT))

VIRTUAL = {
    "texts_index": "CREATE VIRTUAL TABLE texts_index USING"
    " fts5(data, content='', tokenize='unicode61 remove_diacritics 2')"
}
"""Name -> SQLite's SQL of a table that is not one of rows. `texts_index`: full text, its rowid is the id in `texts`."""

OF_MEANING = (usage, usage_raw, meanings, rate_limits, safety, texts)
"""The tables that hold what one exchange meant, and are written anew when it is read again."""

# Which exchange was the first to be counted for a response, and whether it only retrieved it (GET); it outlives the
# exchange, or a later copy would count again. `response_key` is a hash of the provider's id.
billed = t.table(
    "billed",
    "response_key upstream",
    t.blob("response_key", null=False),
    t.ref("upstream", null=False),
    t.uuid("exchange"),
    t.flag("retrieved", null=False),
)
# What a person calls a credential: `credential` is the id of its fingerprint in `names`.
credential_names = t.table(
    "credential_names", "credential", t.ref("credential", null=False), t.text("name", null=False)
)
# Each used price once, as JSON; `exchanges.price` refers to it.
prices = Table("prices", t.metadata, t.serial(), t.blob("hash", null=False), t.json("data"), UniqueConstraint("hash"))


SPENT = (
    "exchanges",
    "errors",
    "unknown",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_pico",
)
"""What the rollups add up, of exchanges that are `counted`: how many, how many of them failed, have tokens that nobody
told, have tokens that nobody can price; the tokens that are known; the cost as reported, else by our prices."""


def _spend(name: str, *by: str) -> Table:
    """A narrow rollup. `hour` and `day` count from 1970 (hours in UTC, days in the reporting time zone).

    The other columns of its key are ids of `names`, 0 for none; `model` is the one that served, else the one asked for.
    `writer` is the exchange's node and keeps nodes from updating one another's rows.
    """
    return t.table(
        name,
        " ".join((*by, "writer")),
        *(t.ref(column, null=False) for column in (*by, "writer")),
        *(t.big(column, null=False) for column in SPENT),
    )


spend_hours = _spend("spend_hours", "hour", "upstream", "model", "cost_status")
spend_keys = _spend("spend_keys", "day", "model", "credential", "virtual_key")
# `tag_value` 0: all values that are too many to share tag sets (rows of `exchange_tags`), together.
spend_tags = _spend("spend_tags", "day", "tag_name", "tag_value", "model")
