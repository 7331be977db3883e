"""A host and its port, as URLs and the Host header write them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

PATTERN = rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.-]+)(?::[0-9]{1,5})?"
_WHOLE = re.compile(PATTERN)
_PORT = re.compile(rb":([0-9]+)\Z")


class Authority(NamedTuple):
    """`host` is in canonical form, an IPv6 address without its brackets; `port` None where there is none."""

    host: str
    port: int | None


def parse(text: bytes) -> Authority | None:
    """None for what is none, or has a user in it."""
    if _WHOLE.fullmatch(text) is None:
        return None
    port = _PORT.search(text)
    host = text if port is None else text[: port.start()]
    return Authority(canonical(host.decode().strip("[]")), None if port is None else int(port[1]))


def canonical(host: str) -> str:
    """A name in small letters; an address as it is written shortest."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower()


def asked(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """By which host a request was made: its one Host header. None where there are none, two, or it is no host."""
    given = [value for name, value in headers if name.lower() == b"host"]
    return given[0] if len(given) == 1 and _WHOLE.fullmatch(given[0]) is not None else None
