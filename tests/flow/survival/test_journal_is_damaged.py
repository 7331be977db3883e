"""A journal that a disk, or somebody, has damaged: what is intact is stored, what is not is named, nothing behind it is
lost.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.journal import record
from proxy.journal.record import Record
from tests.chaos.ledger import REQUEST, RESPONSE, Ledger
from tests.support.here import run_here
from tests.support.journals import read_file
from tests.support.rawhttp import Ended, Peer, RawUpstream, TooLate, connect
from tests.support.running import PATIENCE, serving

EXCHANGES = 6
ANSWER = b'{"answer": "of %d"}'
# A payload that, taken out of its place, would be records.
FORGED = b"@ end %b 9 9 2 00000000 00000000\n{}\n@ res+ %b 1 1 1 00000000 00000000\nx\n" % (b"0" * 32, b"1" * 32)


def answer(peer: Peer) -> None:
    try:
        while True:
            number = int(peer.read_message().target.rpartition(b"/")[2])
            body = ANSWER % number + FORGED
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    except (Ended, TooLate):
        return


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, list[str]]:
    """A journal that nobody has stored yet, and the ids of its exchanges."""
    ids = []
    with (
        RawUpstream(answer, deadline=PATIENCE) as upstream,
        serving(tmp_path, "--upstream", f"up={upstream.url}", command="forward") as forward,
    ):
        with connect(int(forward.url.rpartition(":")[2]), deadline=PATIENCE) as client:
            for number in range(EXCHANGES):
                head = b"POST /up/%d HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
                message = client.send(head % (number, len(FORGED)), FORGED).read_message()
                assert message.body == ANSWER % number + FORGED
                ids.append((message.one("x-wiretape-exchange") or b"").decode())
        assert forward.stop() == 0
    (journal,) = (forward.home / "journal").iterdir()
    return journal, ids


def test_damages_of_every_kind_at_once(tmp_path: Path, recorded: tuple[Path, list[str]]) -> None:
    """A flipped bit in a head, one in a payload, and a torn end; exchanges 0, 2 and 4 are untouched."""
    journal, ids = recorded
    found = [each for each in read_file(journal) if isinstance(each, Record)]
    mine = [[each for each in found if each.exchange == name.replace("-", "").encode()] for name in ids]
    (chunk,) = [each for each in mine[1] if each.kind == record.RESPONSE_CHUNK]
    (upload,) = [each for each in mine[3] if each.kind == record.REQUEST_CHUNK]
    last = mine[5][-1]
    broken = bytearray(journal.read_bytes())
    broken[chunk.offset + 2] ^= 1
    broken[upload.end - 5] ^= 1
    journal.write_bytes(broken[: last.end - 3])

    with serving(tmp_path, command="ingest") as ingest:
        ledger = Ledger(ingest.home)
        ledger.wait_stored(EXCHANGES)
        assert ingest.stop() == 0
    said = re.findall(r"journal: (\S+) offset (\d+): (.*)", ingest.log)
    assert [(name, int(offset)) for name, offset, _ in said] == [
        (journal.name, each.offset) for each in (chunk, upload, last)
    ]
    assert not journal.exists()
    for number, name in enumerate(ids):
        assert ledger.body(name, REQUEST) == (b"" if number == 3 else FORGED)
        assert ledger.body(name, RESPONSE) == (b"" if number == 1 else ANSWER % number + FORGED)
        row = ledger.exchange(name)
        assert row["outcome"] == ("interrupted" if number == 5 else "completed")
        assert row["lost_records"] == (1 if number in (1, 3) else 0)
    checked = run_here(tmp_path, "--home", str(ingest.home), "db", "check")
    assert checked.code == 1
    assert "3 records could not be read" in checked.out.decode()
