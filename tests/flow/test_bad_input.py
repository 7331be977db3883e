"""Whatever is wrong with what wiretape is given, it says so in one clear sentence, with exit code 2, and keeps all."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.full import small_disk
from tests.support.here import run_here
from tests.support.rawhttp import connect
from tests.support.running import run_wiretape, serving

SECRET = "never-to-be-quoted"
SERVE = ("serve", "--port", "0", "--console-port", "0")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which three exchanges are recorded; no test may change what is in it."""
    folder = tmp_path_factory.mktemp("recorded")
    with socket.socket() as dead, serving(folder, "--upstream", f"dead=http://127.0.0.1:{_bound(dead)}") as wiretape:
        with connect(int(wiretape.url.rpartition(":")[2])) as client:
            for target, status, words in (
                ("/demo/v1/models", 200, "gpt-4o-mini"),
                ("/demo/v1/models", 200, "gpt-4o-mini"),
                ("/dead/v1/models", 502, f"dead: cannot connect to 127.0.0.1:{dead.getsockname()[1]}"),
                ("/opena/v1/models", 404, "no upstream is named 'opena', did you mean 'openai'?"),
                ("/azure/v1/models", 404, "set upstreams.azure.url to your own"),
                ("http://example.com/", 400, "a reverse proxy"),
            ):
                answer = client.send(f"GET {target} HTTP/1.1\r\nHost: wiretape\r\n\r\n".encode()).read_message()
                assert (answer.status, answer.one("content-type")) == (status, b"application/json")
                assert words in str(json.loads(answer.body))
        wiretape.wait_stored(3)
        assert wiretape.stop() == 0
        assert not wiretape.log
    before = _dump(wiretape.home / "wiretape.db")
    assert any("connect: cannot connect to 127.0.0.1" in line for line in before), "a failure is recorded as well"
    yield wiretape.home
    assert _dump(wiretape.home / "wiretape.db") == before


# The command line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bogus"], "no such command 'bogus' (see `wiretape --help`)"),
        (["serv"], "no such command 'serv'"),
        (["--bogus", "ls"], "no such option: --bogus"),
        (["ls", "--since", "lately"], "--since 'lately' is no time: use for example \"2h\""),
        (["ls", "--status", "9x"], "--status '9x' is none: use a number such as 404, or a class"),
        (["ls", "--outcome", "bad"], "--outcome 'bad' is none: use completed, client_left"),
        (["ls", "--tag", "=x"], "--tag '=x' is none: use NAME=VALUE"),
        (["ls", "--upstream", "nobody"], "--upstream 'nobody' is neither recorded nor configured"),
        (["ls", "--before", "zz"], "'zz' is no exchange id"),
        (["ls", "--limit", "0"], "'--limit'"),
        (["ls", "--limit", "many"], "'--limit'"),
        (["ls", "--format", "xml"], "'--format'"),
        (["ls", "more"], "(more)"),
        (["show"], "missing argument 'ID' (see `wiretape show --help`)"),
        (["show", "ffffffff"], "there is no exchange ffffffff: `wiretape ls` lists what there is"),
        (["show", "x\x1b]0;y"], "is no exchange id"),
        (["show", "12"], "'12' is no exchange id: give the whole id, 4 or more of its digits, the id of its"),
        (["show", "last", "--chunks", "-1"], "'--chunks'"),
        (["replay", "last", "--speed", "0"], "--speed '0' is none: use a number above 0"),
        (["export", "sse", "last"], "no response"),
        (["export", "jsonl", "last", "--limit", "1"], "give either ids or filters"),
        (["export", "jsonl", "--output", "/proc/none"], "/proc/none cannot be written"),
        (["export"], "missing command (see `wiretape export --help`)"),
        (["delete"], "delete takes either ids or filters"),
        (["delete", "--until", "1s"], "3 exchanges: nobody is there to be asked, so give --yes to delete them"),
        (["serve", "--prot", "1"], "no such option: --prot (Possible options: --host, --port)"),
        (["serve", "--port", "many"], "'--port'"),
        (["serve", "--upstream", "mine"], "--upstream takes NAME=URL"),
        (["serve", "--port", "70000"], "forward.port must be a whole number from 0 to 65535, not 70000"),
        (["serve", "--workers", "0"], "forward.workers must be a whole number from 1 to 256, not 0"),
        (["serve", "--host", "0.0.0.0"], "forward.host reaches beyond this machine; set forward.allow_anonymous"),
        (["forward", "--host", "::"], "--allow-anonymous"),
        (["console", "--host", "192.0.2.1"], "console.host reaches beyond this machine; set console.token"),
        (["upstreams", "--upstream", "mine"], "--upstream takes NAME=URL, such as openai=https://api.openai.com"),
        (["upstreams", "--upstream", f"openai=https://u:{SECRET}@host"], "must not hold a user name or password"),
        (["upstreams", "--upstream", f"openai=https://host?key={SECRET}"], "must not hold a query"),
        (["--config", "nowhere.toml", "ls"], "nowhere.toml does not exist; --config must name a file"),
        (["--config", ".", "ls"], ". cannot be read (is a directory)"),
        (["--database", f"mysql://u:{SECRET}@host/db", "ls"], "database must name an SQLite file"),
        (["--database", f"postgresql://u:{SECRET}@[/db", "ls"], "the database URL cannot be read"),
    ],
)  # fmt: skip
def test_a_command_line(recorded: Path, tmp_path: Path, words: list[str], says: str) -> None:
    code = 1 if words[:3] == ["export", "sse", "last"] else 2
    assert says in _said(tmp_path, ["--home", str(recorded), *words], code=code)


def test_an_id_that_may_be_several(recorded: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(recorded / "wiretape.db")) as database:
        ids = [row[0] for row in database.execute("select id from exchange_list order by id desc")]
    for command in (["show"], ["replay"], ["export", "sse"], ["export", "jsonl"], ["delete", "--yes"]):
        said = _said(tmp_path, ["--home", str(recorded), *command, ids[0][:4]])
        assert said == f"{ids[0][:4]} may be any of {', '.join(ids)}: give more digits"


# Configuration


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[forward]\nport = \n", "is not valid TOML: invalid value (at line 2, column 8)"),
        (b"[forward]\nport = 1\n[forward]\n", "(at line 3, column 9)"),
        (b"\xff\xfe", "is not valid TOML: it is not UTF-8 text"),
        (b"forward.prot = 1", "forward.prot is not a setting; did you mean forward.port?"),
        (b"forward.fsync = 'soon'", 'forward.fsync must be a duration such as "500ms", "30s" or "7d", or "never"'),
        (b"forward.expose_id = 'maybe'", 'forward.expose_id must be true or false, not "maybe"'),
        (b"record.max_journal = '10 apples'", 'record.max_journal must be a size such as "64KiB"'),
        (b"[upstreams.mine]\ndialect = 'openai'", "upstreams.mine.url is missing; write where its requests go"),
        (b"[upstreams.azure]\nrecord = 'all'", "upstreams.azure.url is missing; set upstreams.azure.url to your own"),
        (b"[upstreams.mine]\nurl = 'http://h'\ndialect = 'openay'", 'not "openay"; did you mean openai?'),
        (b"console.host = '0.0.0.0'", "console.host reaches beyond this machine; set console.token"),
        (b"console.token = ' never-to-be-quoted '", "console.token must be printable ASCII without blanks"),
        (b"forward.prot = 1\nhome = 3", "(and 1 more)"),
    ],
)
def test_a_configuration_file(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "wiretape.toml").write_bytes(text)
    for words in (["serve"], ["ls"], ["upstreams"]):
        said = _said(tmp_path, words)
        assert said.startswith("wiretape.toml")
        assert says in said


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WIRETAPE_FORWARD__PROT", "1", "forward.prot is not a setting; did you mean WIRETAPE_FORWARD__PORT?"),
        ("WIRETAPE_FORWARD__PORT", "many", 'forward.port must be a whole number from 0 to 65535, not "many"'),
        ("WIRETAPE_CONFIG", "nowhere.toml", "nowhere.toml does not exist; WIRETAPE_CONFIG must name a file"),
        ("WIRETAPE_UPSTREAMS__MINE__URL", f"https://u:{SECRET}@h", "upstreams.mine.url must not hold a user name"),
        ("WIRETAPE_DATABASE", "sqlite:///:memory:", "must name a file, which several processes share"),
    ],
)
def test_a_variable(tmp_path: Path, name: str, value: str, says: str) -> None:
    assert says in _said(tmp_path, ["serve"], {name: value})


# What is in the way


@pytest.mark.parametrize("section", ["forward", "console"])
def test_a_port_in_use(tmp_path: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = {"WIRETAPE_FORWARD__PORT": "0", "WIRETAPE_CONSOLE__PORT": "0"}
        variables[f"WIRETAPE_{section.upper()}__PORT"] = str(port)
        said = _said(tmp_path, ["--home", "home", "serve"], variables)
    assert f"127.0.0.1:{port} is in use by another program; set {section}.port" in said


def test_a_host_that_is_not_here(tmp_path: Path) -> None:
    said = _said(tmp_path, ["serve", "--home", "home", "--host", "192.0.2.7", "--allow-anonymous"])
    assert "192.0.2.7" in said
    assert "forward.host" in said


@pytest.mark.parametrize("command", ["serve", "forward", "ingest", "console"])
def test_a_home_that_cannot_be_made(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    said = _said(tmp_path, [command, "--home", str(tmp_path / "file" / "home")])
    assert str(tmp_path / "file") in said
    assert "home" in said.rpartition(";")[2], "what to do"


@pytest.mark.parametrize("where", ["home", "home/journal", "home/serve.lock"])
def test_something_in_the_way_of_the_home(tmp_path: Path, where: str) -> None:
    way = tmp_path / where
    way.parent.mkdir(exist_ok=True)
    if way.suffix:
        way.mkdir()
        (way / "kept").write_text("mine")
    else:
        way.write_text("mine")
    said = _said(tmp_path, ["--home", "home", *SERVE])
    assert str(way) in said
    assert "home" in said.rpartition(";")[2], "what to do"
    assert ((way / "kept") if way.is_dir() else way).read_text() == "mine"


def test_a_disk_without_any_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 65536):
        (tmp_path / "disk" / "filling").write_bytes(b"x" * 65536)
        said = _said(tmp_path, ["--home", "disk/home", *SERVE])
        assert str(tmp_path / "disk" / "home") in said
        assert "no space left on device" in said


READERS = [["ls"], ["show", "last"], ["export", "jsonl"], ["db", "check"], ["db", "upgrade"]]


@pytest.mark.parametrize("command", [*READERS, [*SERVE], ["ingest"]], ids=lambda words: words[0])
def test_a_database_that_is_none(tmp_path: Path, command: list[str]) -> None:
    text, folder = tmp_path / "notes.txt", tmp_path / "folder"
    text.write_text("This is no database.\n" * 100)
    folder.mkdir()
    for path, says in ((text, "is no SQLite database: name another file"), (folder, "is no file: name one")):
        said = _said(tmp_path, ["--home", "home", "--database", f"sqlite:///{path}", *command])
        assert said.startswith(f"the database {path} {says}")
    assert text.read_text() == "This is no database.\n" * 100
    assert not list(folder.iterdir())


@pytest.mark.parametrize("command", [*READERS, [*SERVE]], ids=lambda words: words[0])
def test_a_newer_database(tmp_path: Path, recorded: Path, command: list[str]) -> None:
    path = tmp_path / "newer.db"
    path.write_bytes((recorded / "wiretape.db").read_bytes())
    with closing(sqlite3.connect(path)) as database:
        database.execute("update alembic_version set version_num = '9999'")
        database.commit()
    before = _dump(path)
    said = _said(tmp_path, ["--home", "home", "--database", f"sqlite:///{path}", *command])
    assert "was written by a newer wiretape (revision 9999" in said
    assert _dump(path) == before


def test_another_package_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "packages" / "other_proxy-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "RECORD").write_text("other_proxy-1.0.dist-info/METADATA,,\nproxy/__init__.py,sha256=x,1\n")
    monkeypatch.syspath_prepend(other.parent)
    for command in ([*SERVE], ["ingest"]):
        said = _said(tmp_path, ["--home", "home", *command])
        assert said.startswith("other_proxy installs a Python package named proxy too")
        assert "pip uninstall other_proxy" in said
    assert not (tmp_path / "home").exists()


def test_a_process_of_its_own_says_the_same(tmp_path: Path) -> None:
    """The sentences above are not those of one function only."""
    for words, begin in (
        (["bogus"], "no such command 'bogus' (see `wiretape --help`)"),
        (["--home", "home", "ls"], "nothing is recorded yet: "),
        (["--home", "home", *SERVE, "--host", "192.0.2.7", "--allow-anonymous"], "the data port cannot listen on"),
    ):
        done = run_wiretape(tmp_path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert _sentence(done.stderr).startswith(begin)


def _said(folder: Path, words: Sequence[str], variables: Mapping[str, str] | None = None, code: int = 2) -> str:
    """The sentence with which a command ends that is given in a folder."""
    done = run_here(folder, *words, variables=variables)
    assert (done.code, done.out) == (code, b"")
    return _sentence(done.err)


def _sentence(err: str) -> str:
    assert re.fullmatch(r"wiretape: [^\n]+\n", err), err
    said = err.removeprefix("wiretape: ").rstrip("\n")
    assert said.isprintable()
    assert SECRET not in said
    assert not re.search(r"Traceback|Error\b|Exception|reason of its own", said), said
    return said


def _bound(sock: socket.socket) -> int:
    """A port that refuses connections for as long as the socket is open."""
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    return port


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())
