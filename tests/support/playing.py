"""`wiretape playback` as a test of another program has it: until nobody holds its lifeline open."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.running import PATIENCE, environment, wait_for


@contextmanager
def playing(folder: Path, *flags: str) -> Iterator[str]:
    """Its address, without a slash at the end. The home is in `folder`."""
    lifeline, out = folder / "lifeline", folder / "out"
    os.mkfifo(lifeline)
    command = [sys.executable, "-m", "proxy", "playback", "--port", "0", "--home", "home", "--lifeline", str(lifeline)]
    with out.open("wb") as said:
        process = subprocess.Popen([*command, *flags], cwd=folder, env=environment(folder), stdout=said, stderr=said)
    held = os.open(lifeline, os.O_RDWR)

    def told() -> re.Match[str] | None:
        assert process.poll() is None, out.read_text()
        return re.search(r"playback  (http://127\.0\.0\.1:\d+)/\n", out.read_text())

    found = wait_for(told, "playback's address")
    assert found is not None
    try:
        yield found[1]
    finally:
        os.close(held)
        assert process.wait(PATIENCE) == 0, "it ends with the last who needs it"
