"""The commands that run the roles: `serve` starts and watches them all; `forward`, `ingest` and `console` are one each.

Settings become the plain values that a role is told here and nowhere else; `process.py` makes its options of them.
"""

from __future__ import annotations

import hashlib
import os
import socket
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from proxy import log, presets
from proxy.cli import process
from proxy.cli.door import (
    ConfigFlag,
    DatabaseFlag,
    HomeFlag,
    HostFlag,
    PortFlag,
    UpstreamFlag,
    check_database_file,
    check_installation,
    door,
    settings,
)
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings, UpstreamSettings

DRAIN_TIMEOUT = 60.0
"""Seconds that ingest may go on storing what waits, once it is told to stop."""

WorkersFlag = Annotated[int | None, typer.Option("--workers", help="Processes that serve the data port.")]
AnonymousFlag = Annotated[
    bool | None, typer.Option("--allow-anonymous", help="Let the data port listen beyond this machine.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, forward, ingest, console, playback):
        app.command()(command)


def serve(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    upstream: UpstreamFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    console_port: Annotated[int | None, typer.Option("--console-port", help="Port of the console.")] = None,
    workers: WorkersFlag = None,
    allow_anonymous: AnonymousFlag = None,
) -> None:
    """Record: start and watch everything, until Ctrl-C."""
    here = door(ctx)
    here.say(config, home, database, upstream)
    here.set("forward", host=host, port=port, workers=workers, allow_anonymous=allow_anonymous)
    here.set("console", port=console_port)
    chosen = _open(ctx, "serve")
    from proxy.cli import start

    raise typer.Exit(start.everything(chosen))


def forward(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    upstream: UpstreamFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    workers: WorkersFlag = None,
    allow_anonymous: AnonymousFlag = None,
) -> None:
    """The data port alone; needs no database."""
    here = door(ctx)
    here.say(config, home, None, upstream)
    here.set("forward", host=host, port=port, workers=workers, allow_anonymous=allow_anonymous)
    chosen = _open(ctx, "forward")
    from proxy.cli import start

    listener = start.listen_data(chosen)
    if chosen.forward.workers > 1:
        raise typer.Exit(start.workers(chosen, listener))
    start.mention_proxies()
    port = listener.getsockname()[1]
    own = process.Own(listener, on_serving=lambda: start.show(start.base_urls(chosen, port)))
    process.run("forward", forward_values(chosen), own)


def ingest(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """The background writer alone; stores what journals hold."""
    door(ctx).say(config, home, database, None)
    chosen = _open(ctx, "ingest")
    check_database_file(chosen.database)
    process.run("ingest", ingest_values(chosen, create=True), process.Own())


def console(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
) -> None:
    """The console alone: health and metrics."""
    here = door(ctx)
    here.say(config, home, None, None)
    here.set("console", host=host, port=port)
    chosen = _open(ctx, "console")
    from proxy.cli import start

    listener = start.listen_console(chosen)
    url = start.console_url(chosen, listener.getsockname()[1])
    own = process.Own(listener, on_serving=lambda: start.show([f"console  {url}"]))
    process.run("console", console_values(chosen), own)


def playback(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
    host: HostFlag = None,
    port: PortFlag = None,
    fault: Annotated[
        str | None, typer.Option("--fault", metavar="WORDS", help="Play with a fault, such as 'status=529 times=1'.")
    ] = None,
) -> None:
    """Playback alone: what was recorded answers in the place of its upstreams."""
    here = door(ctx)
    here.say(config, home, database, None)
    here.set("playback", host=host, port=port, fault=fault)
    chosen = _open(ctx, "playback")
    check_database_file(chosen.database)
    values = playback_values(chosen)
    from proxy.cli import start

    listener = start.listen_playback(chosen)
    port = listener.getsockname()[1]
    own = process.Own(listener, on_serving=lambda: start.show(start.base_urls(chosen, port)))
    process.run("playback", values, own)


def _open(ctx: typer.Context, role: str) -> Settings:
    """The settings of a role, its home made and its log open."""
    check_installation()
    chosen = settings(ctx)
    from proxy.config import prepare_home

    prepare_home(chosen.home)
    log.set_up(role)
    return chosen


# Settings become values, by the names that the roles' options have


def forward_values(settings: Settings, playback_port: int | None = None) -> bytes:
    """What a forward worker is told; `playback_port` where it is not the configured one.

    Raises UsageError for a key that cannot be read, and where playback cannot be found.
    """
    from proxy.config import fingerprint_key

    hints = {name: presets.template_hint(name) for name in presets.TEMPLATES if name not in settings.upstreams}
    return process.told(
        {
            "home": settings.home,
            "node": socket.gethostname(),
            "upstreams": [_upstream(settings, name, playback_port) for name in settings.upstreams],
            "templates": {name: hint for name, hint in hints.items() if hint is not None},
            "fingerprint_key": fingerprint_key(settings.home, os.environ),
            "redact_headers": settings.record.redact_headers,
            "redact_query": settings.record.redact_query,
            "expose_id": settings.forward.expose_id,
            "strip_attribution": settings.forward.strip_attribution,
            "limits": _limits(settings),
            "max_request_body": settings.forward.max_request_body,
            "record_bodies": settings.record.bodies,
            "max_recorded_body": settings.record.max_recorded_body,
            "max_journal": settings.record.max_journal,
            "on_journal_failure": settings.forward.on_journal_failure,
            "fsync_every": settings.forward.fsync,
            "shutdown_grace": settings.forward.shutdown_grace,
        }
    )


def _limits(settings: Settings) -> dict[str, object]:
    return {
        "head_bytes": settings.forward.max_head,
        "headers": settings.forward.max_headers,
        "connections": settings.forward.max_connections,
        "head_seconds": settings.forward.head_timeout,
        "body_seconds": settings.forward.body_timeout,
    }


def _upstream(settings: Settings, name: str, playback_port: int | None) -> dict[str, object]:
    upstream = settings.upstreams[name]
    timeouts = {
        "connect": upstream.connect_timeout,
        "first_byte": upstream.first_byte_timeout,
        "idle": upstream.idle_timeout,
    }
    return {
        "name": name,
        "url": upstream.url,
        "dialect": upstream.dialect,
        "timeouts": timeouts,
        "drain": upstream.on_client_leave == "drain",
        "record": upstream.record,
        "ca_file": upstream.ca_file,
        "playback": _playback_of(settings, upstream, playback_port),
    }


def _playback_of(settings: Settings, upstream: UpstreamSettings, port: int | None) -> tuple[str, int] | None:
    if upstream.mode != "playback":
        return None
    port = settings.playback.port if port is None else port
    if not port:
        raise UsageError("playback.port is 0, which tells nobody where it is: set it, or use `wiretape serve`")
    return settings.playback.host, port


def plays(settings: Settings) -> bool:
    """Whether any upstream is answered out of what was recorded."""
    return any(upstream.mode == "playback" for upstream in settings.upstreams.values())


def playback_values(settings: Settings) -> bytes:
    """What playback is told. Raises UsageError for a fault that is none."""
    from proxy.forward.redact import SECRET_QUERY

    here = settings.playback
    if here.fault is not None:
        from proxy.replay.fault_words import BadFault, parse

        try:
            parse(here.fault)
        except BadFault as error:
            raise UsageError(f"playback.fault: {error}") from None
    secret = {name.decode() for name in SECRET_QUERY} | {name.lower() for name in settings.record.redact_query}
    rules = {
        "ignore_json": here.ignore_json,
        "ignore_headers": here.ignore_headers,
        "match_headers": here.match_headers,
        "normalise": here.normalise,
        "secret_query": sorted(secret),
    }
    return process.told(
        {
            "home": settings.home,
            "database": settings.database,
            "rules": rules,
            "order": here.order,
            "speed": here.speed,
            "cassette": here.cassette,
            "session": here.session,
            "tag": here.tag,
            "fault": here.fault,
        }
    )


def ingest_values(settings: Settings, *, create: bool, patient: bool = False) -> bytes:
    """What ingest is told; `create` lets it make a missing database, `patient` wait for another that stores already.

    Raises UsageError for an unreadable key.
    """
    from proxy.config import fingerprint_key

    key = fingerprint_key(settings.home, os.environ)
    return process.told(
        {
            "home": settings.home,
            "database": settings.database,
            "fingerprint_id": fingerprint_id(key),
            "create": create,
            "patient": patient,
            "time_zone": wanted_zone(settings),
            "search": settings.search,
            "plan": plan(settings),
            "prices": own_prices(settings),
            "addresses": addresses(settings),
            "drain_timeout": DRAIN_TIMEOUT,
        }
    )


def plan(settings: Settings) -> dict[str, object]:
    """What is packed, and how long what is kept, as ingest's Plan has it."""
    kept = settings.retention
    spans = {name: getattr(kept, name) for name in ("chunks", "bodies", "exchanges")}
    retention = {name: None if span is None else timedelta(seconds=span) for name, span in spans.items()}
    pack_after = None if kept.pack_after is None else timedelta(seconds=kept.pack_after)
    return {"pack_after": pack_after, "retention": {**retention, "most_bytes": kept.max_store}}


def own_prices(settings: Settings) -> list[tuple[str, dict[str, Decimal], date | None]]:
    """The prices of the configuration: name, rates by kind, and from when on they hold."""
    return [(name, price.rates(), price.since) for name, price in settings.prices.items()]


def addresses(settings: Settings) -> dict[str, tuple[str, str | None]]:
    """Where each upstream is, and where the preset of its name is; presets that are not configured too."""
    known = {name: preset.url for name, preset in presets.PRESETS.items()}
    configured = {name: upstream.url for name, upstream in settings.upstreams.items()}
    return {name: (url, known.get(name)) for name, url in (known | configured).items()}


def wanted_zone(settings: Settings) -> str | None:
    """The reporting time zone if somebody chose it: what is only a default takes any zone that a database has."""
    return settings.reporting_time_zone if "reporting_time_zone" in settings.model_fields_set else None


def fingerprint_id(key: bytes) -> str:
    """Which key fingerprints are made with, without telling it."""
    return hashlib.sha256(b"wiretape fingerprint key:" + key).hexdigest()[:16]


def console_values(settings: Settings) -> bytes:
    """What the console is told."""
    token = settings.console.token
    return process.told(
        {
            "home": settings.home,
            "host": settings.console.host,
            "token": None if token is None else token.get_secret_value(),
        }
    )
