"""THE TABLES as Postgres has them: the same as `schema.py`, in partitions, and what only Postgres has.

Must not know connections or rows.
"""

from __future__ import annotations

from sqlalchemy import Column, Identity, Index, Integer, MetaData, PrimaryKeyConstraint, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.schema import CreateIndex, CreateTable

from proxy.store import schema_types as t
from proxy.store.schema import journals, metadata, response_ids
from proxy.store.schema_meaning import PROMPT
from proxy.store.schema_views import views

_own = MetaData()
_texts = Table(
    "texts",
    _own,
    t.uuid("exchange_id"),
    t.big("seq", null=False),
    t.ref("role"),
    t.ref("session"),
    t.blob("hash"),
    t.text("data", null=False),
    Column("words", TSVECTOR),
    PrimaryKeyConstraint("exchange_id", "seq"),
    postgresql_partition_by="RANGE (exchange_id)",
)
Index("texts_session", _texts.c.session, _texts.c.hash, postgresql_where=text(PROMPT))
Index("texts_words", _texts.c.words, postgresql_using="gin")
Index("texts_waiting", _texts.c.exchange_id, postgresql_where=text("words IS NULL"))

_journals = Table(
    "journals",
    _own,
    Column("id", Integer, Identity(always=False), nullable=False),
    *[Column(each.name, each.type, nullable=False) for each in journals.c if each.name != "id"],
    PrimaryKeyConstraint("worker"),
)
Index("journals_id", _journals.c.id)

EXTRA_INDEXES = ("CREATE INDEX exchanges_response ON exchanges (response_id) WHERE response_id IS NOT NULL",)

_OTHERWISE = ("texts", "journals", response_ids.name)

TABLES = (*[each for each in metadata.sorted_tables if each.name not in _OTHERWISE], _journals, _texts)
"""The tables that Postgres has: no `response_ids`, since there an index on the text is cheap; `texts` without a number
of its own, since a key must hold what the table is parted by; `journals` by worker, by which Citus can spread them."""

PARTITIONED = tuple(each.name for each in TABLES if each.dialect_kwargs.get("postgresql_partition_by"))
"""Those that are parted by ranges of exchange ids, each with a partition NAME_default for what fits no other."""


def statements() -> list[str]:
    """What makes all of it in an empty schema."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this constructor untyped
    made = [str(CreateTable(each).compile(dialect=dialect)) for each in TABLES]
    made += [f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT" for name in PARTITIONED]
    indexes = [index for each in TABLES for index in sorted(each.indexes, key=lambda index: str(index.name))]
    made += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    made += EXTRA_INDEXES
    made += [f"CREATE VIEW {name} AS {select}" for name, select in views(postgres=True).items()]
    return made
