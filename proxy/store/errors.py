"""What can go wrong with the database, in four kinds that callers treat differently.

`DatabaseAway` is worth waiting for, `ValueRefused` is worth bisecting a batch for; the other two need a person.
"""

from __future__ import annotations

from proxy.errors import UsageError, WiretapeError


class DatabaseAway(WiretapeError):
    """The database cannot be reached or written now: locked, missing, full, unreadable. Wait and try again."""


class DatabaseBusy(DatabaseAway):
    """Another process has what is asked for, for longer than one waits."""


class DatabaseMoved(DatabaseAway):
    """The file that was opened is no longer the one at its path. Open it anew; this engine writes nothing more."""


class ValueRefused(WiretapeError):
    """The database refuses a value or a row (too large, not storable, already there). Waiting does not help."""


class DatabaseTooNew(UsageError):
    """A newer version wrote the database; this one must not touch it."""


class DatabaseTooOld(UsageError):
    """The database lacks this version's tables or changes; `wiretape db upgrade` brings them."""
