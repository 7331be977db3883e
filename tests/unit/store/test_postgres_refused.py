"""Servers and databases that cannot be used: each is told in one sentence that says what to do, by the store and by the
commands, and none of them shows the password."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.errors import UsageError, WiretapeError
from proxy.store import postgres
from proxy.store.engine import open_engine
from proxy.store.errors import DatabaseAway, DatabaseTooOld
from proxy.store.migrate import upgrade
from tests.support.guarded import PASSWORD, guarded, url
from tests.support.here import Ran, run_here


def on_the_socket(user: str, port: int | None = None) -> str:
    server = guarded()
    return f"postgresql://{user}@/owner?host={server.folder}&port={port or server.port}"


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


NO_CONNECTION: dict[str, tuple[Callable[[], str], type[WiretapeError], str]] = {
    "wrong password": (lambda: url("owner", password="no"), DatabaseAway, "refuses the password: check user and"),
    "no password": (lambda: url("owner", password=None), DatabaseAway, "wants a password: put it into the database"),
    "no such user": (lambda: url("owner", "nobody"), DatabaseAway, "refuses the user: create it, or check its name"),
    "a role that may not log in": (lambda: url("owner", "retired"), DatabaseAway, "ALTER ROLE ... LOGIN"),
    "no line in pg_hba.conf": (lambda: url("owner", "stranger"), DatabaseAway, "(pg_hba.conf): allow this machine"),
    "a line that rejects": (lambda: url("owner", "walled"), DatabaseAway, "(pg_hba.conf): allow this machine"),
    "peer": (lambda: on_the_socket("peered"), DatabaseAway, "name a host, such as @localhost"),
    "too many": (lambda: url("owner", "crowded"), DatabaseAway, "has too many connections: raise"),
    "no such database": (lambda: url("nowhere"), DatabaseAway, "does not exist: create it, for example"),
    "no CONNECT right": (lambda: url("private", "guest"), DatabaseAway, "GRANT CONNECT ON DATABASE"),
    "no TLS": (lambda: url("owner", more="?sslmode=require"), DatabaseAway, "check sslmode in the database URL"),
    "no root certificate": (
        lambda: url("owner", more="?sslmode=verify-full&sslrootcert=/nowhere/root.crt"),
        DatabaseAway,
        "check sslmode",
    ),
    "wrong port": (
        lambda: url("owner", host=f"127.0.0.1:{closed_port()}"),
        DatabaseAway,
        "start the server, or check host and port",
    ),
    "wrong socket": (lambda: on_the_socket("owner", 1), DatabaseAway, "start the server, or check the socket's folder"),
    "unknown host": (lambda: url("owner", host="nowhere.invalid"), DatabaseAway, "its host name is not known here"),
    "several hosts": (
        lambda: url("owner", password="no", host=f"127.0.0.1:{guarded().port},127.0.0.1:{closed_port()}"),
        DatabaseAway,
        "refuses the password",
    ),
    "no standby": (
        lambda: url("owner", more="?target_session_attrs=standby"),
        DatabaseAway,
        "target_session_attrs asks for",
    ),
    "encoding": (lambda: url("ascii"), UsageError, "has the encoding SQL_ASCII: make one with CREATE DATABASE"),
    "value of a parameter": (
        lambda: url("owner", more="?sslmode=on"),
        UsageError,
        'mend the database URL\'s parameters (invalid sslmode value: "on")',
    ),
    "setting": (lambda: url("owner", more="?options=-cno%3D1"), UsageError, "mend the database URL's parameters"),
    "unknown parameter": (
        lambda: url("owner", more="?ssl=require"),
        UsageError,
        "parameter ssl, which is not known: did you mean sslmode?",
    ),
    "escapes": (
        lambda: url("owner").replace("%40", "@"),
        UsageError,
        "cannot be read: use postgresql://USER:PASSWORD@HOST:5432/NAME",
    ),
}


def check_sentence(said: str, told: str) -> None:
    """One line, in which what to do stands, and which shows no piece of the password."""
    assert told in said
    assert said.startswith("the database")
    assert said.isprintable()
    assert len(said) < 500
    for piece in re.split(r"[^a-z]+", PASSWORD):
        assert len(piece) < 3 or piece not in said.replace("refuses the password", "").replace("PASSWORD", "")


def check_command(ran: Ran, code: int, told: str) -> None:
    assert (ran.code, ran.out) == (code, b""), ran.err
    assert ran.err.startswith("wiretape: the database")
    assert ran.err.endswith("\n")
    said = ran.err.removeprefix("wiretape: ").removesuffix("\n")
    check_sentence(said, told)


@pytest.mark.parametrize(("make", "error", "told"), NO_CONNECTION.values(), ids=NO_CONNECTION)
def test_no_connection(make: Callable[[], str], error: type[WiretapeError], told: str, tmp_path: Path) -> None:
    given = make()
    with pytest.raises(error) as raised:
        open_engine(given, create=True)
    check_sentence(str(raised.value), told)
    for command in (["ls"], ["db", "upgrade"], ["db", "check"]):
        check_command(run_here(tmp_path, "--database", given, *command), error.exit_code, told)


@pytest.fixture
def no_postgres() -> Iterator[int]:
    """The port of something that is no Postgres."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(100)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("mode", ["prefer", "disable"])
def test_something_else_answers(no_postgres: int, mode: str) -> None:
    with pytest.raises(DatabaseAway) as raised:
        open_engine(url("owner", host=f"127.0.0.1:{no_postgres}", more=f"?sslmode={mode}"), create=True)
    check_sentence(str(raised.value), "is answered by something that is no Postgres: check host and port")


def test_a_server_that_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres, "OLDEST", 990000)
    told = "is Postgres 18, and wiretape needs 99 or newer: upgrade the server, or name another"
    with pytest.raises(UsageError) as raised:
        open_engine(url("owner"), create=True)
    check_sentence(str(raised.value), told)
    check_command(run_here(tmp_path, "--database", url("owner"), "ls"), 2, told)


# --- connected, but no tables can be made ---


@pytest.fixture
def database() -> Iterator[str]:
    """An empty one, of the server's own user."""
    made = guarded().new_database()
    yield made
    guarded().drop(made)


def check_upgrade(given: str, folder: Path, told: str, code: int = 1) -> None:
    engine = open_engine(given, create=True)
    try:
        with pytest.raises(WiretapeError) as raised:
            upgrade(engine)
    finally:
        engine.dispose()
    check_sentence(str(raised.value), told)
    check_command(run_here(folder, "--database", given, "db", "upgrade"), code, told)


def test_before_the_first_upgrade_commands_name_it(database: str, tmp_path: Path) -> None:
    assert DatabaseTooOld.exit_code == 2
    told = "has no tables yet: run `wiretape db upgrade`"
    for command in (["ls"], ["db", "check"], ["spend"]):
        check_command(run_here(tmp_path, "--database", url(database), *command), 2, told)


def test_a_user_who_may_make_no_tables(database: str, tmp_path: Path) -> None:
    told = "refuses a right: make this user the owner of the database, or of a schema of its own (permission denied"
    check_upgrade(url(database), tmp_path, told)


def test_a_schema_that_is_not_there(database: str, tmp_path: Path) -> None:
    given = url(database, more="?options=-csearch_path%3Dnowhere")
    check_upgrade(given, tmp_path, "has no schema to work in: create it, or set search_path")


def test_a_database_that_takes_no_writes(tmp_path: Path) -> None:
    check_upgrade(url("readonly"), tmp_path, "takes no writes now (a standby, or set read-only): name the primary")


@pytest.mark.parametrize("visible", [True, False])
def test_another_programs_tables(database: str, tmp_path: Path, visible: bool) -> None:
    """Also where this user has no right to them."""
    guarded().query(database, "GRANT CREATE ON SCHEMA public TO owner")
    guarded().query(database, "CREATE TABLE names (id int)")
    if visible:
        guarded().query(database, "GRANT ALL ON names TO owner")
    check_upgrade(url(database), tmp_path, "holds another program's table names: name another database", 2)
    assert guarded().query(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_tables_that_are_another_users(database: str, tmp_path: Path) -> None:
    guarded().query("postgres", f"ALTER DATABASE {database} OWNER TO owner")
    assert run_here(tmp_path, "--database", url(database), "db", "upgrade").code == 0
    told = "refuses a right: make this user the owner"
    for command in (["ls"], ["db", "check"], ["db", "upgrade"]):
        check_command(run_here(tmp_path, "--database", url(database, "guest"), *command), 1, told)


def test_reading_what_takes_no_writes(database: str, tmp_path: Path) -> None:
    """Who only reads does not mind."""
    guarded().query("postgres", f"ALTER DATABASE {database} OWNER TO owner")
    assert run_here(tmp_path, "--database", url(database), "db", "upgrade").code == 0
    guarded().query("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    for command in (["ls"], ["spend"], ["db", "upgrade"]):
        assert run_here(tmp_path, "--database", url(database), *command).code == 0
    ran = run_here(tmp_path, "--database", url(database), "db", "check")
    check_command(ran, 1, "takes no writes now")


def test_a_server_that_is_down(tmp_path: Path) -> None:
    server, given = guarded(), url("owner")
    server.stop()
    try:
        with pytest.raises(DatabaseAway) as raised:
            open_engine(given, create=False)
        ran = run_here(tmp_path, "--database", given, "ls")
    finally:
        server.start()
    check_sentence(str(raised.value), "cannot be reached: start the server, or check host and port")
    check_command(ran, 1, "cannot be reached: start the server, or check host and port")
