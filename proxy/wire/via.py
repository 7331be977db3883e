"""A proxy on the way to an upstream, as a URL names it. Must not know sockets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

Scheme = Literal["http", "socks5", "socks5h"]
_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_LONGEST = 255  # bytes of a user or a password (RFC 1929)


@dataclass(frozen=True, slots=True)
class Via:
    """`socks5`: names of hosts are looked up here; `socks5h`: by the proxy, as with `http`. As text it is host and
    port, without a credential."""

    scheme: Scheme
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return authority(self.host, self.port)


def authority(host: str, port: int) -> str:
    """`HOST:PORT`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_via(url: str) -> Via:
    """`http://USER:PASSWORD@HOST:PORT`, or socks5, or socks5h; user and password percent-encoded, or not there.

    Raises ValueError with the end of a sentence, that quotes nothing.
    """
    scheme, found, _ = url.partition("://")
    scheme = scheme.lower()
    if not found or scheme not in get_args(Scheme):
        raise ValueError("must begin with http://, socks5:// or socks5h://")
    if not re.fullmatch(r"[!-~]*", url) or "\\" in url:
        raise ValueError("must not hold spaces, backslashes, control characters or letters outside ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must have a valid host and port; write special characters of a password as %40") from None
    if port == 0 or not parts.hostname or not _is_host(parts.hostname):
        raise ValueError("must have a valid host and port; write special characters of a password as %40")
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        raise ValueError("must end behind its port; write special characters of a password as %2F")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    _check_credentials(scheme, user, password)
    return Via(
        "http" if scheme == "http" else "socks5" if scheme == "socks5" else "socks5h",
        parts.hostname,
        port or _PORTS[scheme],
        user,
        password,
    )


def shown(url: str) -> str:
    """A proxy's URL as it may be printed: whatever stands before an `@` is starred out."""
    scheme, slashes, rest = url.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}***@{host}" if at else url


def _check_credentials(scheme: str, user: str, password: str) -> None:
    if password and not user:
        raise ValueError("must have a user where it has a password")
    if ":" in user or not (user + password).isprintable():
        raise ValueError("must have a user without colons, and no control characters in its password")
    if scheme == "http" or not user:
        return
    if not password:
        raise ValueError("must have a password where it has a user")
    if not (user + password).isascii() or max(len(user), len(password)) > _LONGEST:
        raise ValueError(f"must have a user and a password in ASCII, of at most {_LONGEST} characters")


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True
