"""Every form of a Postgres URL that people paste works, and no form of it shows the password, escaped or not."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine

from proxy.cli.start import prepare_database
from proxy.config import load
from proxy.errors import UsageError, WiretapeError
from proxy.store.engine import open_engine, place_of, reading, shares
from proxy.store.errors import DatabaseAway
from proxy.store.postgres_url import parse
from tests.support.guarded import PASSWORD, guarded, url
from tests.support.here import run_here

SECRET = "s3cr%tpw"
UNREADABLE = "the database URL cannot be read: use postgresql://USER:PASSWORD@HOST:5432/NAME?sslmode=require, with"


def parts(given: str) -> dict[str, Any]:
    """What libpq is told, but for what it is told always."""
    found = conninfo_to_dict(parse(given).conninfo)
    for always in ("connect_timeout", "application_name", "client_encoding"):
        del found[always]
    return found


# --- forms ---

U, P, H, N = ("user", "u"), ("password", "p"), ("host", "h"), ("dbname", "n")
FORMS: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "postgresql://u:p@h/n": ((U, P, H, N), "postgresql://h/n"),
    "postgres://u:p@h/n": ((U, P, H, N), "postgresql://h/n"),
    "postgresql+psycopg://u:p@h/n": ((U, P, H, N), "postgresql://h/n"),
    "PostgreSQL://u:p@h/n": ((U, P, H, N), "postgresql://h/n"),
    " \n": ((U, P, H, N), "postgresql://h/n"),
    "postgresql://u@h:5433/n": ((U, H, ("port", "5433"), N), "postgresql://h:5433/n"),
    "postgresql://u@h/n?port=5433": ((U, H, ("port", "5433"), N), "postgresql://h:5433/n"),
    "postgresql://u@/n?host=/s/f": ((U, ("host", "/s/f"), N), "postgresql:///n?host=/s/f"),
    "postgresql:///n?host=/s/f&user=u&password=p": (
        (U, P, ("host", "/s/f"), N),
        "postgresql:///n?host=/s/f",
    ),
    "postgresql://u:p@%2Fs%2Ff/n": ((U, P, ("host", "/s/f"), N), "postgresql:///n?host=/s/f"),
    "postgresql://u@/n?host=@abstract": ((U, ("host", "@abstract"), N), "postgresql:///n?host=@abstract"),
    "postgresql://u@[::1]/n": ((U, ("host", "::1"), N), "postgresql://[::1]/n"),
    "postgresql://u@[fe80::1]:5433/n": ((U, ("host", "fe80::1"), ("port", "5433"), N), "postgresql://[fe80::1]:5433/n"),
    "postgresql://u:p@a:1,b:2/n": ((U, P, ("host", "a,b"), ("port", "1,2"), N), "postgresql://a:1,b:2/n"),
    "postgresql://u@a,[::1]:2/n": ((U, ("host", "a,::1"), ("port", ",2"), N), "postgresql://a,[::1]:2/n"),
    "postgresql://u@/n?host=a,b&port=7": ((U, ("host", "a,b"), ("port", "7"), N), "postgresql://a:7,b:7/n"),
    "postgresql://u@h": ((U, H), "postgresql://h/u"),
    "postgresql://u@h/": ((U, H), "postgresql://h/u"),
    "postgresql://h/n": ((H, N), "postgresql://h/n"),
    "postgresql://u@": ((U,), "postgresql:///u"),
    "postgresql://": ((), "postgresql:///"),
    "postgresql://me%40tenant@h/n": ((("user", "me@tenant"), H, N), "postgresql://h/n"),
    "postgresql://h/n?user=me@tenant": ((("user", "me@tenant"), H, N), "postgresql://h/n"),
    "postgresql://u:p%40%3A%2F%3F%23%25%20@h/n": ((U, ("password", "p@:/?#% "), H, N), "postgresql://h/n"),
    "postgresql://u:p?#[:@h/n?connect_timeout=3": ((U, ("password", "p?#[:"), H, N), "postgresql://h/n"),
    "postgresql://u@h/n?ssl=true": ((U, H, N, ("sslmode", "require")), "postgresql://h/n"),
    "postgresql://u@h/n?sslmode=disable&application_name=mine": (
        (U, H, N, ("sslmode", "disable")),
        "postgresql://h/n",
    ),
}


@pytest.mark.parametrize(("given", "form"), FORMS.items(), ids=[repr(each) for each in FORMS])
def test_forms(given: str, form: tuple[tuple[tuple[str, str], ...], str]) -> None:
    wanted, place = form
    given = f"postgresql://u:p@h/n{given}" if given.isspace() else given
    assert shares(given)
    assert (parts(given), parse(given).place) == (dict(wanted), place)


@pytest.mark.parametrize("ignored", ["pgbouncer=true", "PGBOUNCER=true", "pool_timeout=3", "supa=x"])
def test_what_others_understand_is_left_out(ignored: str) -> None:
    plain = parse("postgresql://u:p@h/n?sslmode=require")
    for query in (f"{ignored}&sslmode=require", f"sslmode=require&{ignored}&", f"&{ignored}&sslmode=require"):
        assert parse(f"postgresql://u:p@h/n?{query}") == plain
    assert parse(f"postgresql://u:p@h/n?{ignored}") == parse("postgresql://u:p@h/n")


def test_the_encoding_is_ours_to_choose() -> None:
    found = conninfo_to_dict(parse("postgresql://u@h/n?client_encoding=latin1&application_name=mine").conninfo)
    assert (found["client_encoding"], found["application_name"]) == ("utf8", "mine")
    assert conninfo_to_dict(parse("postgresql://u@h/n").conninfo)["application_name"] == "wiretape"


def every_way_in() -> dict[str, str]:
    """URLs that name the same database of a living server."""
    server = guarded()
    folder, port, secret = quote(str(server.folder), safe=""), server.port, quote(PASSWORD, safe="")
    made = {
        scheme: url("owner").replace("postgresql", scheme)
        for scheme in ("postgres", "postgresql", "postgresql+psycopg")
    }
    return made | {
        "socket as a parameter": f"postgresql://owner:{secret}@/owner?host={server.folder}&port={port}",
        "socket as a host": f"postgresql://owner:{secret}@{folder}:{port}/owner",
        "port as a parameter": url("owner", host="127.0.0.1", more=f"?port={port}"),
        "all as parameters": f"postgresql:///owner?host=127.0.0.1&port={port}&user=owner&password={secret}",
        "without TLS": url("owner", more="?sslmode=disable"),
        "several hosts": url("owner", host=f"127.0.0.1:1,127.0.0.1:{port}"),
        "several hosts, the one that may write": url(
            "owner", host=f"127.0.0.1:1,127.0.0.1:{port}", more="?target_session_attrs=read-write&pgbouncer=true"
        ),
        "no name": url("").removesuffix("/"),
        "no name, but the slash": url(""),
        "a pasted newline": url("owner") + "\n",
    }


def test_every_way_in() -> None:
    for name, given in every_way_in().items():
        engine = open_engine(given, create=False)
        with reading(engine) as connection:
            found = connection.exec_driver_sql("SELECT current_database()::text, current_user::text").one()
        engine.dispose()
        assert tuple(found) == ("owner", "owner"), name


def test_a_user_alone() -> None:
    engine = open_engine(f"postgresql://wiretape@/postgres?host={guarded().folder}&port={guarded().port}", create=False)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT current_user::text").scalar() == "wiretape"
    engine.dispose()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("ssl=require", "a parameter ssl, which is not known: did you mean sslmode?"),
        ("sslMode=require", "a parameter sslMode, which is not known: did you mean sslmode?"),
        ("sslmode=require&aplication_name=x", "a parameter aplication_name, which is not known: did you mean appl"),
        ("schema=public", "a parameter schema, which is not known: take it out"),
        (f"passwort={quote(SECRET)}", "a parameter passwort, which is not known: did you mean password?"),
    ],
)
def test_an_unknown_parameter_is_named(query: str, told: str) -> None:
    with pytest.raises(UsageError, match=told.replace("?", r"\?")) as raised:
        parse(f"postgresql://u:{quote(SECRET)}@h/n?{query}")
    assert_silent(shown(raised.value), SECRET)


# --- secrets ---

WRONG = [
    *("s3cr%tpw", "s3cr@tpw", "s3cr/tpw", "s3cr@x/tpw#x", "s3cr@x?tpw=x", "s3cr/x?tpw=x", "s3cr/x?tpw", "s3cr@x,tpw"),
    *("s3cr@x:tpw", "s3cr/x@tpw", "s3cr tpw", "s3cr@x#tpw", "s3cr:x/tpw", "s3cr@[tpw", "s3cr/x&tpw=x", "s3cr/%tpw"),
]
"""Passwords that were not escaped, and cannot be told from the rest of the URL."""
WHOLE = [
    "postgresql://u:s3crtpw",
    "postgresql://u:s3crtpw/n",
    "postgresql://u:s3cr/tpw?x",
    "postgresql://u@[s3crtpw/n",
]


def shown(error: BaseException) -> str:
    """Everything that anybody could show of an error: its whole chain, also what is hidden from a traceback."""
    said, waiting, seen = [], [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            said += [repr(each), str(each), *traceback.format_exception(each)]
            waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
    return "\n".join(said)


def assert_silent(said: str, *pieces: str) -> None:
    for piece in pieces:
        assert piece not in said


@pytest.mark.parametrize("given", [*(f"postgresql://u:{each}@h/n" for each in WRONG), *WHOLE])
def test_a_password_that_is_not_escaped_is_not_shown(given: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        open_engine(given, create=True)
    assert str(raised.value).startswith(UNREADABLE)
    assert "written as %40 and so on" in str(raised.value)
    assert_silent(shown(raised.value), "s3cr", "tpw")
    for command in (["ls"], ["db", "upgrade"]):
        ran = run_here(tmp_path, "--database", given, *command)
        assert (ran.code, ran.out) == (2, b"")
        assert UNREADABLE in ran.err
        assert_silent(ran.err, "s3cr", "tpw", "Traceback")


SHOWN = [
    *("postgresql://u:{}@h/n", "postgres://u:{}@h:1,i:2/n?sslmode=require", "postgresql://u:{}@%2Fs%2Ff/n"),
    *(
        "postgresql:///n?host=/s/f&password={}",
        "postgresql://u:{}@/n?host=/s/f",
        "postgresql://u@[::1]/n?sslpassword={}",
    ),
    *("postgresql+psycopg://u:{}@h/n?pgbouncer=true", "postgresql://u:{}@h", "postgresql://h,i/n?user=u&password={}"),
]


@pytest.mark.parametrize("form", SHOWN)
def test_what_is_shown_of_a_url_has_no_password(form: str) -> None:
    for secret in ("s3crtpw", "s3cr%40tpw%2F", "s3cr%25tpw"):
        given = form.format(secret)
        address = parse(given)
        settings = load(None, {"HOME": "/nowhere"}, {"database": given})
        for said in (address.place, repr(address), settings.without_secrets()["database"]):
            assert_silent(said, "s3cr", "tpw")
        assert "tpw" in address.conninfo


@pytest.fixture
def open_one() -> Any:
    engine = open_engine(url("owner"), create=False)
    yield engine
    engine.dispose()


PIECES = ("p@ss", "w#rd", quote(PASSWORD, safe=""), "p%40ss")


def test_an_open_database_does_not_show_its_password(open_one: Engine) -> None:
    with open_one.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        said = [repr(each) for each in (open_one, open_one.url, open_one.pool, connection, driver, open_one.dialect)]
    assert_silent("\n".join([place_of(open_one), *said]), *PIECES)


BROKEN = ["", "?sslmode=require", "?sslmode=nonsense", "?connect_timeout=abc", "?nonsense=1", "?options=-cnonsense%3D1"]

LATER = ("", "?sslmode=require", "?options=-cnonsense%3D1")
"""What waiting may mend, as far as anybody can tell: here the database or the user is missing, too."""


@pytest.mark.parametrize("more", BROKEN)
def test_no_error_shows_the_password(more: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for given in (
            url("nowhere", more=more),
            url("nowhere", more=more, host="127.0.0.1:1,127.0.0.1:2"),
            url("nowhere", "nobody", more=more),
        ):
            with pytest.raises(WiretapeError) as raised:
                open_engine(given, create=True)
            assert_silent(shown(raised.value), *PIECES)
            if isinstance(raised.value, DatabaseAway):
                assert not prepare_database(given)  # it is logged, and recording begins
            ran = run_here(tmp_path, "--database", given, "doctor")
            assert_silent(ran.err + ran.out.decode(), *PIECES)
    assert_silent(caplog.text, *PIECES)
    assert ("recording begins all the same" in caplog.text) == (more in LATER)
