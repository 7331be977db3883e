"""Bringing a database to this version's revision, and saying how its tables differ from what this version wants.

Apart from engine.py because Alembic takes a tenth of a second to import; must not know any revision's content.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine

from proxy.store.backend import Shape
from proxy.store.engine import backend_of, is_shared, place_of, revision, writing
from proxy.store.errors import DatabaseTooNew
from proxy.store.schema import REVISIONS


def migrations_folder(package: Path = Path(__file__).parents[1]) -> Path:
    """Where the revisions are: `_migrations` in an installed package, in a checkout `migrations` beside it."""
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Bring the database to this version's revision, in one transaction; nothing is done if it is there.

    Raises DatabaseTooNew, DatabaseAway. Two processes may call it at once: the second waits and finds nothing to do.
    """
    found = revision(engine)
    if found is not None and found not in REVISIONS:
        raise DatabaseTooNew(
            f"the database {place_of(engine)} was written by a newer wiretape (revision {found}, this one knows up to"
            f" {REVISIONS[-1]}): install that version"
        )
    if found is None:
        backend_of(engine).prepare(engine, "alembic_version")
    # SQLite's first commit of a file is synced anyway; a server that crashed now would have no tables afterwards.
    with writing(engine, durable=is_shared(engine)) as connection:
        command.upgrade(_config(connection), REVISIONS[-1])


def _config(connection: Connection) -> Config:
    config = Config()
    # ConfigParser would take a % of the path for the start of an interpolation.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def schema_differences(engine: Engine) -> list[str]:
    """How the database differs from this version's tables, indexes and views, one sentence each; empty if it does not.

    Tables, indexes and views that are not ours are left out.
    """
    return differences(*backend_of(engine).shapes(engine))


def differences(wanted: Shape, found: Shape) -> list[str]:
    """What `found` lacks of `wanted` or has otherwise, as sentences."""
    said = []
    for thing, parts in wanted.items():
        if thing not in found:
            said.append(f"{thing} is missing")
            continue
        for part in sorted(parts.keys() | found[thing].keys()):
            want, have = parts.get(part), found[thing].get(part)
            if have is None:
                said.append(f"{thing}: {part} is missing")
            elif want is None:
                said.append(f"{thing}: {part} is not of this version")
            elif want != have:
                said.append(f"{thing}: {part} is {have!r}, should be {want!r}")
    return said
