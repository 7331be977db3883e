"""Requests that are signed, or get a token, and go over HTTP/2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.cloud.bedrock import SECRET
from tests.flow.wire.stage import Slot, Stage, request
from tests.support import certificates, http2
from tests.support.rawhttp import Message
from tests.support.running import serving
from tests.support.sigv4 import Aws, no_hints

KEY = "AKIAHELD000000000000"


def test_aws_takes_what_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_hints(monkeypatch)
    certificate = certificates.certificate(tmp_path / "tls", "localhost")

    def script(stream: http2.Stream) -> None:
        stream.head(("content-type", "application/json"))
        stream.data(b"{}", end=True)

    with http2.Http2Upstream(script, certificate) as upstream:
        config = f"[upstreams.bedrock]\nurl = 'https://localhost:{upstream.port}'\ndialect = 'bedrock'\nhttp2 = true\n"
        config += f"ca_file = '{certificate}'\ncredentials = 'aws'\naws_region = 'us-east-1'\n"
        variables = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        with serving(tmp_path, config=config, variables=variables) as wiretape:
            stage = Stage(wiretape, {})
            asked = request(b"/bedrock/model/m%3A0/converse", b'{"a": 1}', b"Content-Type: application/json")
            assert stage.exchange(asked.replace(b"wiretape.test", b"localhost")).status == 200
            assert stage.only(Slot("bedrock", 0, 0)).outcome == "completed"
        (got,) = upstream.requests
    named = dict(got.headers)
    headers = [(name, value) for name, value in got.headers if not name.startswith(b":")]
    headers.append((b"host", named[b":authority"]))
    sent = Message(b"%b %b HTTP/2" % (named[b":method"], named[b":path"]), headers, bytes(got.body))
    assert Aws(b"", {KEY: (SECRET, "")}).check(sent) == KEY
