"""A Postgres that does not let everybody in: by password over TCP, and some not at all."""

from __future__ import annotations

import atexit
from functools import cache
from urllib.parse import quote

from psycopg import sql

from tests.support.postgres import Server

PASSWORD = "p@ss/w#rd:?&%= ü[1]"
"""With every sign that a URL must escape."""

_RULES = """
local all wiretape trust
local all peered peer
local all all scram-sha-256
host all nobody 127.0.0.1/32 trust
host all walled 127.0.0.1/32 reject
host all +guests 127.0.0.1/32 scram-sha-256
"""
_MADE = """
CREATE ROLE guests
CREATE ROLE owner LOGIN PASSWORD {password} IN ROLE guests
CREATE ROLE guest LOGIN PASSWORD {password} IN ROLE guests
CREATE ROLE retired PASSWORD {password} IN ROLE guests
CREATE ROLE crowded LOGIN PASSWORD {password} CONNECTION LIMIT 0 IN ROLE guests
CREATE ROLE walled LOGIN PASSWORD {password} IN ROLE guests
CREATE ROLE stranger LOGIN PASSWORD {password}
CREATE ROLE peered LOGIN
CREATE DATABASE owner OWNER owner
CREATE DATABASE private OWNER owner
REVOKE CONNECT ON DATABASE private FROM PUBLIC
CREATE DATABASE ascii OWNER owner ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'
CREATE DATABASE readonly OWNER owner
ALTER DATABASE readonly SET default_transaction_read_only = on
"""


@cache
def guarded() -> Server:
    """The server of this process. `owner` has the databases `owner`, `private`, `ascii` and `readonly`; the others are
    refused, each for a reason of its own."""
    made = Server(18)
    (made.data / "pg_hba.conf").write_text(_RULES)
    made.start()
    atexit.register(made.remove)
    for statement in _MADE.strip().splitlines():
        made.query("postgres", sql.SQL(statement).format(password=PASSWORD).as_string())
    return made


def url(database: str, user: str = "owner", password: str | None = PASSWORD, *, host: str = "", more: str = "") -> str:
    """A URL of it; `host` with its port."""
    secret = "" if password is None else f":{quote(password, safe='')}"
    return f"postgresql://{user}{secret}@{host or f'127.0.0.1:{guarded().port}'}/{database}{more}"
