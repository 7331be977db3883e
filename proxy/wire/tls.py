"""How upstreams prove who they are. Must not know settings beyond a file's path."""

from __future__ import annotations

import ssl
from pathlib import Path

import truststore

from proxy.errors import UsageError


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Verifies host names and certificates: against `ca_file` (PEM) alone where there is one, else against the system's
    trust store (SSL_CERT_FILE and SSL_CERT_DIR are honoured). Raises UsageError."""
    if ca_file is None:
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        raise UsageError(f"ca_file {ca_file} holds no certificates in PEM form") from None
    except OSError as error:
        raise UsageError(f"ca_file {ca_file} cannot be read: {error.strerror or error}") from None
    return context
