"""The containers without an engine: compose file and Dockerfile are read, their commands and steps carried out.

What only an engine does, such as networks and volumes, is checked as it is written.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from typer.main import get_command

from proxy.cli.app import app
from proxy.cli.values import DRAIN_TIMEOUT
from proxy.config import Settings, load
from proxy.console.guard import Guard
from proxy.errors import UsageError
from tests.conftest import needs
from tests.support.compose import (
    COMPOSE,
    ROLES,
    Place,
    apart,
    ask,
    ends_well,
    first_process,
    healthy,
    local,
    services,
    started,
    wait_spoken,
    wait_well,
)
from tests.support.dockerfile import Builder, Ignored, StepFailed, parse
from tests.support.running import ROOT, environment, files_of, wait_for

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
UNREACHABLE = re.compile(r"connection broken by|NewConnectionError|Could not fetch URL|name resolution|timed out")


# The compose file, as Docker reads it


def settings_of(service: Mapping[str, Any]) -> Settings:
    """As a role in its container reads them; every variable must be one that is known."""
    return load(None, {"HOME": "/nowhere", **service["environment"]}, {})


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9]+)([sm])", text).groups()  # type: ignore[union-attr]  # None is a failure, too
    return float(number) * {"s": 1, "m": 60}[unit]


def test_all_roles_are_one_image_that_is_built_once() -> None:
    found = services()
    assert set(found) == {*ROLES, "postgres"}
    assert {found[role]["image"] for role in ROLES} == {"wiretape"}
    assert [role for role in ROLES if "build" in found[role]] == ["forward"]
    assert all(found[role].get("pull_policy") == "never" for role in ROLES if role != "forward"), "a stranger's image"
    assert found["postgres"]["image"] == "postgres:18"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_no_more_than_it_needs(role: str) -> None:
    service = services()[role]
    assert service["read_only"] is True
    assert service["tmpfs"] == "/tmp"  # noqa: S108 - the one of a container
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["volumes"] == ["home:/var/lib/wiretape"], "one home for all, in which a lock is one for all"


@pytest.mark.parametrize("role", ROLES)
def test_the_commands_exist(role: str) -> None:
    service = services()[role]
    assert service["command"] == [role]
    assert role in get_command(app).commands  # type: ignore[attr-defined]  # the application is a group of commands
    assert "entrypoint" not in service


def test_what_is_published_is_for_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {"forward": ["127.0.0.1:8800:8800"], "console": ["127.0.0.1:8801:8801"]}
    moved = services(WIRETAPE_FORWARD__PORT="9000", WIRETAPE_CONSOLE__PORT="9001")
    assert moved["forward"]["ports"] == ["127.0.0.1:9000:9000"]
    assert moved["console"]["ports"] == ["127.0.0.1:9001:9001"]


def test_recording_waits_for_nothing_and_storing_for_the_database() -> None:
    found = services()
    assert "depends_on" not in found["forward"]
    assert "depends_on" not in found["console"]
    assert found["ingest"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert set(found["ingest"]["depends_on"]) == {"postgres"}
    assert found["postgres"]["healthcheck"]["test"][1] == "pg_isready"


def test_a_stop_leaves_time_to_end_well() -> None:
    found = services()
    assert seconds(found["forward"]["stop_grace_period"]) > settings_of(found["forward"]).forward.shutdown_grace + 5
    assert seconds(found["ingest"]["stop_grace_period"]) > DRAIN_TIMEOUT + 5


@pytest.mark.parametrize("role", ROLES)
def test_the_configuration_knows_every_variable(role: str) -> None:
    settings = settings_of(services()[role])
    assert (settings.forward.host, settings.forward.port, settings.forward.allow_anonymous) == ("0.0.0.0", 8800, True)
    assert (settings.console.host, settings.console.port) == ("console", 8801)
    assert settings.console.token is not None
    assert settings.console.token.get_secret_value() == "wiretape"
    assert settings.database == "postgresql://wiretape:wiretape@postgres/wiretape"
    with pytest.raises(UsageError, match=r"FORWARD__HORSTS: forward\.horsts is not a setting"):
        load(None, {"HOME": "/nowhere", "WIRETAPE_FORWARD__HORSTS": "x"}, {})


def test_what_may_be_set_reaches_the_roles() -> None:
    chosen = services(POSTGRES_PASSWORD="s3", WIRETAPE_CONSOLE__TOKEN="mine", WIRETAPE_FINGERPRINT_KEY="ab" * 32)
    settings = settings_of(chosen["ingest"])
    assert settings.database == "postgresql://wiretape:s3@postgres/wiretape"
    assert chosen["postgres"]["environment"]["POSTGRES_PASSWORD"] == "s3"
    assert settings.console.token is not None
    assert settings.console.token.get_secret_value() == "mine"
    assert chosen["forward"]["environment"]["WIRETAPE_FINGERPRINT_KEY"] == "ab" * 32
    elsewhere = services(WIRETAPE_DATABASE="postgresql://them@db.example.com/all", NODE="two")
    assert settings_of(elsewhere["ingest"]).database == "postgresql://them@db.example.com/all"
    assert elsewhere["forward"]["hostname"] == "two"


def test_the_console_answers_to_no_foreign_name() -> None:
    guard = Guard(lambda *_: None, host=settings_of(services()["console"]).console.host, token="wiretape")  # type: ignore[arg-type]  # it is never asked
    assert all(map(guard.knows, ("127.0.0.1:8801", "localhost:8801", "console:8801")))
    assert not guard.knows("rebound.example.com:8801"), "with a token that everybody knows this is all that protects it"


def test_the_page_names_only_what_there_is() -> None:
    options = set(re.findall(r"\$\{(\w+):-", COMPOSE))
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == options
    for name, value in re.findall(r"\b(WIRETAPE_[A-Z_]+)=([^\s`]+)", PAGE):
        load(None, {"HOME": "/nowhere", name: value}, {})
    for service, words in re.findall(r"docker compose exec (?:-T )?(\w+) wiretape (\w+)", PAGE):
        assert service in services()
        assert words in get_command(app).commands  # type: ignore[attr-defined]  # the application is a group of commands


# The roles, started as in their containers


@pytest.fixture
def checkout(tmp_path: Path) -> Place:
    """The package as it lies here, with nothing of an image."""
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = environment(tmp_path, {"WIRETAPE_HOME": str(home), "PATH": path})
    return Place((sys.executable, "-m", "proxy"), variables, folder, home, tmp_path)


@pytest.mark.parametrize("role", ROLES)
def test_a_check_is_well_while_its_role_runs_and_only_then(checkout: Place, role: str) -> None:
    service = local(checkout.home)[role]
    assert not healthy(checkout, service)
    with started(checkout, role, service) as process:
        wait_well(checkout, role, service, process)
        assert ends_well(process)
    assert not healthy(checkout, service)


@pytest.mark.parametrize("role", ROLES)
def test_as_the_first_process_a_role_obeys_sigterm(checkout: Place, role: str) -> None:
    """The kernel keeps signals from a first process that handles none."""
    service = local(checkout.home)[role]
    with started(checkout, role, service, *apart()) as process:
        wait_spoken(checkout, role, process)
        assert ends_well(process, first_process(process))


def test_the_roles_see_each_other_from_container_to_container(checkout: Place) -> None:
    found, words = local(checkout.home), apart()

    def ready() -> bool:
        with suppress(httpx.HTTPError):
            return ask(found["console"], "CONSOLE", "/-/ready", token="wiretape").status_code == httpx.codes.OK
        return False

    with ExitStack() as stack:
        for role in ROLES:
            process = stack.enter_context(started(checkout, role, found[role], *words))
            # One after another: first processes that are born in one tick of the clock look like one and the same.
            wait_spoken(checkout, role, process)
        wait_for(ready, "all to be ready", timeout=10.0)


# The Dockerfile


def test_the_image_runs_as_nobody_who_may_change_it() -> None:
    *_, last = parse(DOCKERFILE)
    assert last.last("USER") == "10001:10001"
    assert last.words("ENTRYPOINT") == ["wiretape"]
    assert last.last("STOPSIGNAL") == "SIGTERM"
    assert set(last.last("EXPOSE").split()) == {"8800", "8801"}
    assert last.last("VOLUME") == "/var/lib/wiretape"
    variables = last.pairs("ENV")
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert {name for name in variables if name.startswith("WIRETAPE_")} == {"WIRETAPE_HOME"}, "else it is for compose"
    assert {"org.opencontainers.image.title", "org.opencontainers.image.licenses"} <= last.pairs("LABEL").keys()


def test_the_last_stage_takes_only_the_environment() -> None:
    first, last = parse(DOCKERFILE)
    assert first.base == last.base, "its Python is the one that the environment was made with"
    assert [arguments for name, arguments in last.steps if name == "COPY"] == [
        f"--from={first.name} /opt/wiretape /opt/wiretape"
    ]
    installed = [arguments for name, arguments in first.steps if "--requirement" in arguments]
    assert len(installed) == 1
    assert "--require-hashes" in installed[0]


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("proxy/wire/server.py", False),
        ("migrations/versions/0001_first_tables.py", False),
        ("requirements.lock", False),
        ("proxy/wire/__pycache__/server.cpython-313.pyc", True),
        (".env", True),
        (".git/config", True),
        ("docs/README.md", True),
        ("tests/proxy", True),
        ("wiretape.toml", True),
    ],
)
def test_a_build_sees_only_what_it_needs(path: str, out: bool) -> None:
    assert (Path(path) in Ignored((ROOT / ".dockerignore").read_text())) == out


@dataclass
class Image:
    """What the Dockerfile makes: a root folder, and how it is entered."""

    root: Path
    place: Place


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("image")
    # How this machine reaches an index, where caches are: all but what is ours or Python's.
    foreign = ("WIRETAPE_", "PYTHON", "VIRTUAL_ENV")
    machine = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    base = Path(getattr(sys, "_base_executable", sys.executable))  # the one that environments are made of
    builder = Builder(ROOT, folder, base, machine)
    try:
        variables = builder.build(DOCKERFILE)
    except StepFailed as failed:
        if not UNREACHABLE.search(failed.output):
            raise
        reason = "no package index is reached from here, and the image is built from one"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    # A read-only file system, and a user to whom nothing belongs but the home.
    for path in [builder.root, *builder.root.rglob("*")]:
        if not path.is_symlink() and path not in {builder.root / "tmp", Path(variables["HOME"])}:
            path.chmod(path.stat().st_mode & ~0o222)
    variables |= {"TMPDIR": str(builder.root / "tmp"), "LC_ALL": "C.UTF-8"}
    stage = parse(DOCKERFILE)[-1]
    program = (*_as_user(stage.last("USER")), *stage.words("ENTRYPOINT"))
    return Image(builder.root, Place(program, variables, builder.workdir, Path(variables["HOME"]), folder))


def _as_user(user: str) -> list[str]:
    """Becomes the image's user, with no capability but to see what this machine's folders keep from others."""
    if os.geteuid() != 0:
        return []
    uid, gid = user.split(":")
    kept = [f"--{name}-caps=+dac_read_search" for name in ("inh", "ambient")]
    return [
        *(needs("setpriv"), f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
        *("--bounding-set=-all,+dac_read_search", *kept),
        "--securebits=+no_setuid_fixup",  # else access(2) would answer for the user without that capability
    ]


def test_the_image_holds_what_runs_and_not_what_builds(image: Image) -> None:
    (packages,) = (image.root / "opt/wiretape/lib").glob("python3.*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert {"proxy", "uvicorn", "sqlalchemy"} <= names
    assert not {"pip", "setuptools", "hatchling", "editables", "tests"} & names
    assert {path.name for path in image.root.iterdir()} == {"etc", "opt", "tmp", "var"}
    sources = [path for path in (packages / "proxy").rglob("*.py") if "versions" not in path.parts]
    compiled = {path.name.partition(".")[0] for path in (packages / "proxy").rglob("*.pyc")}
    assert {path.stem for path in sources} <= compiled


def test_the_image_runs_every_role_and_writes_only_into_its_home(image: Image) -> None:
    before = {path for path in files_of(image.root) if image.place.home not in path.parents}
    found = local(image.place.home)
    with (
        started(image.place, "forward", found["forward"]) as forward,
        started(image.place, "ingest", found["ingest"]) as ingest,
        started(image.place, "console", found["console"]) as console,
    ):
        for role, process in zip(ROLES, (forward, ingest, console), strict=True):
            wait_well(image.place, role, found[role], process)
        assert ask(found["forward"], "FORWARD", "/-/live").status_code == httpx.codes.OK
        assert ask(found["forward"], "FORWARD", "/demo/v1/models").status_code == httpx.codes.OK
        assert ask(found["console"], "CONSOLE", "/-/ready").status_code == httpx.codes.UNAUTHORIZED
        ready = ask(found["console"], "CONSOLE", "/-/ready", token="wiretape")
        assert ready.json() == {"ok": True, "problems": []}
        assert ends_well(forward)
        assert ends_well(ingest)
        assert ends_well(console)
        assert not any(healthy(image.place, found[role]) for role in ROLES)
    listed = subprocess.run(
        [*image.place.program, "ls", "--format", "json"],
        cwd=image.place.folder,
        env={**image.place.variables, **found["forward"]["environment"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "/v1/models" in listed.stdout
    after = {path for path in files_of(image.root) if image.place.home not in path.parents}
    assert after == before
    assert list(image.place.home.glob("journal")), "the home is where it was said"
    if os.geteuid() == 0:
        assert (image.place.home / "journal").stat().st_uid == 10001


def test_the_image_alone_is_well_as_its_own_check_says(image: Image) -> None:
    stage = parse(DOCKERFILE)[-1]
    service = {**local(image.place.home)["forward"], "command": stage.words("CMD")}
    service["healthcheck"] = {"test": ["CMD", *stage.words("HEALTHCHECK")]}
    with started(image.place, "serve", service) as process:
        wait_well(image.place, "serve", service, process)
        assert ends_well(process)
    assert not healthy(image.place, service)
