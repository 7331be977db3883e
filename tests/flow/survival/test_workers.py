"""Two forward workers share the port: each has a journal, both are stored, and all counts agree."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.full import ask
from tests.chaos.ledger import Ledger
from tests.chaos.traffic import PATIENCE, Crowd, Provider
from tests.support.rawhttp import RawUpstream
from tests.support.running import Running, serving, wait_for


def accepted(wiretape: Running) -> list[int]:
    return [status.facts["accepted"] for status in wiretape.statuses("forward")]


def test_both_journals_are_stored(tmp_path: Path) -> None:
    provider = Provider()
    with (
        RawUpstream(provider, deadline=PATIENCE) as upstream,
        serving(tmp_path, "--workers", "2", "--upstream", f"up={upstream.url}") as wiretape,
    ):
        wait_for(lambda: len(wiretape.statuses("forward")) == 2, "two workers")
        port = int(wiretape.url.rpartition(":")[2])
        asked = 0
        with Crowd(port, provider.finish.set, streams=4) as crowd:
            crowd.wait_flowing()  # or one of them might not have asked yet when all is over
            # On a connection of its own each, since a connection stays with the worker that took it.
            while min(accepted(wiretape), default=0) < 10:
                asked += 1
                assert ask(port, "/once").status == 200
        total = 4 + asked
        wiretape.wait_stored(total)
        wait_for(lambda: sum(accepted(wiretape)) == total, "the workers' own counts to agree")
        assert wiretape.metrics()["wiretape_exchanges_stored_total"] == total
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    ledger = Ledger(wiretape.home)
    ledger.check()
    assert ledger.count() == total == sum(row[0] for row in ledger.query("SELECT stored FROM journals"))
    assert len(ledger.query("SELECT * FROM journals WHERE ended AND stored >= 10")) == 2
    assert ledger.outcomes() == {("completed", "upstream_end"): total}
