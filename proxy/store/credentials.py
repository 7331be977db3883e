"""Credentials: which there are, by fingerprint, what people call them, and what each has spent.

Readers take a connection of `engine.reading`; naming one takes a connection of `engine.writing`.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from proxy.errors import UsageError
from proxy.exchange import id_time_us
from proxy.store import clean
from proxy.store.engine import execute, one
from proxy.store.schema import NameKind
from proxy.store.spend import Question, Spent, spend

_CANDIDATES = 8
_LIST = f"""SELECT n.id, n.value, c.name FROM names n LEFT JOIN credential_names c ON c.credential = n.id
    WHERE n.kind = {int(NameKind.CREDENTIAL)}"""  # noqa: S608 - a number of ours


class Credential(NamedTuple):
    """`first_us`, `last_us`: when the oldest and the newest exchange that is still there began, since 1970."""

    id: int
    fingerprint: str
    name: str | None
    first_us: int | None = None
    last_us: int | None = None
    spent: Spent = Spent()


def credentials(connection: Connection) -> list[Credential]:
    """All that ever came, with what they spent; the one that spent most first."""
    spent = {row.keys[0]: row.spent for row in spend(connection, Question(("credential",))).rows}
    found = []
    for number, fingerprint, name in execute(connection, f"{_LIST} ORDER BY n.value").fetchall():
        bounds = [_bound(connection, number, order) for order in ("ASC", "DESC")]
        found.append(Credential(number, fingerprint, name, bounds[0], bounds[1], spent.get(fingerprint, Spent())))
    return sorted(found, key=lambda each: (-each.spent.cost_pico, -each.spent.exchanges, each.fingerprint))


def _bound(connection: Connection, credential: int, order: str) -> int | None:
    sql = f"""SELECT id FROM exchanges WHERE credential = ? AND credential IS NOT NULL
        ORDER BY id {order} LIMIT 1"""  # noqa: S608 - a word of ours
    found = one(connection, sql, credential)
    return None if found is None else id_time_us(_uuid(found))


def _uuid(value: bytes) -> UUID:
    return UUID(bytes=bytes(value))


def find(connection: Connection, given: str) -> list[Credential]:
    """Those that a person means: all of this name, else the one with this fingerprint or beginning of one.

    Raises UsageError where there is none, or where a beginning fits several.
    """
    wanted = clean.capped(given.strip())
    known = [Credential(*row) for row in execute(connection, f"{_LIST} ORDER BY n.value").fetchall()]
    named = [each for each in known if each.name == wanted]
    if named:
        return named
    fitting = [each for each in known if each.fingerprint == wanted]
    fitting = fitting or [each for each in known if wanted and each.fingerprint.startswith(wanted)]
    if not fitting:
        shown = ", ".join(_called(each) for each in known[:_CANDIDATES]) or "none yet"
        more = ", ..." if len(known) > _CANDIDATES else ""
        raise UsageError(f"there is no credential {given!r}: there are {shown}{more}")
    if len(fitting) > 1:
        shown = ", ".join(each.fingerprint for each in fitting[:_CANDIDATES])
        raise UsageError(f"the credential {given!r} may be any of {shown}: give more of it")
    return fitting


def _called(credential: Credential) -> str:
    return credential.fingerprint if credential.name is None else f"{credential.fingerprint} ({credential.name})"


def call(connection: Connection, given: str, name: str) -> Credential:
    """Name a credential; an empty name takes the one away that it has. Raises UsageError."""
    found = find(connection, given)
    if len(found) > 1:
        shown = ", ".join(each.fingerprint for each in found)
        raise UsageError(f"{given!r} is the name of several credentials ({shown}): give a fingerprint")
    called = clean.capped(name.strip()) or None
    if called is None:
        execute(connection, "DELETE FROM credential_names WHERE credential = ?", (found[0].id,))
    else:
        sql = """INSERT INTO credential_names (credential, name) VALUES (?, ?)
            ON CONFLICT (credential) DO UPDATE SET name = excluded.name"""
        execute(connection, sql, (found[0].id, called))
    return found[0]._replace(name=called)


def name_if_new(connection: Connection, credential: int, name: str) -> None:
    """Name a credential, by its id, that has no name yet."""
    sql = "INSERT INTO credential_names (credential, name) VALUES (?, ?) ON CONFLICT (credential) DO NOTHING"
    execute(connection, sql, (credential, clean.capped(name)))


def names_of(connection: Connection) -> dict[str, str]:
    """Fingerprint -> name, of those that have one."""
    rows = execute(connection, f"{_LIST} AND c.name IS NOT NULL").fetchall()
    return {row[1]: row[2] for row in rows}
