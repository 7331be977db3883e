"""How values are written: durations, sizes, lists, numbers, words; and the home and the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Settings
from proxy.config.values import Duration, OptionalSize, without_password

Load = Callable[..., Settings]
Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [('"30s"', 30), ('"500ms"', 0.5), ('"5m"', 300), ('"2h"', 7200), ('"7d"', 604800), ("45", 45), ("0.25", 0.25)],
)
def test_durations(read: Load, written: str, seconds: float) -> None:
    assert read(f"[forward]\nshutdown_grace = {written}\n").forward.shutdown_grace == seconds


@pytest.mark.parametrize("written", ['"soon"', '"-1s"', '"1w"', '""', "-1", "true", "inf", "[]", '"never"', '"11000d"'])
def test_bad_durations(refused: Refused, written: str) -> None:
    text = refused(f"[forward]\nshutdown_grace = {written}\n")
    assert 'forward.shutdown_grace must be a duration such as "500ms", "30s" or "7d", not ' in text


@pytest.mark.parametrize(
    ("written", "size"),
    [('"10GiB"', 10 * 2**30), ('"64KiB"', 65536), ('"1MB"', 10**6), ("4096", 4096), ('"1.5kb"', 1500), ('"7 B"', 7)],
)
def test_sizes(read: Load, written: str, size: int) -> None:
    assert read(f"[record]\nmax_journal = {written}\n").record.max_journal == size


@pytest.mark.parametrize("written", ['"much"', "0", "-5", '"10GiBs"', '"0.1B"', "false", '"99999999TiB"'])
def test_bad_sizes(refused: Refused, written: str) -> None:
    text = refused(f"[record]\nmax_journal = {written}\n")
    assert 'record.max_journal must be a size such as "64KiB", "1MB" or "10GiB", or "none", not ' in text


def test_none_and_never(read: Load) -> None:
    toml = '[forward]\nfsync = "never"\n[record]\nmax_journal = "none"\n[upstreams.x]\nurl = "http://x"\n'
    settings = read(toml + 'connect_timeout = "none"\nidle_timeout = "5m"\n')
    assert settings.forward.fsync is None
    assert settings.record.max_journal is None
    assert (settings.upstreams["x"].connect_timeout, settings.upstreams["x"].idle_timeout) == (None, 300)


def test_a_timeout_of_zero_is_refused_rather_than_taken_for_none(refused: Refused) -> None:
    assert 'or "never", not 0' in refused("[forward]\nfsync = 0\n")
    assert 'or "none", not "0s"' in refused('[upstreams.openai]\nidle_timeout = "0s"\n')


class _Written(Settings):
    span: Duration
    room: OptionalSize


@given(st.integers(min_value=0, max_value=3650 * 86_400_000), st.integers(min_value=1, max_value=2**62))
def test_what_is_shown_can_be_written_again(ms: int, size: int) -> None:
    first = _Written(span=ms / 1000, room=size)
    shown = first.model_dump(mode="json", include={"span", "room"})
    assert _Written(**shown) == first


def test_lists_stand_between_commas_in_the_environment(read: Load) -> None:
    settings = read('[record]\nredact_query = ["a", "b"]\n', {"WIRETAPE_RECORD__REDACT_HEADERS": "x-one, x-two"})
    assert (settings.record.redact_headers, settings.record.redact_query) == (("x-one", "x-two"), ("a", "b"))


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[record]\nredact_headers = [1]", 'record.redact_headers must be a list of names such as ["x-my-key"'),
        ('[record]\nredact_query = ["a b"]', "record.redact_query must be a list of names"),
        ('[forward]\nexpose_id = "perhaps"', 'forward.expose_id must be true or false, not "perhaps"'),
        ('[forward]\nport = "x"', 'forward.port must be a whole number from 0 to 65535, not "x"'),
        ("[forward]\nport = 65536", "forward.port must be a whole number from 0 to 65535, not 65536"),
        ("[console]\nport = -1", "console.port must be a whole number from 0 to 65535, not -1"),
        ("[forward]\nworkers = 0", "forward.workers must be a whole number from 1 to 256, not 0"),
        ("[forward]\nworkers = true", "forward.workers must be a whole number from 1 to 256, not true"),
        ('[forward]\nhost = "a b"', "forward.host must be an address or a host name"),
        ("[forward]\nhost = 3", "forward.host must be an address or a host name"),
        (
            '[forward]\non_journal_failure = "refuze"',
            "must be 'refuse' or 'pass', not \"refuze\"; did you mean refuse?",
        ),
        ('[upstreams.openai]\non_client_leave = "drian"', "'cancel' or 'drain', not \"drian\"; did you mean drain?"),
        ('[upstreams.openai]\nrecord = "metta"', "'all', 'meta' or 'none', not \"metta\"; did you mean meta?"),
        ('[upstreams.x]\nurl = "http://x"\ndialect = "antropic"', "did you mean anthropic?"),
    ],
)
def test_wrong_values(refused: Refused, tmp_path: Path, toml: str, says: str) -> None:
    text = refused(toml)
    assert says in text
    assert text.startswith(f"{tmp_path}/given.toml: ")


def test_the_place_of_a_mistake_is_named(refused: Refused, tmp_path: Path) -> None:
    assert refused("[forward]\nport = 70000").startswith(f"{tmp_path}/given.toml: forward.port ")
    environ = {"WIRETAPE_FORWARD__PORT": "70000"}
    assert refused("[forward]\nport = 1", environ).startswith("WIRETAPE_FORWARD__PORT: forward.port ")
    assert refused("", environ, forward__port="x").startswith("the command line: forward.port ")


def test_of_several_problems_the_first_is_told_and_the_rest_counted(refused: Refused) -> None:
    text = refused("[forward]\nprot = 1\n", {"WIRETAPE_FORWARD__WORKERS": "many"}, console__port="x")
    assert text.endswith("forward.prot is not a setting; did you mean forward.port? (and 2 more)")
    assert refused('[forward]\nport = "x"\nworkers = 0').endswith('not "x" (and 1 more)')


def test_home_and_database_become_absolute(read: Load, tmp_path: Path) -> None:
    settings = read('home = "~/tapes"\n')
    assert settings.home == tmp_path / "user/tapes"
    assert settings.database == f"sqlite:///{tmp_path}/user/tapes/wiretape.db"
    assert read('home = "tapes"\n').home == tmp_path / "here/tapes"
    assert read('database = "sqlite:///~/x.db"\n').database == f"sqlite:///{tmp_path}/user/x.db"
    assert read('database = "sqlite:///x.db"\n').database == f"sqlite:///{tmp_path}/here/x.db"
    assert read('database = "postgresql://localhost/w"\n').database == "postgresql://localhost/w"


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('home = "a?b"', "home must be a path without question marks"),
        ('home = "~nobodyhasthisname/x"', "write the whole path"),
        ('home = ""', "home must be a folder's path"),
        ('database = "sqlite:///:memory:"', "database must name a file"),
        ('database = "sqlite:///x.db?mode=ro"', "database must name a file"),
        ('database = "mysql://root:secret@h/x"', "database must name an SQLite file, such as"),
        ("database = 5", "database must be text"),
    ],
)
def test_bad_home_or_database(refused: Refused, toml: str, says: str) -> None:
    text = refused(toml)
    assert says in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////x/a@b.db", "sqlite:////x/a@b.db"),
        ("postgresql://me@h:5432/n", "postgresql://me@h:5432/n"),
        ("postgresql://me:pw@h/n", "postgresql://me:***@h/n"),
        ("postgres://me:p%40w@h:1,i:2/n?sslmode=require", "postgres://me:***@h:1,i:2/n?sslmode=require"),
        ("postgresql:///n?host=/run/pg&password=pw", "postgresql:///n?host=/run/pg&password=***"),
        ("postgresql://[::1]:5432/n", "postgresql://[::1]:5432/n"),
        ("postgresql://h:5432/n?password=se@cret", "postgresql://h:5432/n?password=***"),
        ("postgresql://u:pw@h/n?password=x@tail", "postgresql://u:***@h/n?password=***"),
        ("postgresql://u:secret/n", "postgresql://***"),
        ("postgresql://u:p/w@h/n", "postgresql://***"),
        ("postgresql://h/n?scram_client_key=k", "postgresql://h/n?scram_client_key=***"),
        ("postgresql://h/n?oauth_client_secret=s", "postgresql://h/n?oauth_client_secret=***"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
