"""The command `doctor`: looks at configuration, home, database, roles and journals, and says what is wrong.

Only looks: what it finds is left as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, NothingRecorded, door, foreign_packages, settings, store
from proxy.errors import UsageError, WiretapeError
from proxy.log import safe

if TYPE_CHECKING:
    from proxy.config import Settings
    from proxy.console.facts import Picture
    from proxy.store.read import Counts
    from proxy.store.unread import Foreign

FOREIGN = 20  # kinds of requests that are listed
LITTLE_ROOM = 2**30  # bytes of free disk below which recording may soon stop
ASK_SECONDS = 3.0


@dataclass
class Report:
    """`facts` by section, each a name with a plain value; `problems` and `hints` are sentences."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        return {"ok": not self.problems, **self.facts, "problems": self.problems, "hints": self.hints}

    def lines(self) -> list[str]:
        shown = [
            f"{section + ' ' + name if section != name else name:24} {_shown(value)}"
            for section, facts in self.facts.items()
            for name, value in facts.items()
        ]
        shown += [f"wrong: {problem}" for problem in self.problems] or ["nothing is wrong"]
        return [*shown, *(f"hint: {hint}" for hint in self.hints)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    form: Annotated[Literal["text", "json"], typer.Option("--format", help="How it is printed.")] = "text",
) -> None:
    """Say what is wrong; exit code 1 if anything is."""
    door(ctx).say(config, home, database, None)
    report = Report()
    _installation(report)
    chosen = _configuration(report, ctx)
    if chosen is not None:
        from proxy.console.facts import look

        picture = look(chosen.home)
        _home(report, chosen.home)
        _journals(report, chosen.home, picture)
        _database(report, chosen, picture)
        _roles(report, chosen.home, picture)
    if form == "json":
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(report.data()), indent=2))
    else:
        typer.echo("\n".join(map(safe, report.lines())))
    raise typer.Exit(1 if report.problems else 0)


def _installation(report: Report) -> None:
    foreign = foreign_packages()
    if foreign:
        report.problems.append(f"{', '.join(foreign)} installs a package named proxy too: uninstall one of them")


def _configuration(report: Report, ctx: typer.Context) -> Settings | None:
    facts = report.facts["configuration"] = {"file": "none"}
    try:
        chosen = settings(ctx)
    except UsageError as error:
        facts["file"] = str(door(ctx).config or os.environ.get("WIRETAPE_CONFIG") or "unknown")
        report.problems.append(str(error))
        return None
    if chosen.source is not None:
        facts["file"] = str(chosen.source)
    return chosen


def _home(report: Report, home: Path) -> None:
    facts: dict[str, Any] = {"path": str(home), "writable": False, "free_bytes": None}
    report.facts["home"] = facts
    if not home.is_dir():
        report.hints.append("the home does not exist yet: `wiretape serve` makes it")
        return
    facts["writable"] = all(os.access(each, os.W_OK | os.X_OK) for each in (home, *home.glob("journal")))
    if not facts["writable"]:
        report.problems.append(f"{home} cannot be written: nothing can be recorded there")
    facts["free_bytes"] = shutil.disk_usage(home).free
    if facts["free_bytes"] < LITTLE_ROOM:
        report.hints.append(f"the disk of {home} has little room left: recording stops when it is full")


def _journals(report: Report, home: Path, picture: Picture) -> None:
    files = list((home / "journal").glob("*.journal"))
    ingest = picture.ingest
    report.facts["journal"] = {
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files if path.exists()),
        "lag_bytes": None if ingest is None else ingest.facts.lag_bytes,
        "lag_seconds": None if ingest is None else ingest.facts.lag_seconds,
        "damage": None if ingest is None else ingest.facts.damage,
    }
    if ingest is not None and ingest.facts.damage:
        report.problems.append(f"journals were damaged in {ingest.facts.damage} places: ingest's log names them")
    if files and picture.storing is None:
        report.hints.append("journals wait to be stored: start `wiretape serve` or `wiretape ingest`")


def _database(report: Report, settings: Settings, picture: Picture) -> None:
    from proxy.store import engine as store_engine
    from proxy.store.read import counts
    from proxy.store.unread import not_understood

    facts: dict[str, Any] = {"url": settings.without_secrets()["database"], "state": "ok"}
    report.facts["database"] = facts
    try:
        opened = store(settings)
        try:
            with store_engine.reading(opened) as connection:
                stored = counts(connection)
                foreign = not_understood(connection)
                facts["bytes"] = store_engine.size(connection)
            facts["revision"] = store_engine.revision(opened)
        finally:
            opened.dispose()
    except WiretapeError as error:
        facts["state"] = str(error)
        (report.hints if isinstance(error, NothingRecorded) else report.problems).append(str(error))
    else:
        _exchanges(report, stored, picture)
        _foreign(report, foreign)


def _foreign(report: Report, foreign: Mapping[Foreign, int]) -> None:
    """What was carried and means nothing to us: it is stored, and not counted."""
    known = {
        " ".join((kind.upstream or "-", kind.method or "-", kind.path)): number for kind, number in foreign.items()
    }
    report.facts["exchanges"]["not_understood"] = dict(list(known.items())[:FOREIGN])
    if known:
        number = sum(known.values())
        report.hints.append(
            f"{render.count(number, 'exchange')} succeeded and could not be understood: stored, not counted"
        )


def _exchanges(report: Report, stored: Counts, picture: Picture) -> None:
    from proxy.console.counts import count
    from proxy.console.facts import IngestFacts, JournalCounts

    ended = [journal for journal in stored.journals if journal.ended]
    known_by_ingest = IngestFacts(
        ended=JournalCounts(sum(each.stored for each in ended), sum(each.highest_ordinal for each in ended)),
        journals={
            str(each.worker): JournalCounts(each.stored, each.highest_ordinal)
            for each in stored.journals
            if not each.ended
        },
        over=tuple(str(each.worker) for each in ended),
    )
    summed = count(known_by_ingest, {each.facts.worker: each.facts.accepted for each in picture.forwards})
    outcomes = {"open" if key is None else key.name.lower(): number for key, number in stored.outcomes.items()}
    report.facts["exchanges"] = {
        "accepted": summed.accepted,
        "stored": summed.stored,
        "waiting": summed.waiting,
        "missing": summed.missing,
        "kept": stored.exchanges,
        "outcomes": outcomes,
    }
    if summed.missing:
        report.problems.append(f"{summed.missing} exchanges were numbered by forward and never found in a journal")


def _roles(report: Report, home: Path, picture: Picture) -> None:
    from proxy.console.facts import problems
    from proxy.status import read_all

    running: dict[str, list[int]] = {}
    for status in read_all(home):
        if status.fresh:
            running.setdefault(status.role, []).append(status.pid)
    report.facts["roles"] = dict(running)
    if not running:
        report.hints.append("nothing runs: start `wiretape serve`")
        return
    report.problems.extend(problems(picture))
    serving = {each.facts.address: each.facts.tls for each in picture.serving if each.facts.address is not None}
    for address, tls in sorted(serving.items()):
        answer = _ask(*address, tls=tls)
        report.facts.setdefault("data port", {})[f"{address[0]}:{address[1]}"] = answer or "ready"
        if answer is not None:
            report.problems.append(f"the data port {address[0]}:{address[1]} is not ready: {answer}")


def _ask(host: str, port: int, *, tls: bool) -> str | None:
    """Why the data port is not ready; None when it is."""
    import httpx2 as httpx

    from proxy.presets import address

    url = f"{address(host, port, tls=tls)}/-/ready"
    try:
        # It is asked how it is, and told nothing: whose certificate it has is for its clients to judge.
        answer = httpx.get(url, timeout=ASK_SECONDS, trust_env=False, verify=False)
        problem = answer.json().get("problem")
    except (httpx.HTTPError, ValueError) as error:
        return f"it does not answer ({type(error).__name__})"
    return None if answer.status_code == httpx.codes.OK else str(problem)


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number}" for name, number in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
