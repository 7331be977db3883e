"""Settings: what holds when nothing is set, who overrides whom, and the sentence that each mistake is met with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.config import Settings, documented_keys, load
from proxy.config.settings import KEYS
from proxy.errors import UsageError
from proxy.presets import PRESETS

Load = Callable[..., Settings]
Refused = Callable[..., str]


def test_nothing_need_be_configured(read: Load, tmp_path: Path) -> None:
    settings = read()
    home = tmp_path / "user/.local/share/wiretape"
    assert settings.source is None
    assert (settings.home, settings.database) == (home, f"sqlite:///{home}/wiretape.db")
    assert (settings.forward.host, settings.forward.port, settings.forward.workers) == ("127.0.0.1", 8800, 1)
    assert (settings.forward.shutdown_grace, settings.forward.fsync, settings.forward.max_request_body) == (30, 1, None)
    assert (settings.forward.expose_id, settings.forward.on_journal_failure) == (True, "refuse")
    assert (settings.forward.allow_anonymous, settings.forward.strip_attribution) == (False, False)
    assert (settings.console.host, settings.console.port, settings.console.token) == ("127.0.0.1", 8801, None)
    assert (settings.record.bodies, settings.record.redact_headers, settings.record.redact_query) == (True, (), ())
    assert (settings.record.max_recorded_body, settings.record.max_journal) == (None, 10 * 2**30)
    openai = settings.upstreams["openai"]
    assert (openai.connect_timeout, openai.first_byte_timeout, openai.idle_timeout) == (10, None, None)
    assert (openai.on_client_leave, openai.record) == ("cancel", "all")
    assert list(settings.upstreams) == list(PRESETS)


def test_file_then_environment_then_flags(read: Load) -> None:
    toml = "[forward]\nport = 1\nworkers = 2\nfsync = 3\n"
    environ = {"WIRETAPE_FORWARD__WORKERS": "20", "WIRETAPE_FORWARD__FSYNC": "30s"}
    forward = read(toml, environ, forward__fsync="300s", forward__port=None).forward
    assert (forward.port, forward.workers, forward.fsync) == (1, 20, 300)


def test_a_blank_variable_counts_as_unset(read: Load) -> None:
    assert read("[forward]\nport = 1\n", {"WIRETAPE_FORWARD__PORT": ""}).forward.port == 1


def test_which_file_is_read(read: Load, tmp_path: Path) -> None:
    users = tmp_path / "user/.config/wiretape/wiretape.toml"
    users.parent.mkdir(parents=True)
    users.write_text("[forward]\nport = 1\n")
    assert (read().forward.port, read().source) == (1, users)

    elsewhere = tmp_path / "elsewhere/wiretape/wiretape.toml"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("[forward]\nport = 2\n")
    assert read(None, {"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}).source == elsewhere
    assert read(None, {"XDG_CONFIG_HOME": "elsewhere"}).source == users

    Path("wiretape.toml").write_text("[forward]\nport = 3\n")
    assert (read().forward.port, read().source) == (3, Path("wiretape.toml").absolute())

    named = read("", {"WIRETAPE_CONFIG": str(users)}).source
    assert named == tmp_path / "given.toml", "--config wins"
    assert read(None, {"WIRETAPE_CONFIG": str(users)}).source == users


@pytest.mark.parametrize("by", ["--config", "WIRETAPE_CONFIG"])
def test_a_named_file_must_exist(tmp_path: Path, by: str) -> None:
    file = tmp_path / "none.toml"
    with pytest.raises(UsageError, match=rf"none\.toml does not exist; {by} must name a file$"):
        load(file if by == "--config" else None, {"WIRETAPE_CONFIG": str(file)}, {})


def test_settings_cannot_be_changed(read: Load) -> None:
    settings = read()
    with pytest.raises(ValidationError):
        settings.forward.port = 1


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[forward]\nprot = 1", "forward.prot is not a setting; did you mean forward.port?"),
        ("[fowrard]\nport = 1", "fowrard.port is not a setting; did you mean forward.port?"),
        ("workers = 1", "workers is not a setting; did you mean forward.workers?"),
        (
            '[upstreams.openai]\nurll = "x"',
            "upstreams.openai.urll is not a setting; did you mean upstreams.openai.url?",
        ),
        ('[forward.port]\nx = "x"', "forward.port.x is not a setting; did you mean forward.port?"),
        ('[keeping]\nzeal = "7d"', "keeping.zeal is not a setting; remove it"),
        ('source = "x"', "source is not a setting; remove it"),
        ("forward = 3", "forward is a table; set a key of it, such as forward.host"),
        ("upstreams = 3", "upstreams is a table; set a key of it, such as upstreams.NAME.url"),
        ('[upstreams]\nopenai = "x"', "upstreams.openai is a table; set a key of it, such as upstreams.openai.url"),
    ],
)
def test_unknown_keys(refused: Refused, tmp_path: Path, toml: str, says: str) -> None:
    assert refused(toml) == f"{tmp_path}/given.toml: {says}"


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("WIRETAPE_FORWARD__PROT", "forward.prot is not a setting; did you mean WIRETAPE_FORWARD__PORT?"),
        ("WIRETAPE_CONSOLE_TOKEN", "console_token is not a setting; did you mean WIRETAPE_CONSOLE__TOKEN?"),
        ("WIRETAPE_FORWARD", "forward is a table; set a key of it, such as WIRETAPE_FORWARD__HOST"),
        ("WIRETAPE_FORWARD__PORT__X", "forward.port.x is not a setting; did you mean WIRETAPE_FORWARD__PORT?"),
        ("WIRETAPE_UPSTREAMS__X__ULR", "upstreams.x.ulr is not a setting; did you mean WIRETAPE_UPSTREAMS__X__URL?"),
        ("WIRETAPE_ZZZ", "zzz is not a setting; remove it"),
    ],
)
@pytest.mark.parametrize("value", ["s3cret", ""])
def test_unknown_variables(refused: Refused, variable: str, says: str, value: str) -> None:
    assert refused(None, {variable: value}) == f"{variable}: {says}"


def test_variables_of_others_and_the_two_that_are_no_keys_are_let_be(read: Load) -> None:
    read("", {"WIRETAPE_FINGERPRINT_KEY": "x", "WIRETAPE_CONFIG": "nowhere", "OPENAI_BASE_URL": "x"})


def test_empty_tables_are_no_mistake(read: Load) -> None:
    assert read("upstreams = {}\n[forward]\n[console]\n").forward.port == 8800
    assert read("[upstreams.openai]\n").upstreams["openai"].url == PRESETS["openai"].url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[forward]\nport = 88 01\n", r"is not valid TOML: .* \(at line 2, column \d+\)$"),
        (b"port\n", r"is not valid TOML: .* \(at line 1, column \d+\)$"),
        (b"a = '\xff'\n", r"is not valid TOML: it is not UTF-8 text$"),
    ],
)
def test_files_that_are_not_toml(tmp_path: Path, text: bytes, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(text)
    with pytest.raises(UsageError, match=says):
        load(file, {}, {})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(is a directory\)$"):
        load(tmp_path, {}, {})


def test_every_key_is_documented(read: Load) -> None:
    rows = documented_keys()
    assert [key for key, _, _ in rows] == [".".join(key) for key in KEYS]
    assert all(meaning.endswith(".") for _, _, meaning in rows)
    shown = read('[prices."a.b/c"]\ninput = 1\n').without_secrets()
    assert shown.pop("source").endswith(".toml")
    in_use = {
        f"{table}.{name}" if isinstance(inner, dict) else table
        for table, inner in shown.items()
        if table not in {"upstreams", "prices"}
        for name in (inner if isinstance(inner, dict) else [""])
    }
    in_use |= {f"upstreams.NAME.{name}" for name in shown["upstreams"]["openai"]}
    in_use |= {f"prices.MODEL.{name}" for name in shown["prices"]["a.b/c"]}
    assert in_use == {key for key, _, _ in rows}
    defaults = {key: default for key, default, _ in rows}
    assert defaults["home"] == '"~/.local/share/wiretape"'
    assert defaults["record.max_journal"] == '"10GiB"'
    assert defaults["upstreams.NAME.url"] == "required"
    for key, default in defaults.items():
        if default not in {"required", "none"} and not key.startswith(("upstreams.", "prices.")):
            read("", None, **{key.replace(".", "__"): json.loads(default)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_permission(read: Load, host: str) -> None:
    settings = read("", None, forward__host=host, console__host=host)
    assert settings.forward.host == host.strip("[]")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_other_hosts_need_permission(read: Load, refused: Refused, host: str) -> None:
    toml = f'[forward]\nhost = "{host}"\n'
    assert "forward.host reaches beyond this machine; set forward.allow_anonymous" in refused(toml)
    assert read(toml, None, forward__allow_anonymous=True).forward.host == host
    toml = f'[console]\nhost = "{host}"\n'
    assert "console.host reaches beyond this machine; set console.token" in refused(toml)
    assert read(toml, {"WIRETAPE_CONSOLE__TOKEN": "s3cret"}).console.host == host


@pytest.mark.parametrize("written", ['" s3cret"', '"s3crét"', "['s3cret']", '"s3\\u0000cret"', '""'])
def test_a_refused_token_is_not_quoted(refused: Refused, written: str) -> None:
    text = refused(f"[console]\ntoken = {written}\n")
    assert "console.token must be " in text
    assert "s3" not in text


def test_secrets_are_shown_nowhere(read: Load) -> None:
    toml = 'database = "postgresql://me:s3cret@db.local/w?sslpassword=s3cret&a=b"\n[console]\ntoken = "s3cret"\n'
    settings = read(toml)
    assert settings.console.token is not None
    assert settings.console.token.get_secret_value() == "s3cret"
    assert "s3cret@" in settings.database
    shown = json.dumps(settings.without_secrets())
    assert "postgresql://me:***@db.local/w?sslpassword=***&a=b" in shown
    assert all("s3cret" not in text for text in (shown, repr(settings), str(settings), settings.model_dump_json()))
