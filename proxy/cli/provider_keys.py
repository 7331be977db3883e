"""Providers' keys, out of the environment of whoever calls a command. No key is ever quoted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxy import presets
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.config import Settings


def key_of(upstream: str, environ: Mapping[str, str]) -> str | None:
    """The key of an upstream, None where it needs none. Raises UsageError that names the variable."""
    names = presets.key_variables(upstream)
    for name in names:
        if key := _key_in(name, environ):
            return key
    if upstream in presets.KEYLESS:
        return None
    raise UsageError(f"the key for {upstream} is not recorded: set {' or '.join(names)}")


def held_key(settings: Settings, name: str, environ: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The key that an upstream's requests get here: the header that it goes into, what stands before it there, and
    itself; None where clients bring theirs. Raises UsageError that names the variable."""
    upstream = settings.upstreams[name]
    if not upstream.held or upstream.key_env is None:
        return None
    key = _key_in(upstream.key_env, environ)
    if not key:
        state = "is empty" if upstream.key_env in environ else "is not set"
        raise UsageError(f"upstreams.{name}.key_env names {upstream.key_env}, which {state}: set it to the key")
    return (*presets.key_place(name, upstream.url, upstream.dialect), key)


def _key_in(variable: str, environ: Mapping[str, str]) -> str:
    """Empty where there is none. Raises UsageError for what is none."""
    key = environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) and key:
        raise UsageError(f"{variable} is no key: it has characters that no header can have")
    return key
