"""What a response head gets on its way to the client, and the record of it. Must not know sockets."""

from __future__ import annotations

from proxy.exchange import Change
from proxy.forward.policy import Rules
from proxy.forward.recorder import Recorder
from proxy.wire.interface import RawHeaders, UpstreamResponse

ID_HEADER = "x-wiretape-exchange"
_ID = ID_HEADER.encode()
CREDENTIALS_HEADER = "x-wiretape-credentials"


def add(response: UpstreamResponse, recorder: Recorder, rules: Rules, fault: str | None = None) -> None:
    """Add to an upstream's headers, in place. What a page may read only one can say, and that is us.

    `fault`: what is wrong with the credentials that are held here, and not with the client's."""
    headers = response.headers
    if rules.uploads is not None:
        rules.uploads.lead_back(response.status, headers, recorder)
    if fault is not None:
        recorder.change(Change("response_header_added", [(CREDENTIALS_HEADER, fault)]))
        headers.append((CREDENTIALS_HEADER.encode(), fault.encode("ascii")))
    if rules.page:
        removed = {header[0].lower().decode("latin-1") for header in headers if _is_of_pages(header)}
        headers[:] = [header for header in headers if not _is_of_pages(header)]
        ours = of_ours(recorder, rules)
        text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in ours]
        recorder.change(Change("response_header_added", text, removed=sorted(removed)))
        headers += ours
    elif rules.expose_id:
        recorder.change(Change("response_header_added", [(ID_HEADER, recorder.id)]))
        headers.append((_ID, recorder.id.encode()))


def of_ours(recorder: Recorder, rules: Rules) -> RawHeaders:
    """The headers that every response of an exchange gets, an error of ours too."""
    known = [(_ID, recorder.id.encode())] if rules.expose_id else []
    return [*known, *rules.page]


def _is_of_pages(header: tuple[bytes, bytes]) -> bool:
    return header[0].lower().startswith(b"access-control-")
