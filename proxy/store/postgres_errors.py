"""What Postgres, or libpq, says when something goes wrong, as a store error of one sentence that says what to do."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from proxy.errors import UsageError, WiretapeError
from proxy.store.errors import DatabaseAway, DatabaseBusy, ValueRefused

_SAID_AT_MOST = 300  # characters: the server may quote what was recorded
_STATES = {
    "25006": "takes no writes now (a standby, or set read-only): name the primary server",
    "25P03": "ended a transaction that stood still (idle_in_transaction_session_timeout): raise it for this user",
    "25P04": "ended a transaction that took too long (transaction_timeout): raise it for this user",
    "26000": "is behind a pooler that loses statements: report this",
    "3D000": "does not exist: create it, for example with `createdb`",
    "3F000": "has no schema to work in: create it, or set search_path for this user",
    "40001": "was changed by another node at the same moment",
    "40P01": "and another node waited for one another",
    "42501": "refuses a right: make this user the owner of the database, or of a schema of its own",
    "42703": "lacks a column of this version: run `wiretape db upgrade`",
    "42P01": "lacks a table of this version: run `wiretape db upgrade`",
    "53100": "has no room on its disk: make room",
    "53200": "has run out of memory: give it more",
    "53300": "has too many connections: raise max_connections, or put a pooler before it",
    "55P03": "is locked by another process: end that process if it does not let go",
    "57014": "cancelled a statement (statement_timeout?): raise its limit for this user",
    "57P01": "is being shut down",
    "57P02": "was ended by a crash of the server",
    "57P03": "cannot be connected to now: it starts, or shuts down",
    "57P05": "ended an idle connection",
}
_CLASSES = {
    "08": "cannot be reached",
    "28": "refuses the user or the password: check both in the database URL",
    "40": "undid a transaction",
    "53": "has run out of something",
    "57": "was interrupted",
    "58": "reports an error of its disk or system: check the server's log",
    "XX": "reports a fault of its own: check the server's log",
}
_STARVED = "query_wait_timeout"
"""PgBouncer's word, under a state that means many things."""
_REFUSED = ("22", "23", "54")
_SAID = (
    ("received invalid response", "is answered by something that is no Postgres: check host and port"),
    ("expected authentication request", "is answered by something that is no Postgres: check host and port"),
    ("is not permitted to log in", "refuses the user: ALTER ROLE ... LOGIN, or name another in the database URL"),
    ("certificate", "and this machine cannot agree on TLS: check sslmode and sslrootcert in the database URL"),
    ('FATAL:  role "', "refuses the user: create it, or check its name in the database URL"),
    ("no such user", "refuses the user: create it, or check its name in the database URL"),
    ("permission denied for database", "refuses the user: GRANT CONNECT ON DATABASE ... to it, or name another"),
    ("does not exist", "does not exist: create it, for example with `createdb`, or check its name"),
    ("no such database", "does not exist: create it, for example with `createdb`, or check its name"),
    ("is not currently accepting connections", "lets nobody in: ALTER DATABASE ... ALLOW_CONNECTIONS true"),
    ("password authentication failed", "refuses the password: check user and password in the database URL"),
    ("no password supplied", "wants a password: put it into the database URL, or into ~/.pgpass"),
    ("Peer authentication failed", "lets in the system's user of the same name only: name a host, such as @localhost"),
    ("authentication failed", "refuses the user: check user and password in the database URL"),
    ("authentication method requirement", "wants another way to sign in: check require_auth in the database URL"),
    ("pg_hba.conf", "lets nobody in from here (pg_hba.conf): allow this machine, or try ?sslmode=require"),
    ("Connection refused", "cannot be reached: start the server, or check host and port"),
    ("No such file or directory", "cannot be reached: start the server, or check the socket's folder"),
    ("resolve host", "cannot be reached: its host name is not known here, check it"),
    ("translate host name", "cannot be reached: its host name is not known here, check it"),
    ("timeout expired", "cannot be reached: its host does not answer, check host and port"),
    ("SSL", "and this machine cannot agree on TLS: check sslmode in the database URL"),
    ("too many", "has too many connections: raise max_connections, or put a pooler before it"),
    ("no more connections", "has too many connections: raise max_connections, or put a pooler before it"),
    ("connection slots are reserved", "has too many connections: raise max_connections, or put a pooler before it"),
    ("starting up", "is starting up: wait a moment"),
    ("not yet accepting connections", "is starting up: wait a moment"),
    ("shutting down", "is shutting down"),
    ("hot standby", "is not of the kind that target_session_attrs asks for: check the hosts in the database URL"),
    ("session is ", "is not of the kind that target_session_attrs asks for: check the hosts in the database URL"),
)
"""What libpq, a server or a pooler says when it makes no connection; the first that fits."""
_WRONG = (
    *("bad value for", "could not match", "could not parse network address", "definition of service", ' value: "'),
    *("invalid integer value", "invalid value for", "unrecognized configuration parameter", "unsupported startup"),
)
"""What no waiting turns into a connection."""


def store_error(error: BaseException, place: str) -> WiretapeError | None:
    """The store error for what the driver raised, None for what is a fault of ours and must stay visible."""
    # The driver checks values before the server sees them: lone surrogates, numbers that do not fit the column.
    if isinstance(error, UnicodeEncodeError | OverflowError | struct.error):
        return ValueRefused(f"the database {place} refuses a value: {error}")
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate or ""
    said = _line(error)
    if state[:2] in _REFUSED or (not state and (isinstance(error, psycopg.DataError) or "cannot adapt" in said)):
        return ValueRefused(f"the database {place} refuses a value: {said}")
    known = _STATES.get(state) or _CLASSES.get(state[:2])
    if _STARVED in said:
        known = "is behind a pooler with no connection free: let it have more than there are ingests"
    if known is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        known = "cannot be reached"
    kind = DatabaseBusy if state == "55P03" else DatabaseAway
    return None if known is None else kind(f"the database {place} {known} ({said})")


def connect_error(error: psycopg.Error, place: str) -> WiretapeError:
    """The store error for a connection that was not made; libpq says why in words only.

    UsageError for what the database URL says, DatabaseAway for the rest.
    """
    for words, meaning in _SAID:
        if words in str(error):
            return DatabaseAway(f"the database {place} {meaning} ({_line(error, words)})")
    said = _line(error)
    if any(words in said for words in _WRONG):
        return UsageError(f"the database {place} cannot be connected to: mend the database URL's parameters ({said})")
    return DatabaseAway(f"the database {place} cannot be connected to: check the database URL ({said})")


def _line(error: BaseException, words: str = "") -> str:
    """The first line that has these words; the others hold SQL, recorded values, or tell of other hosts."""
    lines = [line for line in str(error).strip().splitlines() if words in line]
    said = " ".join(lines[0].split()) if lines else type(error).__name__
    for prefix in ("connection failed: ", "connection is bad: "):
        said = said.removeprefix(prefix)
    return said if len(said) <= _SAID_AT_MOST else f"{said[:_SAID_AT_MOST]}…"


@contextmanager
def mapped(place: str) -> Iterator[None]:
    """Errors of raw driver calls as store errors."""
    try:
        yield
    except (psycopg.Error, UnicodeEncodeError, OverflowError, struct.error) as error:
        known = store_error(error, place)
        if known is None:
            raise
        raise known from error
