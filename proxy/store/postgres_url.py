"""Where a Postgres database is: URLs as people paste them, made fit for libpq, and shown without a password;
and the connections to it, as a pool holds them."""

from __future__ import annotations

import re
import select
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from itertools import zip_longest
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from sqlalchemy.exc import InvalidatePoolError

from proxy.errors import UsageError
from proxy.store.backend import POSTGRES_SCHEME

_FOREIGN = (
    *("pgbouncer", "connection_limit", "pool_timeout", "pool_size", "statement_cache_size", "prepared_statements"),
    *("channel_binding_required", "uselibpqcompat", "supa"),
)
"""What other programs understand in such a URL and libpq refuses; none of it changes what we do."""

_USUAL: dict[str, Any] = {"connect_timeout": 10, "application_name": "wiretape"}
_OURS: dict[str, Any] = {"client_encoding": "utf8"}
_UNREADABLE = (
    "the database URL cannot be read: use postgresql://USER:PASSWORD@HOST:5432/NAME?sslmode=require, with"
    " signs such as @ : / ? # % in the password written as %40 and so on"
)


@dataclass(frozen=True, slots=True)
class Address:
    """`conninfo` is for libpq and has the password; `place` is for people and has none."""

    conninfo: str = field(repr=False)
    place: str

    def check(self, connection: psycopg.Connection[Any], oldest: int) -> None:
        """Raise UsageError for a server that cannot work. Closes the connection then."""
        version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
        problem = None
        if version < oldest:
            problem = (
                f"is Postgres {version // 10000}, and wiretape needs {oldest // 10000} or newer:"
                " upgrade the server, or name another"
            )
        elif encoding != "UTF8":
            problem = (
                f"has the encoding {encoding}: make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )
        if problem is not None:
            connection.close()
            raise UsageError(f"the database {self.place} {problem}")


def parse(url: str) -> Address:
    """Take a URL apart. Raises UsageError, which never repeats it: it may hold a password."""
    match = POSTGRES_SCHEME.match(url)
    if match is None:
        raise UsageError("the database URL cannot be read: use postgresql://USER@HOST/NAME")
    rest = url[match.end() :].strip()
    user, at, place = rest.partition("@")
    if not at or "/" in user:  # as libpq finds the user; a ? may stand in a password as it is
        user, at, place = "", "", rest
    base, _, query = place.partition("?")
    kept = [each for each in query.split("&") if each and each.partition("=")[0].lower() not in _FOREIGN]
    if "@" not in query:  # else it may be a piece of the password that was taken for parameters
        _check_names(kept)
    parts = _understood(f"postgresql://{user}{at}{base}{'?' if kept else ''}{'&'.join(kept)}")
    # A sign that is not escaped makes a piece of the password a host, a port or a name; messages would show it.
    if parts is None or "@" in base or set(str(parts.get("host", ""))) & set("[]#?") or not _are_ports(parts):
        raise UsageError(_UNREADABLE)
    return Address(make_conninfo("", **(_USUAL | parts | _OURS)), _shown(parts))


def _understood(url: str) -> dict[str, Any] | None:
    try:
        return conninfo_to_dict(url)
    except psycopg.Error:
        return None  # not even as a cause: what libpq says quotes what it could not read


@cache
def _known() -> frozenset[str]:
    return frozenset(option.keyword.decode() for option in Conninfo.get_defaults())


def _check_names(parameters: list[str]) -> None:
    """Raises UsageError for a parameter that libpq does not know."""
    for each in parameters:
        name, mark, value = each.partition("=")
        if (name, value) == ("ssl", "true"):
            continue  # for the sake of JDBC libpq takes this one for sslmode=require
        if mark and unquote(name) not in _known() and re.fullmatch("[A-Za-z_]{1,40}", name):
            near = get_close_matches(name.lower(), _known(), 1, 0.8) or ["sslmode"] * name.startswith("ssl")
            instead = f"did you mean {near[0]}?" if near else "take it out"
            raise UsageError(f"the database URL has a parameter {name}, which is not known: {instead}")


def _are_ports(parts: dict[str, Any]) -> bool:
    ports = [port for port in str(parts.get("port") or "").split(",") if port]
    return all(re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536 for port in ports)


def _shown(parts: dict[str, Any]) -> str:
    host, port = str(parts.get("host") or parts.get("hostaddr") or ""), str(parts.get("port") or "")
    name = parts.get("dbname") or parts.get("user") or ""
    if host.startswith(("/", "@")):
        return f"postgresql:///{name}?host={quote(host, safe='/@')}"
    hosts, ports = host.split(","), port.split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    pairs = [(f"[{each}]" if ":" in each else each, port) for each, port in zip_longest(hosts, ports, fillvalue="")]
    return f"postgresql://{','.join(f'{each}:{port}' if port else each for each, port in pairs)}/{name}"


def check_alive(connection: psycopg.Connection[Any], *_: Any) -> None:
    """Raise for a connection of the pool that its server has closed: then all are made anew.

    Nobody has asked it for anything, so that what can be read is a farewell.
    """
    if not connection.closed:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        if not waiting.poll(0):
            return
    raise InvalidatePoolError


def forget_reading(connection: psycopg.Connection[Any] | None, *_: Any) -> None:
    """Leave it to the server again whether a transaction may write: after one that only read SQLAlchemy would say that
    the next may, also where default_transaction_read_only says no."""
    if connection is not None and not connection.closed:
        connection.read_only = None
