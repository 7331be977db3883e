"""Messages of AWS' event stream, as AWS would write them."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any


def encoded(payload: bytes, **headers: str) -> bytes:
    """A message whose headers are strings; `message_type` becomes `:message-type`."""
    head = b"".join(_header(":" + name.replace("_", "-"), value) for name, value in headers.items())
    prelude = struct.pack(">II", len(head) + len(payload) + 16, len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def event(name: str, payload: Any) -> bytes:
    """An event with a JSON payload."""
    return encoded(json.dumps(payload).encode(), event_type=name, content_type="application/json", message_type="event")


def exception(name: str, message: str) -> bytes:
    return encoded(json.dumps({"message": message}).encode(), exception_type=name, message_type="exception")


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(text)) + text
