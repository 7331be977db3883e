"""One-time passes: who holds one may ask an upstream that is otherwise answered out of what was recorded.

A pass is a file of the home that is named by its digest, and is gone once it was taken: it serves one request,
whichever process takes it, and whoever can make one can read the recordings anyway.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

HEADER = b"x-wiretape-pass"
LIFETIME = 60.0
"""Seconds in which a pass must be used."""

_FOLDER = "passes"


def issue(home: Path) -> bytes:
    """A new pass. Raises OSError where none can be written."""
    given = secrets.token_urlsafe(32).encode()
    path = _path(home, given)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return given


def take(home: Path, given: bytes) -> bool:
    """Use a pass up; whether it was one."""
    path = _path(home, given)
    try:
        age = time.time() - path.stat().st_mtime
        path.unlink()  # of all who try, one succeeds
    except OSError:
        return False
    return -1 < age < LIFETIME


def sweep(home: Path) -> None:
    """Remove those that nobody can use any more."""
    with suppress(OSError):
        for path in (home / _FOLDER).iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= LIFETIME:
                    path.unlink()


def _path(home: Path, given: bytes) -> Path:
    return home / _FOLDER / hashlib.sha256(given).hexdigest()
