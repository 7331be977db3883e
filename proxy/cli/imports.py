"""`import jsonl` and `import har`: exchanges that were written by another wiretape, or by a browser."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from proxy.cli import progress, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, UpstreamFlag, door, settings
from proxy.cli.intake import Intake
from proxy.errors import UsageError
from proxy.presets import TEMPLATES

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.replay.har_entry import Guard
    from proxy.replay.shelf import Shelved


def register(importing: typer.Typer) -> None:
    """Add the commands to their group."""
    for command in (jsonl, har):
        importing.command()(command)


def jsonl(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export jsonl` wrote.")],
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Put exchanges from JSON lines into the database; those that are there already stay as they are."""
    door(ctx).say(config, home, database, None)
    from proxy.replay.lines import BadLine, exchanges

    running = 0

    def ended(found: Iterable[Shelved | None]) -> Iterator[Shelved]:
        nonlocal running
        for each in found:
            if each is None:
                running += 1
            else:
                yield each

    with progress.opened(file) as source, Intake(settings(ctx)) as intake:
        try:
            intake.take(ended(exchanges(source)))
        except BadLine as error:
            raise UsageError(f"{file}, {error}") from None
    render.say(intake.said())
    if running:
        render.note(f"left out {render.count(running, 'exchange')} that were still running when they were written")


def har(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What a browser, or `export har`, wrote.")],
    everything: Annotated[bool, typer.Option("--all", help="Take in what went to other hosts too.")] = False,
    upstream: UpstreamFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Put requests to known upstreams from an HTTP Archive into the database, with credentials taken out."""
    door(ctx).say(config, home, database, upstream)
    from proxy.replay.har_reader import BadArchive

    elsewhere: Counter[str] = Counter()
    with progress.opened(file) as source, Intake(settings(ctx)) as intake:
        try:
            intake.take(_entries(source, intake, settings(ctx), elsewhere, everywhere=everything))
        except BadArchive as error:
            raise UsageError(f"{file}: {error}") from None
    render.say(intake.said())
    if elsewhere:
        hosts = ", ".join(host for host, _ in elsewhere.most_common(_HOSTS))
        more = ", …" if len(elsewhere) > _HOSTS else ""
        hint = "" if everything else ": `--upstream NAME=URL` names one, `--all` takes in all"
        number = render.count(sum(elsewhere.values()), "request")
        render.note(f"left out {number} to hosts that are no upstream ({hosts}{more}){hint}")


_HOSTS = 5
_MOST_HOSTS = 1000  # that are told apart


def _entries(
    source: IO[bytes], intake: Intake, chosen: Settings, elsewhere: Counter[str], *, everywhere: bool
) -> Iterator[Shelved]:
    """The exchanges of an archive; counts what is left out by its host."""
    from proxy.replay.har_entry import Bad, exchange
    from proxy.replay.har_places import Known, Places, host_of
    from proxy.replay.har_reader import BadArchive, entries

    known = [Known(name, each.url, each.dialect) for name, each in chosen.upstreams.items()]
    known += [Known(name, *each[:2], template=True) for name, each in TEMPLATES.items() if name not in chosen.upstreams]
    places, guard = Places(known, everywhere=everywhere), _guard(intake, chosen)
    for number, entry, text in entries(source):
        try:
            found = exchange(entry, text, places, guard)
        except Bad as error:
            raise BadArchive(f"entry {number} cannot be taken in: {error}") from None
        if found is not None:
            yield found
            continue
        request = entry["request"]
        host = host_of(str(request["url"]))
        elsewhere[host if len(elsewhere) < _MOST_HOSTS or host in elsewhere else "others"] += 1


def _guard(intake: Intake, chosen: Settings) -> Guard:
    """What takes credentials out, as the data port does. Raises UsageError where the database is of another key."""
    from proxy.cli.values import fingerprint_id
    from proxy.config import fingerprint_key
    from proxy.forward.redact import Redactor
    from proxy.ingest.run import claim_fingerprints
    from proxy.mask import BodyMask
    from proxy.replay.har_entry import Guard
    from proxy.store.write import Writer

    class Again(Redactor):
        """What was taken out before keeps the fingerprint that it has."""

        def fingerprint(self, secret: bytes) -> bytes:
            known = _TAKEN_OUT.fullmatch(secret)
            return super().fingerprint(secret) if known is None else known[1]

    key = fingerprint_key(chosen.home, os.environ)
    claim_fingerprints(Writer(intake.engine), fingerprint_id(key))
    return Guard(Again(key, chosen.record.redact_headers, chosen.record.redact_query), BodyMask)


_TAKEN_OUT = re.compile(rb"redacted:([0-9a-f]{16})")
