"""`run`: a command whose calls to providers are recorded, without any configuration; and what it took, at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import msgspec
import typer

from proxy import log, presets
from proxy.cli import money, render
from proxy.cli.door import ConfigFlag, DatabaseFlag, Door, HomeFlag, UpstreamFlag, check_installation, door, settings
from proxy.errors import UsageError, WiretapeError

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.cli import variables
    from proxy.config import Settings
    from proxy.store.spend import Spent

BACKLOG = 512
STALL = 20.0  # seconds without progress after which what is left is not waited for
SESSION = "session"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_interspersed_args": False})(run)


def run(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="CMD...", help="The command, after `--`.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="NAME", help="Its requests' session.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="A tag on its requests; repeatable.")
    ] = None,
    upstream: UpstreamFlag = None,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Run a command and record its calls to providers; then say what they took."""
    here = door(ctx)
    here.say(config, home, database, upstream)
    if not command:
        raise UsageError("say what to run: for example `wiretape run -- python app.py`")
    check_installation()
    from proxy.cli import foreground, variables
    from proxy.cli.values import pointed_here, unsecured
    from proxy.config import fingerprint_key, prepare_home

    tags = tags_of(session, tag)
    given = _take_over(here, ctx)
    chosen = unsecured(settings(ctx))
    prepare_home(chosen.home)
    log.set_up("run")
    fingerprint_key(chosen.home, os.environ)
    listener = _listen()
    port = listener.getsockname()[1]
    with _beside(chosen, listener) as ours:
        names = variables.values(presets.address("127.0.0.1", port), pointed_here(chosen), given, tags)
        code = foreground.run(command, {**os.environ, **variables.no_proxy(os.environ), **names})
    _await_stored(chosen, ours)
    _sum_up(chosen, ours)
    raise typer.Exit(code)


def tags_of(session: str | None, tags: Sequence[str] | None) -> str:
    """What stands in the path for every request. Raises UsageError for what could not."""
    from urllib.parse import quote

    pairs = [(SESSION, session)] if session is not None else []
    for each in tags or ():
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise UsageError(f"--tag {each!r} is none: use NAME=VALUE such as project=search")
        pairs.append((name, value))
    return ",".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def _take_over(here: Door, ctx: typer.Context) -> dict[str, variables.Given]:
    """Make the address in a variable that is set already that upstream's, unless a flag names another.

    One that points at a data port of this home is no address of its own: it is what `env` printed.
    """
    from urllib.parse import urlsplit

    from proxy.cli import variables
    from proxy.config import load
    from proxy.console.facts import look

    home = load(here.config, os.environ, here.overrides).home
    ports = {each.facts.address[1] for each in look(home).serving if each.facts.address}
    given = {}
    for name, address in variables.already_set(os.environ).items():
        parts = urlsplit(address.url)
        ours = parts.port in ports and parts.hostname in variables.NO_PROXY
        if not ours and f"upstreams.{name}.url" not in here.overrides:
            here.overrides[f"upstreams.{name}.url"] = address.url
            given[name] = address
    here.settings = None
    settings(ctx)
    return given


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


@contextmanager
def _beside(chosen: Settings, listener: socket.socket) -> Iterator[list[UUID]]:
    """Forward and ingest in a process of their own, until the block ends and they have stored what they can.

    The list has the forward workers that there were. Raises WiretapeError if they do not get ready.
    """
    from proxy.cli import beside
    from proxy.cli.start import mention_proxies, prepare_database

    existing = prepare_database(chosen.database)
    mention_proxies()
    workers: list[UUID] = []
    port = listener.getsockname()[1]
    theirs, lifeline = os.pipe()
    process = _start_beside(chosen, listener, theirs, create=not existing)
    os.close(theirs)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != beside.READY:
            raise WiretapeError("recording could not begin: the reason stands above")
        listener.close()  # or it would answer although nobody is there any more
        workers += _workers(chosen.home, port)
        yield workers
    finally:
        workers += [each for each in _workers(chosen.home, port) if each not in workers]
        os.close(lifeline)
        _wait(process)
        process.stdout.close()


def _start_beside(chosen: Settings, listener: socket.socket, lifeline: int, *, create: bool) -> subprocess.Popen[bytes]:
    from proxy.cli import beside
    from proxy.cli.stages import environment
    from proxy.cli.values import DRAIN_TIMEOUT, else_records, forward_values, ingest_values, playback_values, plays

    listeners, playback, port = [listener], msgspec.Raw(beside.NONE), None
    if plays(chosen):
        listeners.append(_listen())
        port = listeners[1].getsockname()[1]
        asks = listener.getsockname()[1] if else_records(chosen) else None
        playback = msgspec.Raw(playback_values(chosen, asks))
    told = beside.Told(
        home=str(chosen.home),
        grace=chosen.forward.shutdown_grace,
        drain=DRAIN_TIMEOUT,
        forward=msgspec.Raw(forward_values(chosen, port)),
        ingest=msgspec.Raw(ingest_values(chosen, create=create, patient=True)),
        playback=playback,
    )
    fds = [listener.fileno(), lifeline, *(each.fileno() for each in listeners[1:])]
    process = subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-P", "-m", "proxy.cli.beside", *map(str, fds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=fds,
        start_new_session=True,  # Ctrl-C is the command's
        env=environment(),
    )
    for each in listeners[1:]:
        each.close()
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(told))
    process.stdin.close()
    return process


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until it has ended; Ctrl-C makes it hurry."""
    while True:
        try:
            process.wait()
            return
        except KeyboardInterrupt:
            process.terminate()


def _workers(home: Path, port: int) -> list[UUID]:
    """The workers that answer, or answered, at a port."""
    from proxy.console.facts import look

    return [
        UUID(each.facts.worker)
        for each in look(home).forwards
        if each.facts.worker and each.facts.address is not None and each.facts.address[1] == port
    ]


def _await_stored(chosen: Settings, workers: Sequence[UUID]) -> None:
    """Until all that the workers recorded is stored and understood, or nothing goes on any more."""
    last: object = None
    changed = time.monotonic()
    while True:
        size = sum(path.stat().st_size for each in workers for path in _segments(chosen.home, each))
        waiting = (size, 0 if size else _unread(chosen.database, workers))
        if waiting == (0, 0):
            return
        if waiting != last:
            last, changed = waiting, time.monotonic()
        if time.monotonic() - changed > STALL:
            what = f"{render.size(size)} of the journal" if size else render.count(waiting[1], "exchange")
            render.note(f"{what} cannot be stored or understood now: the sums below lack that")
            return
        time.sleep(0.1)


def _unread(database: str, workers: Sequence[UUID]) -> int:
    """How many exchanges wait to be understood; 0 where the database cannot tell."""
    from proxy.store.engine import open_engine, reading
    from proxy.store.spend import unread_of

    try:
        engine = open_engine(database, create=False)
        try:
            with reading(engine) as connection:
                return unread_of(connection, workers)
        finally:
            engine.dispose()
    except WiretapeError:
        return 0


def _segments(home: Path, worker: UUID) -> list[Path]:
    return [path for path in (home / "journal").glob(f"{worker}-*.journal") if path.exists()]


# --- what it took ---


def _sum_up(chosen: Settings, workers: Sequence[UUID]) -> None:
    """Say on standard error what was recorded, by model."""
    from proxy.store.engine import open_engine, reading
    from proxy.store.spend import played_by, spent_by

    try:
        engine = open_engine(chosen.database, create=False)
        try:
            with reading(engine) as connection:
                found, played = spent_by(connection, workers), played_by(connection, workers)
        finally:
            engine.dispose()
    except WiretapeError as error:
        render.note(f"what was recorded cannot be summed up now: {error}")
        return
    total = sum((spent for _, spent in found), start=_nothing())
    if played:
        render.note(f"played: {render.count(played, 'exchange')}, out of what was recorded before or now")
    if not total.exchanges and played:
        return
    if not total.exchanges:
        render.note("nothing was recorded: no request came by the base URLs that the command was given")
        return
    render.note(_line("recorded", total))
    if len(found) > 1:
        for model, spent in found:
            render.note(_line(f"  {model or 'no model'}", spent))
    render.note("`wiretape show last` shows the last of them, `wiretape spend` adds up all")


def _nothing() -> Spent:
    from proxy.store.spend import Spent

    return Spent()


def _line(what: str, spent: Spent) -> str:
    cached = f" ({spent.cache_read_tokens:,} from the cache)" if spent.cache_read_tokens else ""
    reasoned = f" ({spent.reasoning_tokens:,} reasoning)" if spent.reasoning_tokens else ""
    cost = spent.known_cost_pico
    doubts = {"unpriced": spent.unpriced, "with unknown tokens": spent.unknown, "failed": spent.errors}
    said = ", ".join(f"{number} {doubt}" for doubt, number in doubts.items() if number)
    return (
        f"{what}: {render.count(spent.exchanges, 'exchange')}, {spent.input_tokens:,} tokens in{cached},"
        f" {spent.output_tokens:,} out{reasoned}, {money.usd(cost) if cost is not None else 'no known cost'}"
        + (f" ({said})" if said else "")
    )
