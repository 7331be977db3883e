"""What Postgres, or libpq, says when something goes wrong, as a store error of one sentence that says what to do."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from proxy.errors import WiretapeError
from proxy.store.errors import DatabaseAway, ValueRefused

_STATES = {
    "25006": "takes no writes now (a standby, or set read-only): name the primary server",
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
_REFUSED = ("22", "23", "54")
_SAID = (
    ("does not exist", "does not exist: create it, for example with `createdb`, or check its name and the user's"),
    ("password authentication failed", "refuses the password: check the database URL"),
    ("no password supplied", "wants a password: put it into the database URL, or into ~/.pgpass"),
    ("no pg_hba.conf entry", "lets nobody in from here (pg_hba.conf): allow this machine, or try ?sslmode=require"),
    ("Connection refused", "cannot be reached: start the server, or check host and port"),
    ("No such file or directory", "cannot be reached: start the server, or check the socket's folder"),
    ("could not translate host name", "cannot be reached: its host name is not known here"),
    ("timeout expired", "cannot be reached: its host does not answer"),
    ("SSL", "and this machine cannot agree on TLS: check sslmode in the database URL"),
    ("too many", "has too many connections: raise max_connections, or put a pooler before it"),
    ("starting up", "is starting up"),
    ("shutting down", "is shutting down"),
)


def store_error(error: BaseException, place: str) -> WiretapeError | None:
    """The store error for what the driver raised, None for what is a fault of ours and must stay visible."""
    # The driver checks values before the server sees them: lone surrogates, numbers that do not fit the column.
    if isinstance(error, UnicodeEncodeError | OverflowError | struct.error):
        return ValueRefused(f"the database {place} refuses a value: {error}")
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate or ""
    said = _first_line(error)
    if state[:2] in _REFUSED or (not state and isinstance(error, psycopg.DataError)):
        return ValueRefused(f"the database {place} refuses a value: {said}")
    known = _STATES.get(state) or _CLASSES.get(state[:2])
    if known is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        known = "cannot be reached"
    return None if known is None else DatabaseAway(f"the database {place} {known} ({said})")


def connect_error(error: psycopg.Error, place: str) -> DatabaseAway:
    """The store error for a connection that was not made; libpq says why in words only."""
    said = _first_line(error)
    known = next((meaning for words, meaning in _SAID if words in str(error)), "cannot be connected to")
    return DatabaseAway(f"the database {place} {known} ({said})")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


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
