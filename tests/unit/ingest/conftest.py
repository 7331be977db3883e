"""What ingest's tests share: houses with a database in them, and an ingest that runs in a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.ingest.run import Ingest, IngestOptions
from proxy.status import read_all
from proxy.store.migrate import upgrade
from tests.support.journals import DEADLINE, House, a_house, until

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def house(tmp_path: Path, kind: str) -> Iterator[House]:
    with a_house(tmp_path / "home", kind) as made:
        yield made


class Running:
    """`wiretape ingest` without its process: the loop in a thread, on the house's journals and database."""

    def __init__(self, house: House, **options: Any) -> None:
        arguments = {"home": house.home, "database": house.url, "fingerprint_id": FINGERPRINT, "upgrade": upgrade}
        self.house = house
        self.error: BaseException | None = None
        self.ingest = Ingest(IngestOptions(**{**arguments, **options}))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.ingest.loop()
        except BaseException as error:  # noqa: BLE001 - it is for the test to judge
            self.error = error
        finally:
            self.ingest.close()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def facts(self) -> dict[str, Any]:
        """Its last word; empty before the first."""
        found = [status.facts for status in read_all(self.house.home) if status.role == "ingest"]
        return found[0] if found else {}

    def says(self, key: str, holds: Callable[[Any], bool]) -> None:
        """Wait for a word of its status."""
        until(lambda: bool(self.facts) and holds(self.facts[key]))

    def stop(self) -> None:
        if self.alive:
            self.ingest.on_signal(0, None)
        self._thread.join(DEADLINE)
        assert not self.alive


@pytest.fixture
def running(house: House) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def start(**options: Any) -> Running:
            made = Running(house, **options)
            stack.callback(made.stop)
            return made

        yield start


@pytest.fixture
def lifeline() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, the reading one first; closed when the test is over."""
    ours, theirs = os.pipe()
    ends = {ours, theirs}
    yield ours, theirs
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass  # the test closed it: that is what it is for
