"""Certificates of one's own, made by openssl; each file holds a certificate and its key.

Must not know the project's own code.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from tests.conftest import needs

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


def authority(folder: Path) -> Path:
    """One that signs certificates."""
    _openssl(
        *f"req -x509 {_KEY} -days 2 -subj /CN=authority".split(), "-keyout", folder / "key", "-out", folder / "cert"
    )
    return _both(folder)


def certificate(folder: Path, name: str, *, issuer: Path | None = None, expired: bool = False) -> Path:
    """For a host or a client; without `issuer` it is signed by itself."""
    folder.mkdir(exist_ok=True)
    key, cert = folder / "key", folder / "cert"
    _openssl(*f"req {_KEY} -subj /CN={name}".split(), "-keyout", key, "-out", folder / "asked")
    (folder / "more").write_text(f"subjectAltName=DNS:{name}\n")
    sign: list[str | Path] = (
        ["-CA", issuer, "-CAkey", issuer, "-CAcreateserial"] if issuer is not None else ["-signkey", key]
    )
    days = ["-days", "-1" if expired else "2"]
    _openssl("x509", "-req", "-in", folder / "asked", "-out", cert, "-extfile", folder / "more", *sign, *days)
    return _both(folder)


def locked(folder: Path, key: Path) -> Path:
    """The key, behind a passphrase."""
    path = folder / "locked"
    _openssl("pkey", "-in", key, "-out", path, "-aes256", "-passout", "pass:word")
    return path


def serving(file: Path, clients: Path | None = None) -> ssl.SSLContext:
    """For a server; with `clients` it asks for a certificate of that authority's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


def trusting(file: Path) -> ssl.SSLContext:
    """For a client that believes this certificate, or authority, alone."""
    return ssl.create_default_context(cafile=str(file))


def _both(folder: Path) -> Path:
    both = folder / "both"
    both.write_bytes((folder / "cert").read_bytes() + (folder / "key").read_bytes())
    return both


def _openssl(*words: str | Path) -> None:
    subprocess.run([needs("openssl"), *map(str, words)], check=True, capture_output=True)
