"""The edge of every process: an error ends as one sentence on standard error and an exit code, never as a traceback."""

from __future__ import annotations

import sys

from proxy.errors import WiretapeError
from proxy.log import place, safe

INTERRUPTED = 130


def complain(sentence: str) -> None:
    """Say what is wrong."""
    sys.stderr.write(f"wiretape: {safe(sentence)}\n")
    sys.stderr.flush()


def fail(error: Exception) -> int:
    """Say why it failed; the exit code: 2 for what the user can mend, 1 for the rest."""
    if isinstance(error, WiretapeError):
        complain(str(error))
        return error.exit_code
    complain(f"failed for a reason of its own ({place(error)}); please report it")
    return 1
