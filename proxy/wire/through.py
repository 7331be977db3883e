"""Connections through a proxy: a socket whose other end is the upstream, as if it had been connected to directly.

Each error says whose fault it is, and none holds a credential. Must not know settings.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from http import HTTPStatus

from python_socks import ProxyConnectionError, ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from proxy.wire.interface import UpstreamError
from proxy.wire.response import ResponseParser
from proxy.wire.via import Via, authority

_BLOCK = 65536
_NO_END = 10 * 365 * 86400.0  # seconds: whoever calls has a limit of its own
# RFC 1928, 6: what the proxy found out about the upstream. All else is the proxy's own.
_UPSTREAMS_FAULT = {
    3: "its network is unreachable",
    4: "it is unreachable",
    5: "it refused the connection",
    6: "it is too far away",
}
_NOT_REACHED = frozenset((502, 503, 504))


async def connect(via: Via, host: str, port: int) -> socket.socket:
    """Raises UpstreamError: `proxy` where the proxy is to blame, `connect` where the upstream is."""
    if via.scheme == "http":
        return await _by_connect(via, authority(host, port))
    return await _by_socks(via, host, port)


def reason(error: OSError | UnicodeError) -> str:
    """In the system's words; the event loops put addresses and tuples into theirs."""
    if isinstance(error, UnicodeError):
        return "that is no host name"
    number = error.errno or 0  # address lookups count theirs from -1 down
    return os.strerror(number) if number > 0 else error.strerror or str(error)


async def _by_connect(via: Via, where: str) -> socket.socket:
    sock = await _reach(via)
    try:
        answer = await _ask(via, sock, where)
    except OSError as error:
        sock.close()
        raise UpstreamError("proxy", f"the proxy {via} broke off: {reason(error)}") from None
    except BaseException:
        sock.close()
        raise
    if answer.head is not None and 200 <= answer.head.status < 300 and not answer.surplus:
        return sock
    sock.close()
    raise _refused(via, where, answer)


async def _reach(via: Via) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | UnicodeError | None = None
    try:
        addresses = await loop.getaddrinfo(via.host, via.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
    except (OSError, UnicodeError) as error:
        failure = error
    why = reason(failure) if failure is not None else "it has no address"
    raise UpstreamError("proxy", f"cannot connect to the proxy {via}: {why}")


async def _ask(via: Via, sock: socket.socket, where: str) -> ResponseParser:
    """A parser with the head of the proxy's answer."""
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if via.user:
        pair = base64.b64encode(f"{via.user}:{via.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {pair}")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
    parser = ResponseParser(head_request=True)
    while parser.head is None:
        data = await loop.sock_recv(sock, _BLOCK)
        if not data:
            raise UpstreamError("proxy", f"the proxy {via} closed the connection without an answer")
        try:
            parser.feed(data)
        except UpstreamError:
            raise UpstreamError("proxy", f"what the proxy {via} answered is not valid HTTP/1.1") from None
    return parser


def _refused(via: Via, where: str, answer: ResponseParser) -> UpstreamError:
    assert answer.head is not None
    status = answer.head.status
    if status == 407:
        return _wants_credentials(via, " (407)")
    if status < 300:
        return UpstreamError("proxy", f"the proxy {via} spoke where {where} should have")
    try:
        named = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        named = str(status)
    if status in _NOT_REACHED:
        return UpstreamError("connect", f"the proxy {via} could not connect to {where} ({named})")
    return UpstreamError("proxy", f"the proxy {via} refused to connect to {where} ({named})")


def _wants_credentials(via: Via, said: str = "") -> UpstreamError:
    if via.user:
        return UpstreamError("proxy", f"the proxy {via} does not take the user and password that it was given{said}")
    return UpstreamError("proxy", f"the proxy {via} asks for a user and password, and was given none{said}")


async def _by_socks(via: Via, host: str, port: int) -> socket.socket:
    where = authority(host, port)
    own = Proxy(
        ProxyType.SOCKS5, via.host, via.port, via.user or None, via.password or None, rdns=via.scheme == "socks5h"
    )
    try:
        return await own.connect(host, port, timeout=_NO_END)
    except ProxyConnectionError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else "its address cannot be found"
        raise UpstreamError("proxy", f"cannot connect to the proxy {via}: {why}") from None
    except ProxyError as error:
        raise _not_connected(via, where, error) from None
    except socket.gaierror as error:
        raise UpstreamError("connect", f"cannot find the address of {host}: {reason(error)}") from None
    except OSError as error:
        raise UpstreamError("proxy", f"the proxy {via} broke off: {reason(error)}") from None
    except ValueError:  # also a host's name that the protocol has no place for
        raise UpstreamError("proxy", f"the proxy {via} cannot be asked for {where}, or its answer not read") from None


def _not_connected(via: Via, where: str, error: ProxyError) -> UpstreamError:
    fault = _UPSTREAMS_FAULT.get(error.error_code or 0)
    if fault is not None:
        return UpstreamError("connect", f"the proxy {via} could not connect to {where}: {fault}")
    text = str(error).lower()  # the library's own words: nothing of the proxy's but numbers
    if error.error_code is None and "authentication" in text:
        return _wants_credentials(via)
    return UpstreamError("proxy", f"the proxy {via} refused to connect to {where}: {text}")
