"""The first tables: exchanges, their bytes and headers, what repeats, and the places that later versions fill.

Frozen: this is what the databases of the first version hold. It must not import the live schema. The first version had
SQLite only; what Postgres gets here is the same, so that later revisions find one starting point.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, TSVECTOR

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "serial": sa.Integer(),
    "int": sa.Integer(),
    "small": sa.SmallInteger(),
    "big": sa.BigInteger(),
    "float": sa.Float(),
    "flag": sa.Boolean(),
    "text": sa.Text(),
    "json": sa.Text().with_variant(JSON(), "postgresql"),
    "blob": sa.LargeBinary(),
    "uuid": sa.LargeBinary(16).with_variant(sa.Uuid(), "postgresql"),
    "words": TSVECTOR(),
}


def _on_postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _table(name: str, key: str, columns: str, *, rowid: bool = False, unique: str = "") -> None:
    """Create a table. Columns are written NAME:TYPE, with ! for NOT NULL; blanks part them, also in `key`, `unique`."""
    made: list[sa.Column[Any] | sa.Constraint] = []
    for column in columns.split():
        called, kind = column.split(":")
        kind, not_null = kind.rstrip("!"), kind.endswith("!")
        numbered = [sa.Identity()] if kind == "serial" and _on_postgres() and called not in key.split() else []
        made.append(sa.Column(called, _TYPES[kind], *numbered, nullable=not not_null, autoincrement=kind == "serial"))
    made.append(sa.PrimaryKeyConstraint(*key.split()))
    if unique:
        made.append(sa.UniqueConstraint(*unique.split()))
    by = "id" if name == "exchanges" else "exchange_id" if key.startswith("exchange_id") else None
    if by is None or not _on_postgres():
        op.create_table(name, *made, sqlite_with_rowid=rowid)
    else:
        op.create_table(name, *made, postgresql_partition_by=f"RANGE ({by})")
        op.execute(f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT")


def _index(name: str, table: str, columns: str, where: str = "") -> None:
    condition = sa.text(where) if where else None
    op.create_index(name, table, columns.split(), sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    _create_tables()
    _create_indexes()
    if not _on_postgres():
        op.get_bind().exec_driver_sql(
            "CREATE VIRTUAL TABLE texts_index USING fts5(data, content='', tokenize='unicode61 remove_diacritics 2')"
        )
        for name, select in _VIEWS.items():
            op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {select}")


def downgrade() -> None:
    raise NotImplementedError("revisions go forward only: restore a copy of the database")


def _create_tables() -> None:
    _table("meta", "key", "key:text! value:text!")
    _table("names", "id", "id:serial! kind:big! value:text!", rowid=True, unique="kind value")
    of_journal = (
        "id:serial! worker:uuid! node:int! started_us:big! segment:big! offset:big! stored:big! "
        "highest_ordinal:big! lost_records:big! ended:flag!"
    )
    if _on_postgres():
        _table("journals", "worker", of_journal)
        _index("journals_id", "journals", "id")
    else:
        _table("journals", "id", of_journal, rowid=True, unique="worker")
    _table(
        "exchanges",
        "id",
        "id:uuid! journal:int ordinal:big origin:small! started_us:big! node:int upstream:int dialect:int "
        "method:int target:int target_long:text client:int client_kind:int credential:int session:int tag_set:int "
        "record:small! http_version:int status:small reason:int wire_end:small error:text outcome:small "
        "request_bytes:big! response_bytes:big! request_chunks:big! response_chunks:big! unrecorded_bytes:big! "
        "lost_records:big! masked:big! request_sent_us:big head_us:big first_byte_us:big last_byte_us:big "
        "end_us:big overhead_us:big request_hash:blob response_hash:blob request_out_hash:blob "
        "response_out_hash:blob operation:int virtual_key:int replay_of:uuid retry_count:small model_asked:int "
        "model_served:int response_id:text request_id:text billed_as:text streaming:flag finish_reason:int "
        "finish_reason_norm:int service_tier:int terminated:flag first_event_us:big first_reasoning_us:big "
        "first_visible_us:big terminal_event_us:big input_tokens:big output_tokens:big total_tokens:big "
        "cache_read_tokens:big cache_write_tokens:big reasoning_tokens:big estimated_input_tokens:big "
        "estimated_output_tokens:big usage_state:int cost_pico:big cost_reported_pico:big cost_status:int price:int "
        "interpretation_error:text interpreter:int failed:flag counted:flag",
    )
    if not _on_postgres():
        _table("response_ids", "hash exchange_id", "hash:big! exchange_id:uuid!")
    _table("chunks", "exchange_id seq", "exchange_id:uuid! side:small! seq:big! at_us:big! data:blob!", rowid=True)
    _table(
        "tapes",
        "exchange_id side",
        "exchange_id:uuid! side:small! format:small! chunks:big! bytes:big! data:blob!",
        rowid=True,
    )
    _table("header_sets", "id", "id:serial! hash:blob items:json!", rowid=True, unique="hash")
    _table(
        "heads",
        "exchange_id side seq",
        "exchange_id:uuid! side:small! seq:big! at_us:big! status:small reason:int set_id:int! volatile:json!",
        rowid=True,
    )
    _table("changes", "exchange_id seq", "exchange_id:uuid! seq:big! at_us:big! data:text!", rowid=True)
    _table("gaps", "exchange_id seq", "exchange_id:uuid! seq:big! at_us:big! side:small! bytes:big! reason:int")
    _table("tag_sets", "id", "id:serial! hash:blob", rowid=True, unique="hash")
    _table("tag_set_items", "set_id name value", "set_id:int! name:text! value:text!")
    _table("exchange_tags", "exchange_id name value", "exchange_id:uuid! name:text! value:text!")
    _table("usage", "exchange_id kind", "exchange_id:uuid! kind:int! amount:big!")
    _table("usage_raw", "exchange_id", "exchange_id:uuid! data:text!", rowid=True)
    _table("meanings", "exchange_id", "exchange_id:uuid! data:json!", rowid=True)
    _table(
        "rate_limits",
        "exchange_id kind",
        "exchange_id:uuid! kind:int! limit_count:big remaining:big reset_us:big",
    )
    _table(
        "safety",
        "exchange_id seq",
        "exchange_id:uuid! seq:big! side:small! category:int! level:int score:float blocked:flag",
    )
    of_text = "exchange_id:uuid! seq:big! role:int session:int hash:blob data:text!"
    if _on_postgres():
        _table("texts", "exchange_id seq", f"{of_text} words:words")
    else:
        _table("texts", "id", f"id:serial! {of_text}", rowid=True, unique="exchange_id seq")
    _create_spend_tables()


def _create_spend_tables() -> None:
    _table(
        "billed",
        "response_key upstream",
        "response_key:blob! upstream:int! exchange:uuid! retrieved:flag!",
    )
    _table("credential_names", "credential", "credential:int! name:text!")
    _table("prices", "id", "id:serial! hash:blob! data:json!", rowid=True, unique="hash")
    for name, by in (
        ("spend_hours", "hour upstream model cost_status writer"),
        ("spend_keys", "day model credential virtual_key writer"),
        ("spend_tags", "day tag_name tag_value model writer"),
    ):
        sums = (
            "exchanges:big! errors:big! unknown:big! unpriced:big! input_tokens:big! output_tokens:big! "
            "cache_read_tokens:big! cache_write_tokens:big! reasoning_tokens:big! cost_pico:big!"
        )
        _table(name, by, " ".join((*(f"{column}:int!" for column in by.split()), sums)))


def _create_indexes() -> None:
    _index("exchanges_costly", "exchanges", "id", "coalesce(cost_reported_pico, cost_pico) > 100000000000")
    _index("exchanges_credential", "exchanges", "credential id", "credential IS NOT NULL")
    _index("exchanges_failed", "exchanges", "id", "status >= 400")
    _index("exchanges_model_asked", "exchanges", "model_asked id", "model_asked IS NOT NULL")
    _index("exchanges_not_understood", "exchanges", "id", "interpreter IS NOT NULL AND usage_state IS NULL")
    _index("exchanges_outcome", "exchanges", "outcome id", "outcome IS NULL OR outcome <> 0")
    _index("exchanges_session", "exchanges", "session id", "session IS NOT NULL")
    _index("exchanges_slow", "exchanges", "id", "first_visible_us > 2000000")
    _index("exchanges_status", "exchanges", "status id", "status >= 400")
    _index("exchanges_unread", "exchanges", "id", "outcome IS NOT NULL AND interpreter IS NULL")
    _index("exchanges_virtual_key", "exchanges", "virtual_key id", "virtual_key IS NOT NULL")
    _index("tag_set_items_value", "tag_set_items", "name value set_id")
    _index("exchange_tags_value", "exchange_tags", "name value exchange_id")
    _index("texts_session", "texts", "session hash", "session IS NOT NULL")
    if _on_postgres():
        _index("exchanges_response", "exchanges", "response_id", "response_id IS NOT NULL")
        _index("texts_waiting", "texts", "exchange_id", "words IS NULL")
        op.create_index("texts_words", "texts", ["words"], postgresql_using="gin")


_VIEWS = {
    "exchange_list": """SELECT e.id AS exchange_id,
  substr(nullif(lower(hex(e.id)), ''), 1, 8) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 9, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 13, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 17, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 21, 12) AS id,
  e.journal AS journal,
  e.ordinal AS ordinal,
  CASE e.origin
  WHEN 0 THEN 'live'
  WHEN 1 THEN 'resend'
  WHEN 2 THEN 'playback'
  WHEN 3 THEN 'demo'
  WHEN 4 THEN 'import'
  ELSE e.origin END AS origin,
  e.started_us AS started_us,
  (SELECT value FROM names WHERE names.id = e.node) AS node,
  (SELECT value FROM names WHERE names.id = e.upstream) AS upstream,
  (SELECT value FROM names WHERE names.id = e.dialect) AS dialect,
  (SELECT value FROM names WHERE names.id = e.method) AS method,
  coalesce(e.target_long, (SELECT value FROM names WHERE names.id = e.target)) AS target,
  (SELECT value FROM names WHERE names.id = e.client) AS client,
  (SELECT value FROM names WHERE names.id = e.client_kind) AS client_kind,
  (SELECT value FROM names WHERE names.id = e.credential) AS credential,
  (SELECT value FROM names WHERE names.id = e.session) AS session,
  e.tag_set AS tag_set,
  CASE e.record WHEN 0 THEN 'all' WHEN 1 THEN 'meta' ELSE e.record END AS record,
  (SELECT value FROM names WHERE names.id = e.http_version) AS http_version,
  e.status AS status,
  (SELECT value FROM names WHERE names.id = e.reason) AS reason,
  CASE e.wire_end
  WHEN 0 THEN 'upstream_end'
  WHEN 1 THEN 'client_left'
  WHEN 2 THEN 'upstream_error'
  WHEN 3 THEN 'journal_error'
  WHEN 4 THEN 'worker_died'
  WHEN 5 THEN 'refused'
  ELSE e.wire_end END AS wire_end,
  e.error AS error,
  CASE e.outcome
  WHEN 0 THEN 'completed'
  WHEN 1 THEN 'client_left'
  WHEN 2 THEN 'upstream_failed'
  WHEN 3 THEN 'refused'
  WHEN 4 THEN 'interrupted'
  ELSE e.outcome END AS outcome,
  e.request_bytes AS request_bytes,
  e.response_bytes AS response_bytes,
  e.request_chunks AS request_chunks,
  e.response_chunks AS response_chunks,
  e.unrecorded_bytes AS unrecorded_bytes,
  e.lost_records AS lost_records,
  e.masked AS masked,
  e.request_sent_us AS request_sent_us,
  e.head_us AS head_us,
  e.first_byte_us AS first_byte_us,
  e.last_byte_us AS last_byte_us,
  e.end_us AS end_us,
  e.overhead_us AS overhead_us,
  nullif(lower(hex(e.request_hash)), '') AS request_hash,
  nullif(lower(hex(e.response_hash)), '') AS response_hash,
  nullif(lower(hex(e.request_out_hash)), '') AS request_out_hash,
  nullif(lower(hex(e.response_out_hash)), '') AS response_out_hash,
  (SELECT value FROM names WHERE names.id = e.operation) AS operation,
  (SELECT value FROM names WHERE names.id = e.virtual_key) AS virtual_key,
  substr(nullif(lower(hex(e.replay_of)), ''), 1, 8) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 9, 4) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 13, 4) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 17, 4) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 21, 12) AS replay_of,
  e.retry_count AS retry_count,
  (SELECT value FROM names WHERE names.id = e.model_asked) AS model_asked,
  (SELECT value FROM names WHERE names.id = e.model_served) AS model_served,
  e.response_id AS response_id,
  e.request_id AS request_id,
  e.billed_as AS billed_as,
  e.streaming AS streaming,
  (SELECT value FROM names WHERE names.id = e.finish_reason) AS finish_reason,
  (SELECT value FROM names WHERE names.id = e.finish_reason_norm) AS finish_reason_norm,
  (SELECT value FROM names WHERE names.id = e.service_tier) AS service_tier,
  e.terminated AS terminated,
  e.first_event_us AS first_event_us,
  e.first_reasoning_us AS first_reasoning_us,
  e.first_visible_us AS first_visible_us,
  e.terminal_event_us AS terminal_event_us,
  e.input_tokens AS input_tokens,
  e.output_tokens AS output_tokens,
  e.total_tokens AS total_tokens,
  e.cache_read_tokens AS cache_read_tokens,
  e.cache_write_tokens AS cache_write_tokens,
  e.reasoning_tokens AS reasoning_tokens,
  e.estimated_input_tokens AS estimated_input_tokens,
  e.estimated_output_tokens AS estimated_output_tokens,
  (SELECT value FROM names WHERE names.id = e.usage_state) AS usage_state,
  e.cost_pico AS cost_pico,
  e.cost_reported_pico AS cost_reported_pico,
  (SELECT value FROM names WHERE names.id = e.cost_status) AS cost_status,
  e.price AS price,
  e.interpretation_error AS interpretation_error,
  e.interpreter AS interpreter,
  e.failed AS failed,
  e.counted AS counted,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.started_us / 1000000.0, 'unixepoch') AS started,
  coalesce(e.cost_reported_pico, e.cost_pico) / 1e12 AS cost_usd
FROM exchanges e""",
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
