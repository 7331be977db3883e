"""What a client may take of a server. Plain values; must not know where they come from."""

from __future__ import annotations

from dataclasses import dataclass

BACKLOG = 4096
"""Connections that may wait to be taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take. Bytes, counts, seconds; `connections` None: as many as come."""

    head_bytes: int = 256 * 1024
    headers: int = 1000
    connections: int | None = None
    head_seconds: float = 60.0
    body_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
