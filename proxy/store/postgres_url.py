"""Where a Postgres database is: URLs as people paste them, made fit for libpq, and shown without a password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from proxy.errors import UsageError

_SCHEME = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://", re.IGNORECASE)
_FOREIGN = ("pgbouncer", "connection_limit", "pool_timeout", "prepared_statements", "channel_binding_required")
"""What other programs understand in such a URL and libpq refuses; none of it changes what we do."""

_USUAL: dict[str, Any] = {"connect_timeout": 10, "application_name": "wiretape", "client_encoding": "utf8"}


@dataclass(frozen=True, slots=True)
class Address:
    """`conninfo` is for libpq and has the password; `place` is for people and has none."""

    conninfo: str
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


def is_postgres(url: str) -> bool:
    """Whether a database URL is one for Postgres."""
    return _SCHEME.match(url) is not None


def parse(url: str) -> Address:
    """Take a URL apart. Raises UsageError, which never repeats it: it may hold a password."""
    match = _SCHEME.match(url)
    if match is None:
        raise UsageError("the database URL cannot be read: use postgresql://USER@HOST/NAME")
    base, mark, query = url[match.end() :].partition("?")
    kept = [each for each in query.split("&") if each.partition("=")[0].lower() not in _FOREIGN]
    try:
        parts = conninfo_to_dict(f"postgresql://{base}{mark}{'&'.join(kept)}".removesuffix("?"))
        host = str(parts.get("host") or "")
        if "@" in host[1:] or set(host) & set("[]#?"):  # a piece of the password that was taken for a host
            raise psycopg.ProgrammingError
        conninfo = make_conninfo("", **(_USUAL | parts))
    except psycopg.Error:
        raise UsageError(
            "the database URL cannot be read: use postgresql://USER:PASSWORD@HOST:5432/NAME?sslmode=require, with"
            " signs such as @ : / ? # % in the password written as %40 and so on"
        ) from None
    return Address(conninfo, _shown(parts))


def _shown(parts: dict[str, Any]) -> str:
    host, port = str(parts.get("host") or parts.get("hostaddr") or ""), parts.get("port")
    name = parts.get("dbname") or parts.get("user") or ""
    if host.startswith(("/", "@")):
        return f"postgresql:///{name}?host={quote(host, safe='/@')}"
    return f"postgresql://{host}{f':{port}' if port else ''}/{name}"
