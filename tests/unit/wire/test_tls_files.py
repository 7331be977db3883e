"""A port's own certificate and key: what cannot be used is named, and what changes is taken over."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import UsageError
from proxy.wire.tls import ServerTls, own_port_context, tls_context
from tests.support import certificates

Load = Callable[[Path, Path | None], object]
LOADS: dict[str, Load] = {
    "": ServerTls,
    "client_": lambda cert, key: tls_context(None, cert, key),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cert`, `key`, and both in `both`."""
    return certificates.certificate(tmp_path_factory.mktemp("pair"), "localhost").parent


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.certificate(tmp_path_factory.mktemp("other"), "other.test").parent


def names(own: ServerTls, trusted: Path) -> bool:
    """Whether a handshake shows what is trusted; without a name of a host."""
    context = certificates.trusting(trusted)
    context.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = own.context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server)
    waiting = [client, server]
    for _ in range(4):
        for each in list(waiting):
            try:
                each.do_handshake()
                waiting.remove(each)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    assert not waiting
    return True


@pytest.mark.parametrize("prefix", LOADS)
def test_what_can_be_used(pair: Path, prefix: str) -> None:
    LOADS[prefix](pair / "cert", pair / "key")
    LOADS[prefix](pair / "both", None)


@pytest.mark.parametrize("prefix", LOADS)
@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("missing", "key", r"cert .*missing cannot be read: No such file"),
        ("cert", "missing", r"key .*missing cannot be read: No such file"),
        ("key", "key", r"cert .*key holds no certificate in PEM form"),
        ("cert", "cert", r"key .*cert holds no private key in PEM form"),
        ("cert", None, r"cert .*cert holds no private key in PEM form"),
        ("cert", "theirs", r"key .*theirs is not the key of (client_)?cert .*cert$"),
        ("cert", "locked", r"key .*locked has a passphrase, which nobody could type: write the key without one"),
        ("damaged", "key", r"cert .*damaged and its key cannot be used: they are damaged"),
    ],
)
def test_what_cannot_be_used_is_named(
    pair: Path, other: Path, tmp_path: Path, prefix: str, cert: str, key: str | None, problem: str
) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_bytes((pair / name).read_bytes())
    (tmp_path / "theirs").write_bytes((other / "key").read_bytes())
    (tmp_path / "damaged").write_text("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n")
    if key == "locked":
        certificates.locked(tmp_path, pair / "key")
    with pytest.raises(UsageError, match=f"^{prefix}{problem}"):
        LOADS[prefix](tmp_path / cert, None if key is None else tmp_path / key)


def write(folder: Path, source: Path) -> None:
    """As a tool that renews certificates does it: a new file in the place of the old."""
    for name in ("cert", "key"):
        (folder / "new").write_bytes((source / name).read_bytes())
        (folder / "new").rename(folder / name)


def test_what_changes_is_taken_over(pair: Path, other: Path, tmp_path: Path) -> None:
    write(tmp_path, pair)
    own = ServerTls(tmp_path / "cert", tmp_path / "key")
    assert names(own, pair / "cert")
    assert not own.refresh()
    write(tmp_path, other)
    assert not own.refresh(), "it may be half written"
    assert own.refresh()
    assert names(own, other / "cert")
    assert not names(own, pair / "cert")
    assert not own.refresh()


def test_what_changes_for_the_worse_is_said_once(pair: Path, other: Path, tmp_path: Path) -> None:
    write(tmp_path, pair)
    own = ServerTls(tmp_path / "cert", tmp_path / "key")
    for damage, problem in (
        (lambda: (tmp_path / "key").write_bytes((other / "key").read_bytes()), "is not the key of cert"),
        ((tmp_path / "cert").unlink, "cannot be read: No such file"),
    ):
        damage()
        assert not own.refresh()
        with pytest.raises(UsageError, match=problem):
            own.refresh()
        assert not own.refresh(), "it was said"
        assert names(own, pair / "cert")
    write(tmp_path, other)
    assert not own.refresh()
    assert own.refresh()
    assert names(own, other / "cert")


def test_who_asks_a_port_of_our_own_believes_its_certificate_alone(pair: Path, other: Path, tmp_path: Path) -> None:
    assert own_port_context(pair / "cert").verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(UsageError, match=r"forward\.cert .*missing cannot be used: No such file"):
        own_port_context(tmp_path / "missing")
