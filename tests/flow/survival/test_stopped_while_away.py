"""Ctrl-C while the database is away: it says what stays in the journal, ends well, and the next start stores it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chaos import away
from tests.chaos.full import ask
from tests.chaos.ledger import Ledger
from tests.chaos.traffic import PATIENCE, Crowd, Provider
from tests.support.rawhttp import RawUpstream
from tests.support.running import serving

BEFORE, MEANWHILE = 5, 30
STAYS = re.compile(r"(\d+) bytes stay in the journal and will be stored at the next start")


@pytest.mark.parametrize("how", [away.locked, away.renamed_with_its_log])
def test_what_stays_is_stored_at_the_next_start(tmp_path: Path, how: away.Away) -> None:
    provider = Provider()
    with (
        RawUpstream(provider, deadline=PATIENCE) as upstream,
        serving(tmp_path, "--upstream", f"up={upstream.url}") as wiretape,
    ):
        port = int(wiretape.url.rpartition(":")[2])
        assert [ask(port, "/once").status for _ in range(BEFORE)] == [200] * BEFORE
        ledger = Ledger(wiretape.home)
        ledger.wait_stored(BEFORE)
        with how(wiretape.home):
            with Crowd(port, provider.finish.set, streams=2) as crowd:
                assert [ask(port, "/once").status for _ in range(MEANWHILE)] == [200] * MEANWHILE
                crowd.wait_flowing()
            assert wiretape.stop(timeout=PATIENCE) == 0
            said = STAYS.findall(wiretape.log)
            waiting = sum(path.stat().st_size for path in (wiretape.home / "journal").iterdir())
            assert len(said) == 1, wiretape.log
            assert 0 < int(said[0]) <= waiting
    with serving(tmp_path, command="ingest") as successor:
        ledger.wait_stored(BEFORE + MEANWHILE + 2)
        assert successor.stop() == 0
    ledger.check()
    assert ledger.check_heard(crowd.heard)["complete"] == 2
    assert ledger.outcomes() == {("completed", "upstream_end"): BEFORE + MEANWHILE + 2}
