"""A client's own API key of Bedrock: AWS's SDK sends it over TLS only, and it passes as it comes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from botocore.config import Config  # type: ignore[import-untyped]  # it ships no types
from botocore.session import Session  # type: ignore[import-untyped]  # as above

from tests.flow.cloud.bedrock import ANSWERED, MESSAGES, MODEL
from tests.flow.wire.stage import Answering, response
from tests.support import certificates
from tests.support.rawhttp import RawUpstream
from tests.support.running import files_of, serving
from tests.support.sigv4 import no_hints

KEY = "bedrock-api-key-clients-0123456789abcdef"


def test_it_passes_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_hints(monkeypatch)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    authority = certificates.authority(tmp_path)
    files = certificates.certificate(tmp_path / "files", "localhost", issuer=authority).parent
    upstream = Answering(response(ANSWERED, b"Content-Type: application/json"))
    with RawUpstream(upstream) as origin:
        config = f"forward.cert = '{files / 'cert'}'\nforward.key = '{files / 'key'}'\n"
        config += f"[upstreams.bedrock]\nurl = '{origin.url}'\ndialect = 'bedrock'\n"
        with serving(tmp_path, config=config) as wiretape:
            client = Session().create_client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=f"https://localhost:{wiretape.port}/bedrock",
                verify=str(authority),
                config=Config(retries={"max_attempts": 0}, proxies={}),
            )
            with closing(client):
                found = client.converse(modelId=MODEL, messages=MESSAGES)
            assert found["output"]["message"]["content"][0]["text"] == "Bonjour"
            wiretape.wait_stored(1)
    assert upstream.requests[0].all("authorization") == [f"Bearer {KEY}".encode()]
    assert not [path for path, data in files_of(tmp_path / "home").items() if KEY.encode() in data]
