"""Writes the tape of an exchange whose client, or upstream, gets other bytes than came: they have hashes of their own.

Must not know why they are others, sockets or the database.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from proxy.exchange import Change, End, ResponseHead, Side, WireEnd
from proxy.forward.recorder import Recorder
from proxy.journal.writer import JournalError
from proxy.jsontext import Splice
from proxy.mask import BodyMask

if TYPE_CHECKING:
    from hashlib import _Hash


class AlteredRecorder(Recorder):
    """A Recorder for one exchange whose bodies may be changed on the way."""

    _out: _Hash | None = None  # of what of the response was passed on; None while that is all that came
    _masked = False
    _keeps_bodies = True
    withheld = 0  # bytes of the response

    @property
    def alters(self) -> bool:
        """Whether `passes` tells what of the response is passed on."""
        return self._out is not None

    def begin(self) -> None:
        self._keeps_bodies = self._head is None or self._head.record == "all"
        super().begin()

    def request_altered(self, change: Change, splice: Splice, body: bytes) -> None:
        """The whole request goes as `body`."""
        change.side, (change.at, change.taken, change.put) = Side.REQUEST, splice
        self.change(change)
        self._request.passed = hashlib.sha256(body)

    def request_restored(self, kind: str, refusal: ResponseHead, error: bytes) -> None:
        """It goes again as it came, since it was refused with this error. That is recorded as a body would be."""
        mask = BodyMask()
        kept = mask.feed(error)[: self._recording.max_body].decode(errors="replace")
        self._masked |= mask.masked
        self.change(Change(kind, refusal.headers, refusal.status, kept if self._keeps_bodies else None))
        self._request.passed = None

    def response_alters(self) -> None:
        """From here on `passes` tells what of the response is passed on; all that was committed before was."""
        self._out = self._response.arrived.copy()
        self._going: list[bytes] = []  # with the next commit

    def response_withheld(self, kind: str, at: int, size: int) -> None:
        self.withheld += size
        self.change(Change(kind, [], side=Side.RESPONSE, at=at, taken=size))

    def response_put_in(self, kind: str, at: int, data: bytes) -> None:
        """Of ours, between what came before byte `at` and what comes from there on; it is text."""
        self.change(Change(kind, [], side=Side.RESPONSE, at=at, put=data.decode()))
        self.passes(data)

    def passes(self, data: bytes) -> None:
        """Goes out once the next commit is done."""
        self._going.append(data)

    def passed(self, data: bytes) -> None:
        """Goes out now: it was committed."""
        self._going.append(data)
        self._went()

    def _not_written(self, error: JournalError) -> None:
        going: list[bytes] = []
        if self._out is not None:
            going, self._going = self._going, []
        super()._not_written(error)
        if self._out is not None:
            self._going = going
            self._went()

    def _count_in(self) -> None:
        super()._count_in()
        self._went()

    def _went(self) -> None:
        if self._out is not None:
            for data in self._going:
                self._out.update(data)
            self._going.clear()

    def _ending(self, end: tuple[WireEnd, str | None, int]) -> End:
        ending = super()._ending(end)
        ending.masked |= self._masked
        if self._out is not None:
            out = self._out.copy()
            for data in self._going:
                out.update(data)
            digest = out.hexdigest()
            ending.response_out_hash = digest if digest != ending.response_hash else None
        return ending
