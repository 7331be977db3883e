"""What was recorded of all streams, out of one database and into another, is there the same to the byte."""

from __future__ import annotations

import json
from pathlib import Path

from tests.flow.meaning.conftest import Sent
from tests.support.here import run_here


def test_jsonl_out_in_and_out_again(sent: Sent, tmp_path: Path) -> None:
    def command(home: Path, *arguments: object) -> bytes:
        ran = run_here(sent.folder, *map(str, arguments), "--home", str(home))
        assert ran.code == 0, ran.err
        return ran.out

    file, other = tmp_path / "a.jsonl", tmp_path / "home"
    command(sent.home, "export", "jsonl", "--output", file)
    assert command(other, "import", "jsonl", file) == f"{len(sent.ids)} exchanges imported\n".encode()
    written = file.read_bytes()
    assert command(other, "export", "jsonl").splitlines() == written.splitlines()
    assert command(other, "import", "jsonl", file).startswith(b"0 exchanges imported; 55 exchanges there already")
    assert json.loads(command(other, "spend", "--format", "json"))["total"]["requests"] == 0
    assert json.loads(command(sent.home, "spend", "--format", "json"))["total"]["requests"] > 0
