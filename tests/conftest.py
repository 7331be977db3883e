"""What every suite shares: how a missing tool is met, and that generated examples are the same on every run."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from proxy.store.citus import problems
from proxy.store.postgres import Postgres
from tests.support.databases import KINDS, POSTGRES, POSTGRES_16

# Whatever the user wishes elsewhere: each of the processes that share the work would rewrite all tests' asserts anew.
sys.dont_write_bytecode = False

# A busy two-core machine is no reason to fail, and a run must be one that can be repeated.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("house")


# A run that was started in the background ignores Ctrl-C, and one under `nohup` its terminal's end; and so would every
# command that a test starts and sends these to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


LONG = ("flow/test_soak", "flow/test_containers", "flow/survival/", "flow/test_b", "flow/test_roles", "flow/")
"""Where the tests are that take long, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: who comes last with a long one has all others wait."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((number for number, each in enumerate(LONG) if path.startswith(each)), len(LONG))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of collected tests are no garbage: to look through them while they come took a quarter of the time that
    they take, and a test that collects garbage would do it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def needs(tool: str) -> str:
    """The path of a program that a test starts. Where it is missing the test is skipped, but fails when CI=true."""
    # Servers live in sbin, which a user's PATH may lack.
    found = shutil.which(tool, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin")
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{tool} is not installed, and CI must not skip what needs it", pytrace=False)
    pytest.skip(f"{tool} is not installed")


ALSO_ON_16 = frozenset(
    f"tests.unit.store.test_{each}" for each in ("delete", "fulltext", "meanings", "migrate", "spend", "write")
)
"""What runs on an older Postgres too: between them these send nearly all that the store sends."""

OF_A_TEST = "-- of a test"
"""In a statement that the product never sends."""

_broken: list[str] = []
_known: set[str] = set()


def _keep_to_the_rules(statement: str) -> None:
    """What any test has the product send to Postgres is held against the rules of Citus."""
    if statement not in _known and OF_A_TEST not in statement:
        _known.add(statement)
        _broken.extend(f"{problem}: {statement}" for problem in problems(statement))


Postgres.statements.append(_keep_to_the_rules)


@pytest.fixture(autouse=True)
def _ruled() -> Iterator[None]:
    yield
    broken = _broken.copy()
    _broken.clear()
    assert not broken


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What asks for a `kind` of database runs on each, but for what is marked as one engine's own."""
    own = [name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])]
    if "kind" in metafunc.fixturenames and "kind" not in own:
        chosen = metafunc.definition.get_closest_marker("engines")
        kinds = KINDS if chosen is None else chosen.args
        if POSTGRES in kinds and POSTGRES_16 not in kinds and metafunc.module.__name__ in ALSO_ON_16:
            kinds = (*kinds, POSTGRES_16)
        metafunc.parametrize("kind", kinds, scope="function")


def _names(given: object) -> list[str]:
    """What a test gives values to itself: `kind` is a word of many."""
    return [each.strip() for each in given.split(",")] if isinstance(given, str) else list(given)  # type: ignore[call-overload]  # pytest takes nothing else
