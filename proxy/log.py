"""Logging of every role: one line per event on standard error, safe for a terminal, never with a traceback.

What requests carried must never be logged by callers (it may be a credential); exceptions are named by type and place.
"""

from __future__ import annotations

import logging
import sys
import traceback

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}


def safe(text: str) -> str:
    """Text that a terminal prints and does not obey: control characters and escapes become `\\xNN`."""
    return text.translate(_CONTROLS)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text.strip()} ({place(record.exc_info[1])})"
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return safe(f"{stamp} {record.levelname.lower()} {record.name}: {text}")


def place(error: BaseException) -> str:
    """An exception by type and place; its message may quote what a request carried, so it stays out."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def set_up(role: str, level: int = logging.INFO) -> logging.Logger:
    """Send this process's log to standard error and return the role's logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.raiseExceptions = False  # a log line that fails would print a traceback, with what it was to say
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their words about single connections and requests (bad requests, shutdown steps) are not for the user; ours are.
    quiet = ("asyncio", "alembic", "botocore", "google.auth", "httpx2", "httpcore2", "urllib3")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", *quiet):
        logging.getLogger(name).setLevel(logging.ERROR)
    return logging.getLogger(role)
