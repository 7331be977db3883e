"""The questions of docs/schema.md, with the SQL that answers them on each engine; tests run all of it."""

from __future__ import annotations

from dataclasses import dataclass

EXAMPLE = "01990000-0001-7000-8000-000000000001"
"""The exchange that the questions ask about; its session is `nightly`."""

_HEX = EXAMPLE.replace("-", "")


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Where both engines understand the same it is written once."""

    question: str
    sqlite: str
    postgres: str
    remark: str = ""


def _both(question: str, sql: str, remark: str = "") -> Query:
    return Query(question, sql, sql, remark)


def _of_exchange(question: str, sql: str, remark: str = "") -> Query:
    return Query(question, sql.format(id=f"x'{_HEX}'"), sql.format(id=f"'{EXAMPLE}'"), remark)


_KEYS = """SELECT coalesce(credential_name, credential) AS who, model, min(day) AS first_day, max(day) AS last_day,
  sum(exchanges) AS exchanges, sum(cost_usd) AS usd
FROM spend_daily
GROUP BY coalesce(credential_name, credential), model
ORDER BY usd DESC"""

_CLIENTS = """SELECT coalesce(a.name, c.value) AS who, l.client, l.client_kind, count(*) AS exchanges,
  max(l.started) AS last
FROM exchange_list l JOIN names c ON c.value = l.credential AND c.kind = 8
LEFT JOIN credential_names a ON a.credential = c.id
WHERE l.started_us >= {since}
GROUP BY coalesce(a.name, c.value), l.client, l.client_kind
ORDER BY exchanges DESC"""

_DAYS = """SELECT day, model, sum(exchanges) AS exchanges, sum(input_tokens) AS input, sum(output_tokens) AS output,
  sum(unknown) AS unknown, sum(unpriced) AS unpriced, sum(cost_usd) AS usd
FROM spend_daily
WHERE day > {since}
GROUP BY day, model
ORDER BY day DESC, usd DESC"""

QUERIES = (
    Query(
        "What was spent per day and model, in 30 days?",
        _DAYS.format(since="date('now', '-30 days')"),
        _DAYS.format(since="CURRENT_DATE - 30"),
        "Days are those of the reporting time zone.",
    ),
    _both(
        "Which streams were slow?",
        """SELECT started, model, first_visible_ms, tokens_per_second, id
FROM slow_streams
ORDER BY exchange_id DESC
LIMIT 20""",
    ),
    _both("Who used which key for what?", _KEYS),
    Query(
        "From where, in the last 7 days?",
        _CLIENTS.format(since="(strftime('%s', 'now') - 7 * 86400) * 1000000"),
        _CLIENTS.format(since="(extract(epoch FROM now()) - 7 * 86400) * 1000000"),
    ),
    _of_exchange(
        "What were the headers of an exchange?",
        "SELECT side, name, value\nFROM headers\nWHERE exchange_id = {id}\nORDER BY seq, position",
        "Values of credentials are fingerprints.",
    ),
    _both(
        "What was said in a session?",
        """SELECT started, part, role, text
FROM exchange_text
WHERE exchange_id IN (
  SELECT id FROM exchanges WHERE session = (SELECT id FROM names WHERE kind = 9 AND value = 'nightly'))
ORDER BY exchange_id, part DESC, seq""",
        "A prompt message stands where it was new.",
    ),
    Query(
        "Which texts have these words?",
        """SELECT t.data
FROM texts_index JOIN texts t ON t.id = texts_index.rowid
WHERE texts_index MATCH 'capital AND france'""",
        """SELECT data
FROM texts
WHERE words @@ CAST('''capital'' & ''france''' AS tsquery)""",
        "In Postgres words are in lower case and without accents.",
    ),
    _both(
        "What failed last?",
        """SELECT started, upstream, model_asked, status, outcome, error, id
FROM exchange_list
WHERE status >= 400
ORDER BY exchange_id DESC
LIMIT 20""",
    ),
    _both(
        "What runs now?",
        """SELECT started, upstream, model_asked, client, id
FROM exchange_list
WHERE exchange_id IN (SELECT id FROM exchanges WHERE (outcome IS NULL OR outcome <> 0) AND outcome IS NULL)
ORDER BY exchange_id DESC""",
        "The first condition is that of the index `exchanges_outcome`: SQLite wants it as it stands there.",
    ),
    _of_exchange(
        "How did the stream come?",
        """SELECT seq, at_us / 1000 AS ms, length(data) AS bytes
FROM chunks
WHERE exchange_id = {id} AND side = 1
ORDER BY seq""",
        "Once it is packed only `wiretape show` knows.",
    ),
    _both(
        "What has no price, and what did nobody count?",
        """SELECT upstream, model_served, cost_status, usage_state, count(*) AS exchanges
FROM exchange_list
WHERE cost_status = 'unpriced' OR usage_state = 'missing'
GROUP BY upstream, model_served, cost_status, usage_state
ORDER BY exchanges DESC""",
    ),
    _both(
        "What did a tag cost, to the last digit?",
        """SELECT n.value AS tag, v.value AS value, sum(s.cost_pico) AS pico
FROM spend_tags s JOIN names n ON n.id = s.tag_name LEFT JOIN names v ON v.id = s.tag_value
GROUP BY n.value, v.value
ORDER BY pico DESC""",
    ),
)
