"""Writes one exchange's tape: every record, in order, before what it holds is passed on.

What happens is taken down first, and written with `commit`, all in one write. Counts, hashes and masks on the way.
Knows journal.writer; must not know sockets or the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from proxy.exchange import Change, End, Gap, HeaderList, RequestHead, ResponseHead, Side, Trailers, WireEnd
from proxy.forward.recording import Body, Recording
from proxy.journal import record
from proxy.journal.writer import JournalError
from proxy.mask import BodyMask

_encode = msgspec.json.Encoder().encode

Entry = tuple[bytes, int, bytes]  # as the journal takes it: kind, µs since the exchange began, payload


class Recorder:
    """One exchange. `begin` and `commit` raise JournalError under `refuse`; then nothing that was taken down since the
    last commit may be passed on."""

    _end: tuple[WireEnd, str | None, int] | None = None
    _request_sent_us: int | None = None
    _head_us: int | None = None
    _first_byte_us: int | None = None
    _last_byte_us: int | None = None
    _seq = 0
    _spent = 0  # nanoseconds

    def __init__(
        self, recording: Recording, exchange: int, head: RequestHead, *, coded: bool = False, now: Callable[[], int]
    ) -> None:
        digits = f"{exchange:032x}"
        self.id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        self._recording = recording
        self._exchange = digits.encode()
        self._now = now
        self._began = self._since = now()  # the second: when the first of what is to be committed came
        self._head: RequestHead | None = head  # until it is written
        self._owed: list[Entry] = []  # what could not be written yet and must be, before anything else
        self._entries: list[Entry] = []  # taken down since the last commit
        self._request = Body(Side.REQUEST, record.REQUEST_CHUNK, None if coded else BodyMask())
        self._response = Body(Side.RESPONSE, record.RESPONSE_CHUNK, None)
        self._fresh: list[tuple[Body, bytes]] = []  # body bytes taken down since the last commit

    def begin(self) -> None:
        """Commit the head, and what of the body was taken down already."""
        recording = self._recording
        recording.settle()
        if recording.failing is not None and recording.on_failure == "refuse":
            try:
                recording.try_again()
            except JournalError as error:
                recording.failed(error)
                raise
        self.commit()
        recording.accepted += 1

    def request_chunk(self, data: bytes) -> None:
        self._chunk(self._request, data)

    def response_chunk(self, data: bytes) -> None:
        self._last_byte_us = self._chunk(self._response, data)
        if self._first_byte_us is None:
            self._first_byte_us = self._last_byte_us

    def response_data(self, data: bytes) -> None:
        """As `response_chunk` and `commit`: most of what there is to do while a stream goes on."""
        body, recording = self._response, self._recording
        if self._entries or self._owed or body.lost or self._request.lost or recording.max_body is not None:
            self.response_chunk(data)
            self.commit()
            return
        now = self._now()
        at = (now - self._began) // 1000
        kept = data if body.mask is None else body.mask.feed(data)
        body.size += len(data)
        body.chunks += 1
        self._last_byte_us = at
        if self._first_byte_us is None:
            self._first_byte_us = at
        try:
            recording.journal.append(record.RESPONSE_CHUNK, self._exchange, self._seq, at, kept)
        except JournalError as error:
            recording.lacking = max(recording.lacking, len(kept))
            self._entries.append((record.RESPONSE_CHUNK, at, kept))
            self._fresh.append((body, data))
            self._since = now
            self._not_written(error)
            return
        self._seq += 1
        if recording.failing is not None:
            recording.wrote(len(kept))
        body.arrived.update(data)
        self._spent += self._now() - now

    def request_complete(self) -> None:
        if self._request_sent_us is None:
            self._request_sent_us = (self._now() - self._began) // 1000

    def response_head(self, status: int, reason: str, headers: HeaderList) -> None:
        """Also an interim one; the last is the final one."""
        payload = _encode(ResponseHead(status, headers, reason))
        self._head_us = self._put(record.RESPONSE_HEAD, payload)
        self._response.mask = None if is_coded(headers) else BodyMask()

    def trailers(self, side: Side, headers: HeaderList) -> None:
        self._put(record.TRAILERS, _encode(Trailers(side, headers)))

    def change(self, change: Change) -> None:
        self._put(record.CHANGE, _encode(change))

    def withhold(self, side: Side) -> None:
        """From here on what comes on this side is not passed on."""
        (self._request if side == Side.REQUEST else self._response).withhold()

    def withhold_request(self) -> None:
        """Nothing of the request was passed on: there is no connection to its upstream."""
        if self._request.size:
            self._request.passed = hashlib.sha256()

    def end(self, wire_end: WireEnd, error: str | None = None) -> None:
        """Take down the end; the next commit writes it. What cannot be written then is owed, and written when the
        journal works again."""
        self._end = (wire_end, error, self._at())
        for body in (self._request, self._response):
            if body.capped:
                self._put(record.GAP, _encode(Gap(body.side, body.capped, "cap")))
                body.capped = 0

    def commit(self) -> None:
        """Write what was taken down, in one write. Raises JournalError under `refuse`, unless there was only an end."""
        last = self._end is not None
        try:
            self._write()
        except JournalError as error:
            self._not_written(error)
            return
        if not last:  # nobody asks for the hashes any more: they were in the end
            self._count_in()

    def commit_late(self) -> None:
        """As `commit`, for an exchange that is given up: what cannot be written now is owed. Never raises."""
        try:
            self._write()
        except JournalError as error:
            self._recording.failed(error)
            self._owe()
            self._recording.owed.append(self)
        self._count_in()

    def pay(self) -> bool:
        """Write what is owed; False where that cannot be done yet."""
        try:
            self._write()
        except JournalError as error:
            self._recording.failed(error)
            return False
        return True

    # Inside

    def _not_written(self, error: JournalError) -> None:
        """What was taken down is owed; what of it are a body's bytes is lost. Raises `error` under `refuse`."""
        recording = self._recording
        recording.failed(error)
        matters = bool(self._fresh) or any(entry[0] != record.GAP for entry in self._entries) or self._seq == 0
        self._owe()
        if recording.on_failure == "refuse" and matters:
            self._end = None
            for body, _ in self._fresh:
                body.withhold()
            self._count_in()
            raise error
        if self._end is not None:
            recording.owed.append(self)
        self._count_in()

    def _chunk(self, body: Body, data: bytes) -> int:
        at = self._at()
        body.size += len(data)
        body.chunks += 1
        self._fresh.append((body, data))
        kept = data if body.mask is None else body.mask.feed(data)
        cap = self._recording.max_body
        if cap is not None and body.recorded + len(kept) > cap:
            body.capped += body.recorded + len(kept) - cap
            kept = kept[: cap - body.recorded]
        body.recorded += len(kept)
        if len(kept) <= record.MAX_PAYLOAD:
            if kept:
                self._entries.append((body.kind, at, kept))
        else:
            for start in range(0, len(kept), record.MAX_PAYLOAD):
                self._entries.append((body.kind, at, kept[start : start + record.MAX_PAYLOAD]))
        return at

    def _put(self, kind: bytes, payload: bytes) -> int:
        at = self._at()
        self._entries.append((kind, at, payload))
        return at

    def _write(self) -> None:
        """All that is not in the journal yet. Raises JournalError, then none of it is."""
        recording, head, end = self._recording, self._head, self._end
        journal, entries = recording.journal, self._entries
        if self._owed or self._request.lost or self._response.lost:
            entries = [*self._owed, *self._gaps(), *entries]
        if head is not None:
            head.ordinal = journal.ordinal + 1
            entries = [(record.REQUEST_HEAD, 0, _encode(head)), *entries]
        if end is not None:
            entries = [*entries, (record.END, end[2], _encode(self._ending(end)))]
        if not entries:
            return
        try:
            journal.append_all(self._exchange, self._seq, entries)
        except JournalError:
            recording.lacking = max(recording.lacking, *(len(entry[2]) for entry in entries))
            raise
        self._seq += len(entries)
        if head is not None:
            journal.ordinal += 1
            self._head = None
        self._end = None
        if self._owed:
            self._owed = []
        self._request.lost = self._response.lost = 0
        self._entries = []
        if recording.failing is not None:
            recording.wrote(max(len(entry[2]) for entry in entries))

    def _count_in(self) -> None:
        """What was taken down is dealt with: into the hashes with it."""
        for body, data in self._fresh:
            body.arrived.update(data)
        if self._fresh:
            self._fresh = []
        if self._since:
            self._spent += self._now() - self._since
            self._since = 0

    def _owe(self) -> None:
        """What was taken down could not be written. Body bytes are not kept, it would be too much: a gap says how many
        they were. Everything else is."""
        for entry in self._entries:
            if entry[0] == record.REQUEST_CHUNK:
                self._request.lost += len(entry[2])
            elif entry[0] == record.RESPONSE_CHUNK:
                self._response.lost += len(entry[2])
            else:
                self._owed += self._gaps()
                self._request.lost = self._response.lost = 0
                self._owed.append(entry)
        self._entries = []

    def _gaps(self) -> list[Entry]:
        bodies = [body for body in (self._request, self._response) if body.lost]
        return [(record.GAP, self._at(), _encode(Gap(body.side, body.lost, "journal"))) for body in bodies]

    def _ending(self, end: tuple[WireEnd, str | None, int]) -> End:
        request, response = self._request, self._response
        request_hash, request_out = request.hashes([data for body, data in self._fresh if body is request])
        response_hash, response_out = response.hashes([data for body, data in self._fresh if body is response])
        return End(
            wire_end=end[0],
            error=end[1],
            request_bytes=request.size,
            response_bytes=response.size,
            request_chunks=request.chunks,
            response_chunks=response.chunks,
            overhead_us=self._spent // 1000,
            masked=request.masked or response.masked,
            request_hash=request_hash,
            request_out_hash=request_out,
            response_hash=response_hash,
            response_out_hash=response_out,
            request_sent_us=self._request_sent_us,
            head_us=self._head_us,
            first_byte_us=self._first_byte_us,
            last_byte_us=self._last_byte_us,
        )

    def _at(self) -> int:
        """µs since the exchange began, of what is taken down now: of all that one commit writes it is the same, since
        it came at once."""
        if not self._since:
            self._since = self._now()
        return (self._since - self._began) // 1000


class Unrecorded(Recorder):
    """The recorder of an exchange that its client or its configuration told us not to record: it is only counted."""

    def begin(self) -> None:
        self._recording.unrecorded += 1

    def commit(self) -> None:
        pass

    def commit_late(self) -> None:
        pass

    def response_data(self, data: bytes) -> None:
        pass

    def end(self, wire_end: WireEnd, error: str | None = None) -> None:
        pass

    def _chunk(self, body: Body, data: bytes) -> int:
        return 0

    def _put(self, kind: bytes, payload: bytes) -> int:
        return 0


def is_coded(headers: HeaderList) -> bool:
    """Compressed bodies are not looked into; see the README on what masking does not cover."""
    for name, value in headers:
        if len(name) == 16 and name.lower() == "content-encoding" and value.strip().lower() not in ("", "identity"):
            return True
    return False
