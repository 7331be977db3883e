"""How upstreams prove who they are, and how we do: to upstreams, and to clients of the data port.

Must not know settings beyond a file's path.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import truststore

from proxy.errors import UsageError

_Stamp = tuple[tuple[int, int, int], ...]


class _Locked(Exception):
    """OpenSSL asks for a passphrase."""


def tls_context(
    ca_file: Path | None = None, client_cert: Path | None = None, client_key: Path | None = None
) -> ssl.SSLContext:
    """Verifies host names and certificates: against `ca_file` (PEM) alone where there is one, else against the system's
    trust store (SSL_CERT_FILE and SSL_CERT_DIR are honoured). Shows `client_cert` to whoever asks for one; its key may
    be in the same file. Raises UsageError."""
    if ca_file is None:
        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError:
            raise UsageError(f"ca_file {ca_file} holds no certificates in PEM form") from None
        except OSError as error:
            raise UsageError(f"ca_file {ca_file} cannot be read: {error.strerror or error}") from None
    if client_cert is not None:
        _load(context, client_cert, client_key, "client_")
    return context


def own_port_context(cert: Path) -> ssl.SSLContext:
    """For who asks a port of this home: believes its very certificate, whatever name that is for. Raises UsageError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # no authority need be known
    try:
        context.load_verify_locations(cafile=cert)
    except OSError as error:
        raise UsageError(f"forward.cert {cert} cannot be used: {error.strerror or error}") from None
    return context


def explained(error: ssl.SSLError) -> str:
    """Why there is no TLS with an upstream, or no longer."""
    reason = error.reason or str(error)
    said = re.fullmatch("[A-Z0-9]+_ALERT_(.*)", reason)
    if said is None:
        return reason
    words = said[1].lower().replace("_", " ")
    if words == "certificate required":
        return "it asks for a client certificate (client_cert)"
    if "certificate" in words or words == "unknown ca":
        return f"it does not take our client certificate (client_cert): {words}"
    return f"its alert was {words!r}"


class ServerTls:
    """What a port proves itself with, out of two files that may change: `context` is for its listener, for good."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Raises UsageError. Without `key`, `cert` holds the key too."""
        self._cert = cert
        self._key = key
        self._stamp = self._seen = self._look()
        self._current = self._read()
        self.context = _server_context()
        self.context.sni_callback = self._choose  # called at each handshake, whether a name is sent or not

    def refresh(self) -> bool:
        """Take changed files over, for handshakes from now on; whether they were. To be called now and then: what has
        changed since the last call may be half written still, and is left for the next.

        Raises UsageError, once for each change, for what cannot be used: what there was stays in use.
        """
        before, self._seen = self._seen, self._look()
        if self._seen == self._stamp or self._seen != before:
            return False
        self._stamp = self._seen
        self._current = self._read()
        return True

    def _read(self) -> ssl.SSLContext:
        context = _server_context()
        _load(context, self._cert, self._key)
        return context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _look(self) -> _Stamp:
        found = []
        for path in (self._cert, self._key):
            try:
                stat = None if path is None else path.stat()
            except OSError:
                stat = None
            found.append((0, 0, 0) if stat is None else (stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path | None, prefix: str = "") -> None:
    """A certificate, those behind it and its key. `prefix` begins the names of the settings. Raises UsageError."""
    of_key = f"{prefix}key {key}" if key is not None else f"{prefix}cert {cert}"
    _check_holds(cert, f"{prefix}cert {cert}", b"-----BEGIN CERTIFICATE-----", "certificate")
    _check_holds(key or cert, of_key, b"PRIVATE KEY-----", "private key")

    def locked() -> str:
        raise _Locked

    try:
        context.load_cert_chain(cert, key, password=locked)
    except _Locked:
        raise UsageError(f"{of_key} has a passphrase, which nobody could type: write the key without one") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"{of_key} is not the key of {prefix}cert {cert}") from None
        why = f" ({error.reason})" if error.reason else ""
        raise UsageError(f"{prefix}cert {cert} and its key cannot be used: they are damaged{why}") from None
    except OSError as error:
        raise UsageError(f"{prefix}cert {cert} cannot be read: {error.strerror or error}") from None


def _check_holds(path: Path, named: str, mark: bytes, what: str) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{named} cannot be read: {error.strerror or error}") from None
    if mark not in content:
        raise UsageError(f"{named} holds no {what} in PEM form")
