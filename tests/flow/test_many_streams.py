"""More streams at once than programs may usually open files: each takes two, its client's and its upstream's."""

from __future__ import annotations

import resource
import threading
from contextlib import ExitStack
from pathlib import Path

from tests.support.journals import limited, open_files
from tests.support.rawhttp import Ended, Peer, RawUpstream, TooLate, connect
from tests.support.running import PATIENCE, serving

STREAMS = 120
EVENT = b"data: {}\n\n"


def test_all_of_them_run_side_by_side(tmp_path: Path) -> None:
    go_on = threading.Event()

    def stream(peer: Peer) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
        try:
            peer.read_message()
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk)
            go_on.wait(PATIENCE)
            peer.send(chunk, b"0\r\n\r\n")
        except (Ended, TooLate):
            return

    with RawUpstream(stream, deadline=PATIENCE) as upstream, ExitStack() as stack:
        with limited(resource.RLIMIT_NOFILE, open_files() + STREAMS):
            wiretape = stack.enter_context(serving(tmp_path, "--upstream", f"up={upstream.url}"))
        port = int(wiretape.url.rpartition(":")[2])
        clients = [stack.enter_context(connect(port, deadline=PATIENCE)) for _ in range(STREAMS)]
        for client in clients:
            client.send(b"GET /up/v1 HTTP/1.1\r\nHost: test\r\n\r\n")
        for client in clients:
            client.read_until(EVENT)
        go_on.set()
        for client in clients:
            client.read_until(b"\r\n0\r\n\r\n")
            assert client.received.count(EVENT) == 2
        wiretape.wait_stored(STREAMS)
