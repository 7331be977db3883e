"""What the database says of what was recorded, and whether the promises hold: nothing twice, nothing missing.

Reads with plain SQL, as a user would; must not know the project's own readers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.chaos.traffic import PATIENCE, Heard
from tests.support.databases import Site, SqliteDatabase
from tests.support.rawhttp import until

REQUEST, RESPONSE = 0, 1


_PAGE = 200  # exchanges whose bodies are in memory at once


class Ledger:
    """The database of a home, as it is at each question; by default the file that is in it."""

    def __init__(self, home: Path, site: Site | None = None) -> None:
        self.path = home / "wiretape.db"
        self.site = site or SqliteDatabase(self.path)
        self.query = self.site.query

    def one(self, sql: str, *values: object) -> Any:
        (row,) = self.query(sql, *values)
        return row[0] if len(row) == 1 else row

    def wait_stored(self, exchanges: int) -> None:
        """Until so many are interpreted: faster than to wait for the metrics to say so."""
        sql = "SELECT count(*) FROM exchanges WHERE interpreter IS NOT NULL"
        until(lambda: self.one(sql) >= exchanges, f"{exchanges} stored exchanges", PATIENCE)

    def wait_understood(self, timeout: float = PATIENCE) -> None:
        """Until all that has ended is interpreted, also what an ingest that died had copied and not come to."""
        sql = "SELECT count(*) FROM exchanges WHERE outcome IS NULL OR interpreter IS NULL"
        until(lambda: self.one(sql) == 0, "all exchanges to have ended and to be interpreted", timeout)

    # One exchange, by the id that its client was told

    def exchange(self, id: str) -> dict[str, Any]:  # noqa: A002 - that is what it is called
        """Its row of the view."""
        (row,) = self.site.dicts(f"SELECT * FROM exchange_list WHERE exchange_id = {self.site.id_sql(UUID(id))}")  # noqa: S608 - an id
        return row

    def chunks(self, id: str, side: int = RESPONSE) -> list[bytes]:  # noqa: A002 - that is what it is called
        sql = "SELECT data FROM chunks WHERE exchange_id = ? AND side = ? ORDER BY seq"
        return [row[0] for row in self.query(sql, key(id), side)]

    def body(self, id: str, side: int = RESPONSE) -> bytes:  # noqa: A002 - that is what it is called
        return b"".join(self.chunks(id, side))

    def gaps(self, id: str) -> list[tuple[int, int, str]]:  # noqa: A002 - that is what it is called
        """(side, bytes, reason) in order."""
        sql = """SELECT side, bytes, (SELECT value FROM names WHERE names.id = reason) FROM gaps
            WHERE exchange_id = ? ORDER BY seq"""
        return self.query(sql, key(id))

    def ids(self, target: bytes) -> list[str]:
        """The exchanges with a target."""
        sql = "SELECT id FROM exchange_list WHERE target = ? ORDER BY id"
        return [row[0] for row in self.query(sql, target.decode("latin-1"))]

    # All of them

    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many exchanges have an outcome and a wire end."""
        sql = "SELECT outcome, wire_end, count(*) FROM exchange_list GROUP BY 1, 2"
        return {(outcome, end): count for outcome, end, count in self.query(sql)}

    def count(self) -> int:
        return int(self.one("SELECT count(*) FROM exchanges"))

    def check(self, pruned: Collection[bytes] = ()) -> None:
        """Of a database in which everything is stored: exactly once, dense, all ended, sums and hashes right.

        `pruned` are the workers whose exchanges retention has taken out.
        """
        self._check_journals(pruned)
        assert self.query("SELECT id FROM exchange_list WHERE outcome IS NULL OR wire_end IS NULL") == []
        amiss = "lost_records > 0 OR interpretation_error IS NOT NULL"
        assert self.query(f"SELECT id, lost_records, interpretation_error FROM exchange_list WHERE {amiss}") == []  # noqa: S608 - as above
        self._check_sequences()
        self._check_bodies()

    def _check_journals(self, pruned: Collection[bytes]) -> None:
        """Each exchange belongs to a journal and has its ordinal; the ordinals of a journal have no hole."""
        sql = """SELECT j.worker, j.stored, j.highest_ordinal, count(e.id), count(DISTINCT e.ordinal), min(e.ordinal),
            max(e.ordinal) FROM journals j LEFT JOIN exchanges e ON e.journal = j.id
            GROUP BY j.worker, j.stored, j.highest_ordinal"""
        for worker, stored, highest, count, different, least, greatest in self.query(sql):
            if worker in pruned:
                continue
            assert stored == highest == count == different
            assert (least, greatest) == ((1, count) if count else (None, None))
        assert self.query("SELECT id FROM exchange_list WHERE journal IS NULL OR ordinal IS NULL") == []

    def _check_sequences(self) -> None:
        """The records of an exchange are numbered over all tables, without holes."""
        sql = """SELECT e.id, count(s.seq), count(DISTINCT s.seq), max(s.seq) FROM exchanges e LEFT JOIN (
            SELECT exchange_id, seq FROM chunks UNION ALL SELECT exchange_id, seq FROM heads UNION ALL
            SELECT exchange_id, seq FROM changes UNION ALL SELECT exchange_id, seq FROM gaps
            ) s ON s.exchange_id = e.id WHERE e.record = 0 GROUP BY e.id"""
        for exchange, count, different, last in self.query(sql):
            assert (count, different) == (last + 1, last + 1), f"{exchange.hex()}: {count} records, up to {last}"

    def _check_bodies(self) -> None:
        """What is stored and what is known to be missing add up to what crossed the wire, and the hashes say so too."""
        sql = """SELECT exchange_id, request_bytes, response_bytes, request_hash, response_hash, masked,
            unrecorded_bytes FROM exchange_list WHERE record = 'all' ORDER BY exchange_id"""
        for rows in _pages(self.query(sql)):
            bodies, gaps = self._bodies(rows[0][0], rows[-1][0])
            for exchange, *sizes, request_hash, response_hash, masked, unrecorded in rows:
                found, lost = [bodies.get((exchange, side), b"") for side in (REQUEST, RESPONSE)], [0, 0]
                for side, size in gaps.get(exchange, ()):
                    lost[side] += size
                assert sum(lost) == unrecorded, exchange.hex()
                assert [len(body) + gap for body, gap in zip(found, lost, strict=True)] == sizes, exchange.hex()
                for body, gap, digest in zip(found, lost, (request_hash, response_hash), strict=True):
                    if digest is not None and not gap and not masked:
                        assert hashlib.sha256(body).hexdigest() == digest, exchange.hex()

    def _bodies(
        self, first: bytes, last: bytes
    ) -> tuple[dict[tuple[bytes, int], bytearray], dict[bytes, list[tuple[int, int]]]]:
        """Of the exchanges between two: (exchange, side) -> its body; exchange -> (side, bytes) of its gaps."""
        bodies: dict[tuple[bytes, int], bytearray] = {}
        gaps: dict[bytes, list[tuple[int, int]]] = {}
        sql = "SELECT exchange_id, side, data FROM chunks WHERE exchange_id BETWEEN ? AND ? ORDER BY exchange_id, seq"
        for exchange, side, data in self.query(sql, first, last):
            bodies.setdefault((exchange, side), bytearray()).extend(data)
        for exchange, side, size in self.query(
            "SELECT exchange_id, side, bytes FROM gaps WHERE exchange_id BETWEEN ? AND ?", first, last
        ):
            gaps.setdefault(exchange, []).append((side, size))
        return bodies, gaps

    def check_heard(self, heard: Iterable[Heard]) -> dict[str, int]:
        """Every byte that a client received is stored, complete responses as such; how many there were of each."""
        counts = {"complete": 0, "cut": 0, "refused": 0, "nothing": 0}
        for each in heard:
            if each.id is None:
                # No exchange, as far as its client knows. What wiretape knows of it is in order, or `check` had failed.
                assert each.status in (None, 503)
                assert each.status == 503 or not each.body
                counts["nothing" if each.status is None else "refused"] += 1
                continue
            row = self.exchange(each.id)
            if each.status == 503:
                # The upstream's head may have found room where its body found none; our answer took its place.
                assert row["status"] in (None, 200)
                assert row["wire_end"] == "journal_error"
                assert self.own_response(each.id) == each.body.decode()
                counts["refused"] += 1
            elif each.complete:
                assert self.body(each.id) == each.body, each
                assert (row["outcome"], row["wire_end"]) == ("completed", "upstream_end")
                counts["complete"] += 1
            else:
                assert self.body(each.id).startswith(each.body), f"{len(each.body)} bytes reached the client of {row}"
                counts["cut"] += 1
        return counts

    def check_pieces(self, id: str, body: bytes, side: int = RESPONSE) -> None:  # noqa: A002 - that is what it is called
        """What is stored stands in the body where the gaps before it say, and with them makes up all of it."""
        sql = """SELECT seq, data, length(data) FROM chunks WHERE exchange_id = ? AND side = ?
            UNION ALL SELECT seq, NULL, bytes FROM gaps WHERE exchange_id = ? AND side = ? ORDER BY 1"""
        at = 0
        for _, data, size in self.query(sql, key(id), side, key(id), side):
            assert data is None or body[at : at + size] == data, f"{id} at {at}"
            at += size
        assert at == len(body), f"{id}: {at} of {len(body)} bytes"

    def own_response(self, id: str) -> str | None:  # noqa: A002 - that is what it is called
        """What wiretape answered in the upstream's place."""
        changes = [json.loads(row[0]) for row in self.query("SELECT data FROM changes WHERE exchange_id = ?", key(id))]
        found = [change["body"] for change in changes if change["kind"] == "own_response"]
        return str(found[0]) if found else None

    def check_uploads(self, uploads: dict[bytes, bytearray], prefix: bytes) -> None:
        """Every body byte that reached the upstream is stored; `prefix` is what a target has before the upstream's."""
        for target, body in uploads.items():
            stored = [self.body(each, REQUEST) for each in self.ids(prefix + target)]
            assert len(stored) == 1, f"{target!r} is stored {len(stored)} times"
            assert stored[0].startswith(bytes(body)), f"{target!r}: {len(body)} bytes reached the upstream"


def key(id: str) -> bytes:  # noqa: A002 - that is what it is called
    """An id as the tables have it."""
    return UUID(id).bytes


def _pages(rows: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(rows), _PAGE):
        yield rows[at : at + _PAGE]
