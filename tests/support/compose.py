"""The services of docker-compose.yml as Compose reads them, and their roles started without a container engine.

Must not know how an image is made.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any

import httpx2 as httpx
import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

from tests.conftest import needs
from tests.support.running import PATIENCE, ROOT, wait_for

COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
ROLES = ("forward", "ingest", "console")


def filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    """`${NAME:-DEFAULT}` as Compose fills it in, after YAML is read; a default may hold others."""
    if isinstance(value, dict):
        return {key: filled_in(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [filled_in(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    innermost = re.compile(r"\$\{(\w+):-([^{}$]*)\}")
    while innermost.search(value):
        value = innermost.sub(lambda found: variables.get(found[1]) or found[2], value)
    assert "$" not in value, "another form than ${NAME:-DEFAULT}"
    return value


def services(**variables: str) -> dict[str, Any]:
    found = filled_in(yaml.safe_load(COMPOSE)["services"], variables)
    assert isinstance(found, dict)
    return found


def free_port() -> int:
    with create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Place:
    """Where roles run: what they are started with, and their variables but for those of the compose file."""

    program: tuple[str, ...]
    variables: dict[str, str]
    folder: Path
    home: Path
    logs: Path

    def log(self, role: str) -> str:
        return (self.logs / f"{role}.log").read_text(errors="replace")


@contextmanager
def started(place: Place, role: str, service: Mapping[str, Any], *before: str) -> Iterator[subprocess.Popen[bytes]]:
    with (place.logs / f"{role}.log").open("wb") as out:
        process = subprocess.Popen(
            [*before, *place.program, *service["command"]],
            cwd=place.folder,
            env={**place.variables, **service["environment"]},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        assert "Traceback" not in place.log(role)


def local(home: Path) -> dict[str, Any]:
    """The services for this machine: free ports, an address instead of a container's name, SQLite."""
    ports = {f"WIRETAPE_{section}__PORT": str(free_port()) for section in ("FORWARD", "CONSOLE")}
    found = services(**ports, WIRETAPE_DATABASE=f"sqlite:///{home}/wiretape.db")
    for role in ROLES:
        found[role]["environment"]["WIRETAPE_CONSOLE__HOST"] = "127.0.0.1"
    return found


def healthy(place: Place, service: Mapping[str, Any]) -> bool:
    """What the service's own check says."""
    form, *command = service["healthcheck"]["test"]
    assert form == "CMD"
    done = subprocess.run(
        command,
        cwd=place.folder,
        env={**place.variables, **service["environment"]},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode == 0


def wait_well(place: Place, role: str, service: Mapping[str, Any], process: subprocess.Popen[bytes]) -> None:
    def well() -> bool:
        assert process.poll() is None, place.log(role)
        return healthy(place, service)

    wait_for(well, f"{role} to be well")


def ask(service: Mapping[str, Any], section: str, target: str, token: str = "") -> httpx.Response:
    url = f"http://127.0.0.1:{service['environment'][f'WIRETAPE_{section}__PORT']}{target}"
    return httpx.get(url, headers={"authorization": f"Bearer {token}"} if token else {}, trust_env=False)


def ends_well(process: subprocess.Popen[bytes], pid: int | None = None) -> bool:
    """Whether SIGTERM, to it or to the process that it waits for, ends it with 0."""
    os.kill(pid or process.pid, signal.SIGTERM)
    return process.wait(PATIENCE) == 0


def apart() -> list[str]:
    """Starts a command as the first process of a process table of its own, as a container does."""
    words = [needs("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        words[1:1] = ["--user", "--map-current-user"]
    if subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        reason = "this system lets no user have a process table apart"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return words


def wait_spoken(place: Place, role: str, process: subprocess.Popen[bytes]) -> None:
    def spoken() -> bool:
        assert process.poll() is None, place.log(role)
        return bool(list((place.home / "status").glob(f"{role}-*.json")))

    wait_for(spoken, f"{role} to be up")


def first_process(process: subprocess.Popen[bytes]) -> int:
    """The role's, as it is seen from here."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(wait_for(lambda: children.read_text().split(), "the role")[0])
