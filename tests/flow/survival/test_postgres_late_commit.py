"""Ingest dies while its last commit is under way, and the server ends it only when the next ingest is at work: the
records of that commit are stored once all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest

from tests.chaos import ingest_deaths, sites
from tests.support.forked import forkserver
from tests.support.running import wait_for

_SLOW = """CREATE SEQUENCE turns;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF nextval('turns') = 1 THEN PERFORM pg_sleep({}); END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON journals DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()"""
_COMMITTING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0])
def test_nothing_is_stored_twice_or_lost(tmp_path: Path, seconds: float) -> None:
    """The next one waits for a second, then tries anew."""
    with sites.postgres_site() as site:
        backlog = ingest_deaths.Backlog(tmp_path / "home", site)
        backlog.add()
        context = forkserver(ingest_deaths.__name__)
        ingest_deaths.finish(context, backlog)
        backlog.add()
        with psycopg.connect(site.server.conninfo(site.name), autocommit=True) as other:
            other.execute(_SLOW.format(seconds).encode())
            with ingest_deaths.ingesting(context, backlog) as first:
                wait_for(lambda: other.execute(_COMMITTING).fetchall(), "a commit")
                os.kill(first.pid or 0, signal.SIGKILL)
                first.join()
            ingest_deaths.finish(context, backlog)
        ingest_deaths.judge(backlog)
