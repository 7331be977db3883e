"""Settings become the plain values that a role is told, by the names that its options have: here and nowhere else.

`process.py` makes a role's options of them.
"""

from __future__ import annotations

import hashlib
import os
import socket
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from proxy import presets
from proxy.cli import process
from proxy.cli.provider_keys import held_key
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings, UpstreamSettings

DRAIN_TIMEOUT = 60.0
"""Seconds that ingest may go on storing what waits, once it is told to stop."""

ELSE_RECORD = "playback_else_record"


def unsecured(settings: Settings) -> Settings:
    """The same for a data port that nobody but this machine reaches, and no certificate names."""
    return settings.model_copy(update={"forward": settings.forward.model_copy(update={"cert": None, "key": None})})


def pointed_here(settings: Settings) -> list[str]:
    """The upstreams that programs may be pointed away from: what a program signs for AWS is good for AWS' own address
    alone, unless it is answered or signed here."""
    named = settings.upstreams.items()
    return [name for name, each in named if each.dialect != "bedrock" or each.held or each.mode != "live"]


def forward_values(settings: Settings, playback_port: int | None = None) -> bytes:
    """What a forward worker is told; `playback_port` where it is not the configured one.

    Raises UsageError for a key that cannot be read, a provider's key that is not there, and where playback cannot be
    found.
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
            "hosts": _hosts(settings),
            "cors_origins": settings.forward.cors_origins,
            "expose_id": settings.forward.expose_id,
            "strip_attribution": settings.forward.strip_attribution,
            "limits": _limits(settings),
            "max_request_body": settings.forward.max_request_body,
            "transform_limit": settings.forward.transform_limit,
            "record_bodies": settings.record.bodies,
            "max_recorded_body": settings.record.max_recorded_body,
            "max_journal": settings.record.max_journal,
            "on_journal_failure": settings.forward.on_journal_failure,
            "fsync_every": settings.forward.fsync,
            "shutdown_grace": settings.forward.shutdown_grace,
            "cert": settings.forward.cert,
            "key": settings.forward.key,
        }
    )


def _hosts(settings: Settings) -> list[str]:
    """The names by which the data port may be asked besides loopback; a wildcard that it listens on is no name."""
    here = settings.forward
    return [*here.hosts, *([here.host] if presets.reachable(here.host).strip("[]") == here.host else [])]


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
        "ask_usage": upstream.stream_usage == "ask" and presets.may_be_asked_for_usage(upstream.url),
        "client_cert": upstream.client_cert,
        "client_key": upstream.client_key,
        "proxy": upstream.proxy,
        "http2": upstream.http2,
        "playback": _playback_of(settings, upstream, playback_port),
        "else_record": upstream.mode == ELSE_RECORD,
        "key": held_key(settings, name, os.environ),
        "keep_alive": upstream.keep_alive,
        "credentials": _credentials(upstream),
        "upload_urls": upstream.rewrite_upload_urls and upstream.dialect == "gemini",
    }


def _credentials(upstream: UpstreamSettings) -> dict[str, object] | None:
    if upstream.credentials == "none" or not upstream.held:
        return None
    names = ("aws_profile", "aws_region", "aws_service", "google_file")
    return {"of": upstream.credentials, **{name: getattr(upstream, name) for name in names}}


def _playback_of(settings: Settings, upstream: UpstreamSettings, port: int | None) -> tuple[str, int] | None:
    if upstream.mode == "live":
        return None
    if upstream.mode == ELSE_RECORD and not settings.record.bodies:
        raise UsageError(f"record.bodies is false, so that nothing could be played: set it, or no mode {ELSE_RECORD}")
    port = settings.playback.port if port is None else port
    if not port:
        raise UsageError("playback.port is 0, which tells nobody where it is: set it, or use `wiretape serve`")
    return settings.playback.host, port


def plays(settings: Settings) -> bool:
    """Whether any upstream is answered out of what was recorded."""
    return any(upstream.mode != "live" for upstream in settings.upstreams.values())


def else_records(settings: Settings) -> bool:
    """Whether any upstream is asked for what was not recorded."""
    return any(upstream.mode == ELSE_RECORD for upstream in settings.upstreams.values())


def rules_of(settings: Settings) -> dict[str, Any]:
    """What does not count when a request is looked for, by the names of replay's rules."""
    here = settings.playback
    names = ("ignore_json", "ignore_headers", "match_headers", "normalise")
    return {name: getattr(here, name) for name in names}


def playback_values(settings: Settings, data_port: int | None = None) -> bytes:
    """What playback is told; `data_port` is where it has recorded what it cannot play, None: nowhere.

    Raises UsageError for a fault that is none.
    """
    from proxy.forward.redact import SECRET_QUERY

    here = settings.playback
    if here.fault is not None:
        from proxy.replay.fault_words import BadFault, parse

        try:
            parse(here.fault)
        except BadFault as error:
            raise UsageError(f"playback.fault: {error}") from None
    secret = {name.decode() for name in SECRET_QUERY} | {name.lower() for name in settings.record.redact_query}
    rules = {**rules_of(settings), "secret_query": sorted(secret)}
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
            "data_port": None if data_port is None else (presets.reachable(settings.forward.host), data_port),
            "data_cert": settings.forward.cert,
            "else_record": [name for name, each in settings.upstreams.items() if each.mode == ELSE_RECORD],
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
