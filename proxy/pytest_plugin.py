"""The pytest plugin: a test's calls to providers are answered out of a cassette, or recorded into one.

`@pytest.mark.wiretape("name")`, or the fixture `wiretape`; `--wiretape=MODE`. Any SDK in any process takes part, by the
base URLs in its environment. Every run of pytest loads this module, so it loads next to nothing itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from proxy.testing import Server

MODES = ("playback", "record", "record-missing", "off")
RULES = ("ignore_json", "ignore_headers", "match_headers", "normalise")
FOLDER = "wiretape"  # in a worker's input: the place of the server that all workers share

_MARKER = (
    "wiretape(name=None, *, strict=True, ignore_json=[], ignore_headers=[], match_headers=[], normalise=[]): "
    "calls to LLM providers are played from the cassette of this name, or recorded into it"
)
_ODD = re.compile(r"[^\w.@=+-]+")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wiretape")
    group.addoption(
        "--wiretape",
        metavar="MODE",
        choices=MODES,
        default="playback",
        help="Calls of tests that use wiretape: playback (the default: none leaves the machine), record, "
        "record-missing or off.",
    )
    parser.addini("wiretape_cassettes", "Where cassettes are, from the root; else `cassettes` beside each test file.")
    parser.addini("wiretape_upstreams", "More upstreams, or other addresses, as NAME=URL.", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    config.stash[_SERVERS] = _Servers(getattr(config, "workerinput", {}).get(FOLDER))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: the workers share what this process holds."""
    node.workerinput[FOLDER] = str(node.config.stash[_SERVERS].folder())


def pytest_unconfigure(config: pytest.Config) -> None:
    servers = config.stash.get(_SERVERS, None)
    if servers is not None:
        servers.close()


class _Servers:
    """The one server of a test session. `shared` is where it is held by another process."""

    def __init__(self, shared: str | None) -> None:
        self._shared = shared
        self._server: Server | None = None

    def folder(self) -> Path:
        return self._made().folder

    def serving(self, config: pytest.Config) -> Server:
        server = self._made()
        server.serve(config.getoption("--wiretape") != "playback", tuple(config.getini("wiretape_upstreams")))
        return server

    def _made(self) -> Server:
        if self._server is None:
            from proxy.testing import Server

            self._server = Server(None if self._shared is None else Path(self._shared))
        return self._server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


_SERVERS = pytest.StashKey[_Servers]()
_USED = pytest.StashKey["Wiretape"]()
_PASSED = pytest.StashKey[bool]()


class _Wanted(NamedTuple):
    """What a test asks for."""

    name: str
    strict: bool
    rules: dict[str, Any]


class Wiretape:
    """What the fixture gives to a test. `mode` is that of the run, `cassette` the file."""

    def __init__(self, mode: str, cassette: Path, server: Server | None, session: str) -> None:
        self.mode = mode
        self.cassette = cassette
        self._server = server
        self._session = session

    def base_url(self, upstream: str = "openai") -> str:
        """What to give an SDK for an upstream: its own address where the mode is `off`."""
        from proxy import testing

        return testing.base_url(upstream, self._server, self._session)

    def variables(self) -> dict[str, str]:
        """The environment variables that lead SDKs and tools here, for other processes; this one has them already."""
        return {} if self._server is None else self._server.variables(self._session, keys=self.mode == "playback")

    def report(self) -> dict[str, Any]:
        """What was played, recorded, and not found: see GET /-/sessions/NAME. Empty where the mode is `off`."""
        return {} if self._server is None else json.loads(self._server.control("GET", self._session))


@pytest.fixture
def wiretape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wiretape]:
    """Calls to providers are played from this test's cassette, or recorded into it."""
    from proxy import testing

    config = request.config
    mode, wanted = str(config.getoption("--wiretape")), _wanted(request.node)
    cassette = _cassette(config, request.node, wanted.name)
    if mode == "off":
        yield Wiretape(mode, cassette, None, "")
        return
    if mode == "playback" and not cassette.exists():
        pytest.fail(f"there is no cassette {cassette}: record it by --wiretape=record", pytrace=False)
    try:
        server = config.stash[_SERVERS].serving(config)
        session = server.open(mode, b"" if mode == "record" or not cassette.exists() else cassette, wanted.rules)
    except testing.Failed as error:
        pytest.fail(str(error), pytrace=False)
    used = request.node.stash[_USED] = Wiretape(mode, cassette, server, session)
    for name, value in used.variables().items():
        monkeypatch.setenv(name, value)
    try:
        yield used
        if mode != "playback":
            _keep(request.node, used, server, session)
    finally:
        with suppress(testing.Failed):
            server.control("DELETE", session)


@pytest.fixture(autouse=True)
def _wiretape_of_the_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("wiretape") is not None:
        request.getfixturevalue("wiretape")


def _wanted(item: pytest.Item) -> _Wanted:
    marker = item.get_closest_marker("wiretape")
    given = dict(marker.kwargs) if marker is not None else {}
    names = list(marker.args) if marker is not None else []
    names += [given.pop("name")] if "name" in given else []
    strict, rules = given.pop("strict", True), {name: given.pop(name) for name in RULES if name in given}
    if given or len(names) > 1 or not all(isinstance(each, str) and each for each in names):
        pytest.fail(f"the marker wiretape takes a name, strict, and {', '.join(RULES)}", pytrace=False)
    return _Wanted(names[0] if names else "", bool(strict), rules)


def _cassette(config: pytest.Config, item: pytest.Item, name: str) -> Path:
    """The file: of the name, or else of the test's own."""
    folder = str(config.getini("wiretape_cassettes") or "")
    beside = item.path.parent / "cassettes" if not folder else config.rootpath / folder
    parts = name.split("/") if name else [f"{item.path.stem}.{_ODD.sub('-', item.name)}"]
    if any(part in {"", ".", ".."} for part in parts):
        pytest.fail(f"{name!r} names no cassette: use words with slashes between them", pytrace=False)
    *folders, last = parts
    return beside.joinpath(*folders, f"{last}.cassette")


def _keep(item: pytest.Item, used: Wiretape, server: Server, session: str) -> None:
    """Write what was recorded, unless the test failed: what is there is better then."""
    from proxy import testing

    if not item.stash.get(_PASSED, False):
        return
    try:
        text = server.control("GET", f"{session}/cassette")
    except testing.Failed as error:
        pytest.fail(str(error), pytrace=False)
    if used.cassette.exists() and not used.report()["recorded"]:
        return
    testing.replace(used.cassette, text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold a test to its cassette once it has run; where it failed, say what was not found."""
    try:
        yield
    except BaseException:
        used = item.stash.get(_USED, None)
        problem = None if used is None else _problem(used, strict=False)
        if problem:
            item.add_report_section("call", "wiretape", problem)
        raise
    used = item.stash.get(_USED, None)
    problem = None if used is None else _problem(used, strict=_wanted(item).strict)
    if problem:
        pytest.fail(problem, pytrace=False)
    item.stash[_PASSED] = True


def _problem(used: Wiretape, *, strict: bool) -> str:
    if used.mode != "playback":
        return ""
    report = used.report()
    said = []
    for each in report["unmatched"]:
        said.append(each["problem"])
        said += [f"  {one['place']}: asked {one['asked']}, recorded {one['recorded']}" for one in each["differences"]]
    unused = [f"{each['request']} ({each['id']})" for each in report["unused"]] if strict else []
    if unused:
        said.append(f"never asked for, and so outdated: {', '.join(unused)}")
    return "\n".join([f"{used.cassette}, played by wiretape:", *said]) if said else ""
