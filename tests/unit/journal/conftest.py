"""What the journal's tests share: writers that are closed when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.journal.writer import JournalWriter
from tests.support.journals import WORKER, Open


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Open]:
    writers: list[JournalWriter] = []

    def open_writer(**options: Any) -> JournalWriter:
        arguments: dict[str, Any] = {"node": "node", "worker": WORKER, "fsync_every": None, **options}
        writers.append(JournalWriter(tmp_path / "journal", **arguments))
        return writers[-1]

    yield open_writer
    for writer in writers:
        writer.close()
