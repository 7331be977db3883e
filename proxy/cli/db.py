"""`db`: bring the database to this version, and look whether it is as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, check_database_file, door, settings, store

if TYPE_CHECKING:
    from proxy.store.read import Counts


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The database: bring it to this version, check it.", rich_markup_mode=None)
    for command in (upgrade, check, distribute):
        group.command()(command)
    app.add_typer(group, name="db")


def upgrade(
    ctx: typer.Context, config: ConfigFlag = None, home: HomeFlag = None, database: DatabaseFlag = None
) -> None:
    """Make the database if there is none, and bring it to this version's revision."""
    door(ctx).say(config, home, database, None)
    chosen = settings(ctx)
    from proxy.config import prepare_home
    from proxy.store import migrate
    from proxy.store.engine import open_engine, place_of, revision

    prepare_home(chosen.home)
    check_database_file(chosen.database)
    engine = open_engine(chosen.database, create=True)
    try:
        before = revision(engine)
        migrate.upgrade(engine)
        after = revision(engine)
        done = "is at revision" if before == after else "was brought to revision"
        render.say(render.safe(f"{place_of(engine)} {done} {after}"))
    finally:
        engine.dispose()


def check(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
) -> None:
    """Compare the tables with what this version wants, and the counts with the journals'; exit 1 if they differ."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    from proxy.store import migrate, read
    from proxy.store.engine import reading, revision

    try:
        found = revision(engine)
        differences = migrate.schema_differences(engine)
        with reading(engine) as connection:
            counts = read.counts(connection)
    finally:
        engine.dispose()
    losses = _losses(counts)
    if output is render.Format.JSON:
        render.print_json({"revision": found, "differences": differences, "losses": losses, "counts": _facts(counts)})
    else:
        for sentence in (*differences, *losses):
            render.say(render.safe(sentence))
        running = counts.outcomes.get(None, 0)
        stored = f"{render.count(counts.exchanges, 'exchange')} ({running:,} running), {counts.chunks:,} chunks"
        wrong = len(differences) + len(losses)
        render.say(f"revision {found}, {stored}: {render.count(wrong, 'difference') if wrong else 'as it should be'}")
    if differences or losses:
        raise typer.Exit(1)


def distribute(
    ctx: typer.Context, config: ConfigFlag = None, home: HomeFlag = None, database: DatabaseFlag = None
) -> None:
    """Spread the tables over the servers of a Postgres with Citus; before or after recording began."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    from proxy.store.citus import distribute as spread

    try:
        done = spread(engine)
    finally:
        engine.dispose()
    tables = render.count(len(done), "table")
    render.say(f"{tables} distributed" if done else "all tables are distributed already")


def _losses(counts: Counts) -> list[str]:
    """What journals held and the database does not, a sentence each."""
    said = []
    for journal in counts.journals:
        name = f"journal {journal.worker} of {journal.node}"
        if journal.missing > 0:
            exchanges = render.count(journal.highest_ordinal, "exchange")
            said.append(f"{name}: {journal.missing:,} of {exchanges} never arrived")
        if journal.missing < 0:
            said.append(f"{name}: {render.count(-journal.missing, 'exchange')} more than it numbered")
        if journal.lost_records:
            said.append(f"{name}: {render.count(journal.lost_records, 'record')} could not be read")
    return said


def _facts(counts: Counts) -> dict[str, Any]:
    outcomes = {"open" if key is None else key.name.lower(): number for key, number in counts.outcomes.items()}
    return {
        "exchanges": counts.exchanges,
        "outcomes": outcomes,
        "chunks": counts.chunks,
        "stored": counts.stored,
        "missing": counts.missing,
        "lost_records": sum(journal.lost_records for journal in counts.journals),
        "journals": len(counts.journals),
    }
