"""The home folder: made private, and the key that turns credentials into fingerprints. Must not know settings."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from proxy.errors import UsageError

FINGERPRINT_VARIABLE = "WIRETAPE_FINGERPRINT_KEY"
KEY_FILE = "fingerprint.key"
KEY_BYTES = 32


def prepare_home(home: Path) -> None:
    """Make the home with its journal/ and status/, for its owner alone (0700). Raises UsageError."""
    try:
        for made in (home, home / "journal", home / "status"):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(made, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(made))
    except OSError as error:
        raise _unusable(error, home) from None


def fingerprint_key(home: Path, environ: Mapping[str, str]) -> bytes:
    """The 32 bytes that key the fingerprints: from the environment, else from the home, where they are made once.

    Both hold them as 64 hexadecimal digits, so that one machine's file can become another's variable.
    Raises UsageError.
    """
    given = environ.get(FINGERPRINT_VARIABLE, "")
    if given:
        return _decoded(given, f"{FINGERPRINT_VARIABLE} must be")
    file = home / KEY_FILE
    try:
        if not file.exists():
            _make_key(file)
        text = file.read_text("ascii", "replace")
    except OSError as error:
        raise _unusable(error, file) from None
    return _decoded(text, f"{file} is damaged; restore it, or delete it to begin with new fingerprints: it must hold")


def _make_key(file: Path) -> None:
    """Whole or not at all; of several that try at once the first one's stays."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_hex(KEY_BYTES) + "\n")
            out.flush()
            os.fsync(out.fileno())
        with suppress(FileExistsError):
            os.link(temporary, file)
    finally:
        Path(temporary).unlink()


def _decoded(text: str, must: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError(f"{must} {2 * KEY_BYTES} hexadecimal digits, as `openssl rand -hex {KEY_BYTES}` prints")
    return key


def _unusable(error: OSError, path: Path) -> UsageError:
    reason = (error.strerror or str(error)).lower()
    return UsageError(
        f"{error.filename or path} cannot be made or written ({reason}); set home (WIRETAPE_HOME) to a folder of yours"
    )
