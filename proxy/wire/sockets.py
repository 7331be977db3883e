"""What the event loop does not offer, asked of the kernel. Linux. Must not know HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import termios

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close with RST
RESET_POLL = 0.01  # seconds
CLOSE_PATIENCE = 30.0  # seconds
ALERT_PATIENCE = 0.5  # seconds for the peer to answer a close alert
LOOKS = 3  # that may be in vain, one behind the other


def set_reset(sock: socket.socket) -> None:
    """Make the coming close a reset, which also discards what the kernel has not sent yet."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def prepare(sock: socket.socket) -> None:
    """No delay for small writes; and a dead peer is noticed some time, even where nobody writes."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def unsent(sock: socket.socket) -> int:
    """Bytes in the kernel that the peer has not acknowledged."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):
        return 0
    return int(count)


def has_left(sock: socket.socket, *, half: bool = True) -> bool:
    """Whether the peer has hung up, though nobody reads; without `half` only a reset counts."""
    poll = select.poll()
    try:
        poll.register(sock.fileno(), (select.POLLRDHUP if half else 0) | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


class Delivery:
    """How far what is written to a transport has come. `written` is counted, in bytes, by whoever writes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.written = 0
        self._transport = transport
        self._arrived = 0  # at the last look
        self._in_vain = 0  # looks since something arrived

    def goes_on(self) -> bool:
        """Whether the peer is there, and not more than LOOKS looks, one behind the other, found nothing acknowledged.

        A single look says little: it may come late because we stood still, with what came meanwhile still unheard.
        """
        sock = self._transport.get_extra_info("socket")
        before = self._arrived
        self._arrived = self.written - self._transport.get_write_buffer_size() - unsent(sock)
        self._in_vain = 0 if self._arrived > before else self._in_vain + 1
        return self._in_vain <= LOOKS and not has_left(sock, half=False)


def reset_when_sent(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, patience: float) -> None:
    """Close with a reset, but not before what was written has arrived: both the transport's buffer and the kernel's
    would be thrown away. Gives up waiting after `patience` seconds."""
    sock = transport.get_extra_info("socket")
    until = loop.time() + patience

    def look() -> None:
        if transport.is_closing():
            return
        waiting = transport.get_write_buffer_size() > 0 or (sock is not None and unsent(sock) > 0)
        if waiting and loop.time() < until:
            loop.call_later(RESET_POLL, look)
            return
        if sock is not None:
            set_reset(sock)
        transport.abort()

    look()


def close_when_sent(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
    """As `Transport.close`, for TLS: there it waits for the peer's close alert, half a minute long, and most send none.
    Here what was written is waited for, as long."""
    until = loop.time() + CLOSE_PATIENCE

    def look() -> None:
        if transport.is_closing():
            return
        sock = transport.get_extra_info("socket")
        waiting = transport.get_write_buffer_size() > 0 or unsent(sock) > 0
        if waiting and loop.time() < until:
            loop.call_later(RESET_POLL, look)
            return
        transport.close()
        loop.call_later(ALERT_PATIENCE, transport.abort)

    look()
