"""Errors that a person reads: one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations


class WiretapeError(Exception):
    """An error whose text is meant for the user. `exit_code` is what a command ends with."""

    exit_code = 1


class UsageError(WiretapeError):
    """The user can mend it: configuration, an argument, a port in use, an unwritable home."""

    exit_code = 2
