"""The door that every command comes in by: flags, settings and the database, each opened once and handed on.

What is slow to import is imported when a command asks for it, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.store import Engine

ConfigFlag = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Read settings from this file.")]
HomeFlag = Annotated[str | None, typer.Option("--home", metavar="DIR", help="The folder of journals and status.")]
DatabaseFlag = Annotated[str | None, typer.Option("--database", metavar="URL", help="Where recordings are stored.")]
UpstreamFlag = Annotated[
    list[str] | None,
    typer.Option("--upstream", metavar="NAME=URL", help="An upstream, or another address for a preset; repeatable."),
]
HostFlag = Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")]
PortFlag = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes any free one.")]


SQLITE_BEGIN = b"SQLite format 3\0"


class NothingRecorded(UsageError):
    """There is no database yet."""


@dataclass
class Door:
    """What the command line said."""

    config: Path | None = None
    overrides: dict[str, object] = field(default_factory=dict)
    settings: Settings | None = None

    def say(self, config: Path | None, home: str | None, database: str | None, upstreams: list[str] | None) -> None:
        """Take flags in, as they stand before or behind the command's name; the later ones win. Raises UsageError."""
        if config is not None:
            self.config = config
        for name, value in (("home", home), ("database", database)):
            if value is not None:
                self.overrides[name] = value
        for text in upstreams or ():
            from proxy.config import parse_upstream

            name, url = parse_upstream(text)
            self.overrides[f"upstreams.{name}.url"] = url

    def set(self, section: str, **values: object) -> None:
        """Take in what flags of one command say about a section's keys; None says nothing."""
        self.overrides.update({f"{section}.{key}": value for key, value in values.items() if value is not None})


def door(ctx: typer.Context) -> Door:
    """The one of this run of the command."""
    found = ctx.find_root().obj
    assert isinstance(found, Door)
    return found


def settings(ctx: typer.Context) -> Settings:
    """The settings that hold for this command: file, environment, flags; read once. Raises UsageError."""
    here = door(ctx)
    if here.settings is None:
        from proxy.config import load

        here.settings = load(here.config, os.environ, here.overrides)
    return here.settings


def store(settings: Settings) -> Engine:
    """The database, at this version's revision. Raises NothingRecorded, UsageError, DatabaseAway."""
    from proxy.store.engine import check_version, open_engine

    missing = _missing_file(settings.database)
    if missing is not None:
        raise NothingRecorded(f"nothing is recorded yet: {missing} does not exist; start `wiretape serve`")
    check_database_file(settings.database)
    engine = open_engine(settings.database, create=False)
    try:
        check_version(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def store_or_new(settings: Settings) -> Engine:
    """The database, made if there is none yet. Raises UsageError, DatabaseAway."""
    from proxy.config import prepare_home
    from proxy.store.engine import open_engine, revision
    from proxy.store.migrate import upgrade

    prepare_home(settings.home)
    check_database_file(settings.database)
    engine = open_engine(settings.database, create=True)
    try:
        if revision(engine) is None:
            upgrade(engine)
    finally:
        engine.dispose()
    return store(settings)


def check_database_file(url: str) -> None:
    """Raises UsageError for what no waiting turns into a database. To be called before the database is opened: closing
    the file would let go of SQLite's locks on it."""
    path = _file(url)
    try:
        if path is None or not path.exists():
            return
        if not path.is_file():
            raise UsageError(f"the database {path} is no file: name one, such as sqlite:///{path / 'wiretape.db'}")
        with path.open("rb") as file:
            begins = file.read(len(SQLITE_BEGIN))
    except OSError:
        return  # whoever opens it says why it cannot be read
    if begins not in (b"", SQLITE_BEGIN):
        raise UsageError(f"the database {path} is no SQLite database: name another file, or move this one away")


def _missing_file(url: str) -> Path | None:
    """The file of an SQLite database that is not there."""
    path = _file(url)
    try:
        return path if path is not None and not path.exists() else None
    except OSError:
        return None


def _file(url: str) -> Path | None:
    path = url.removeprefix("sqlite:///")
    return Path(path.partition("?")[0]) if path != url else None


def foreign_packages() -> list[str]:
    """Other distributions that install a package `proxy` too: one's modules would overwrite the other's.

    Reads the lists of installed files as they are: `packages_distributions` parses them all, for 85 ms.
    """
    found = set()
    for folder in map(Path, dict.fromkeys(sys.path)):
        for files in folder.glob("*.dist-info/RECORD"):
            name = files.parent.name.removesuffix(".dist-info").rpartition("-")[0]
            with suppress(OSError):
                if name != "wiretape" and b"\nproxy/__init__.py," in b"\n" + files.read_bytes():
                    found.add(name)
    return sorted(found)


def check_installation() -> None:
    """Raises UsageError when the package `proxy` is not wiretape's alone."""
    foreign = foreign_packages()
    if foreign:
        raise UsageError(
            f"{', '.join(foreign)} installs a Python package named proxy too, and would mix its modules with "
            f"wiretape's: run `pip uninstall {' '.join(foreign)}`, then `pip install --force-reinstall wiretape`, or "
            "install wiretape into an environment of its own"
        )
