"""What the tests of playback share: its configuration, and what a client heard in its parts."""

from __future__ import annotations

import re

from proxy.presets import DIALECTS
from tests.support.asking import Heard

MODE = 'mode = "playback"'


def config_of(url: str, *more: str) -> str:
    """Of an upstream for each dialect, all at one address; what is no `mode` goes to `[playback]`."""
    lines = "\n".join(line for line in more if line.startswith("mode"))
    rest = "\n".join(line for line in more if not line.startswith("mode"))
    upstreams = "".join(f'[upstreams.{name}]\nurl = "{url}"\n{lines}\n' for name in DIALECTS)
    return f"{upstreams}\n[playback]\nport = 0\n{rest}\n"


def parts(heard: Heard) -> tuple[bytes, bytes, bytes]:
    """The head, the body without its framing, and what of the framing is behind it: how it ended.

    Where chunks are cut is not the upstream's word: what it sent in two writes may arrive in one.
    """
    head, _, rest = heard.received.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return head, rest, b""
    body = b""
    while (found := re.match(rb"([0-9a-f]+)\r\n", rest)) and (size := int(found[1], 16)):
        body += rest[found.end() : found.end() + size]
        rest = rest[found.end() + size + 2 :]
    return head, body, rest


def body_of(heard: Heard) -> bytes:
    """Without its framing."""
    return parts(heard)[1]
