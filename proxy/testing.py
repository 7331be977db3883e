"""What the pytest plugin stands on: one playback for a whole test session, however many processes share it.

Its folder has a FIFO that the process which made it holds open: the server ends when that is closed, or gone. Whoever
is first to need the server starts it.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from proxy import presets
from proxy.cli.variables import already_set, no_proxy, values

PATIENCE = 60.0
"""Seconds for the server to start, to answer and to end."""

NO_KEY = "played-by-wiretape"
"""The key in playback, where the environment has none: SDKs insist on one."""

_POLL = 0.05
_EMPTY = "wiretape cassette 1\n\n== times\n== end 0\n"


class Failed(Exception):
    """The server did not do what was asked of it; the text says why."""


class Server:
    """`shared` is the folder of a server that another process holds; None: this one does."""

    def __init__(self, shared: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wiretape-")) if shared is None else shared
        self.port = 0
        self._held = -1
        self.upstreams: dict[str, str] = {}
        if shared is None:
            os.mkfifo(self.folder / "lifeline", 0o600)
            self._held = os.open(self.folder / "lifeline", os.O_RDWR)  # which waits for no reader

    def serve(self, records: bool, upstreams: Sequence[str] = ()) -> None:
        """Start the server unless it runs. `upstreams` are NAME=URL. Raises Failed."""
        self.upstreams = dict(each.partition("=")[::2] for each in upstreams)
        if self.port:
            return
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            address = self.folder / "port"
            if not address.exists():
                address.write_text(str(self._start(records)))
            self.port = int(address.read_text())
        finally:
            os.close(lock)

    def _start(self, records: bool) -> int:
        (self.folder / "empty.cassette").write_text(_EMPTY)
        (self.folder / "wiretape.toml").write_text('[playback]\ncassette = "empty.cassette"\n')
        command = [sys.executable, "-P", "-m", "proxy", "playback", "--port", "0", "--home", "home"]
        command += ["--config", "wiretape.toml", "--lifeline", "lifeline"]
        known = {name: given.url for name, given in already_set(os.environ).items()} | self.upstreams
        command += [f"--upstream={name}={url}" for name, url in known.items()]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WIRETAPE_")}
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own
                [*command, *(["--record"] if records else [])],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the tests'
            )
        (self.folder / "pid").write_text(str(process.pid))
        return self._await_port(process)

    def _await_port(self, process: subprocess.Popen[bytes]) -> int:
        said, until = "", time.monotonic() + PATIENCE
        while time.monotonic() < until:
            said = (self.folder / "log").read_text(errors="replace")
            line = next((each for each in said.splitlines(keepends=True) if each.startswith("playback  http")), "")
            if line.endswith("/\n"):
                return int(line.strip("/\n").rpartition(":")[2])
            if process.poll() is not None:
                break
            time.sleep(_POLL)
        raise Failed(f"wiretape's playback did not start: {said.strip() or 'it says nothing'}")

    def open(self, mode: str, cassette: Path | bytes, rules: Mapping[str, Any]) -> str:
        """A new session; its name. Raises Failed."""
        name = uuid4().hex
        query = urlencode({"mode": mode, "rules": json.dumps(rules)})
        text = cassette.read_bytes() if isinstance(cassette, Path) else cassette
        try:
            self.control("PUT", f"{name}?{query}", text or _EMPTY.encode())
        except Failed as error:
            raise Failed(f"{cassette}: {error}" if isinstance(cassette, Path) else str(error)) from None
        return name

    def control(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """What is answered under /-/sessions/. Raises Failed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * PATIENCE)
        try:
            connection.request(method, f"/-/sessions/{path}", body)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            log = (self.folder / "log").read_text(errors="replace").strip()
            raise Failed(f"wiretape's playback does not answer ({type(error).__name__}): {log[-2000:]}") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise Failed(str(json.loads(said)["error"]["message"]))
        return said

    def variables(self, session: str, *, keys: bool) -> dict[str, str]:
        """Environment variables that lead SDKs to a session; `keys`: with keys, where there are none."""
        names = [*presets.PRESETS, *(name for name in self.upstreams if name not in presets.PRESETS)]
        address = presets.address("127.0.0.1", self.port)
        found = values(address, names, {}, f"session={quote(session, safe='')}") | no_proxy(os.environ)
        if keys:
            wanted = (presets.key_variables(name)[0] for name in names if name not in presets.KEYLESS)
            found |= {variable: NO_KEY for variable in wanted if not os.environ.get(variable)}
        return found

    def close(self) -> None:
        """Let the server end, and wait for it."""
        if self._held < 0:
            return
        os.close(self._held)
        self._held = -1
        pid = self.folder / "pid"
        until = time.monotonic() + PATIENCE
        while pid.exists() and _lives(int(pid.read_text())) and time.monotonic() < until:
            time.sleep(_POLL)
        shutil.rmtree(self.folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    """Whether a process runs, be it a child of ours or of another worker."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def base_url(upstream: str, server: Server | None, session: str) -> str:
    """What to give an SDK; the provider's own address where there is no server. Raises Failed for a name of none."""
    preset = presets.PRESETS.get(upstream)
    if server is not None:
        if preset is None and upstream not in server.upstreams:
            raise Failed(f"{upstream!r} is no upstream: name it under wiretape_upstreams")
        path = presets.base_path(upstream, server.upstreams.get(upstream, ""))
        return f"{presets.address('127.0.0.1', server.port)}/~session={session}/{upstream}{path}"
    if preset is None:
        raise Failed(f"{upstream!r} is no upstream whose address is known")
    return preset.url + preset.base_url_suffix


def replace(file: Path, text: bytes) -> None:
    """Write a file whole, or leave what is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(handle, "wb") as out:
        os.fchmod(handle, 0o644)
        out.write(text)
    Path(temporary).replace(file)
