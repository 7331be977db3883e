"""A wiretape whose upstreams are all asked with AWS credentials, of several kinds; the AWS that they are asked at, and
the STS that gives those of a role."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2 as httpx
from botocore.config import Config  # type: ignore[import-untyped]  # it ships no types
from botocore.session import Session  # type: ignore[import-untyped]  # as above

from tests.flow.wire.stage import Recorded, Slot, Stage, response
from tests.support.rawhttp import DEADLINE, Peer, RawUpstream
from tests.support.running import Running, serving
from tests.support.sigv4 import Aws

IDLE = 40 * DEADLINE
TOKEN = "session-token-0123456789abcdefgh"
SECRET = "held-secret-0123456789abcdefghij"
BEARER = "bedrock-api-key-held-0123456789abcdef"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/" + MODEL
MESSAGES: Any = [{"role": "user", "content": [{"text": "hello"}]}]
STREAMED = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nx-amzn-RequestId: 7\r\n"
ANSWERED = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "Bonjour"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
        "metrics": {"latencyMs": 1},
    }
).encode()
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Bonjour"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
"""What Anthropic's SDK takes for an answer, wherever its model runs."""
UPSTREAMS = {
    "bedrock": "credentials = 'aws'\naws_region = 'us-east-1'",
    "filed": "credentials = 'aws'\naws_profile = 'filed'\naws_region = 'us-east-1'",
    "assumed": "credentials = 'aws'\naws_profile = 'assumed'",
    "process": "credentials = 'aws'\naws_profile = 'process'\naws_region = 'us-east-1'",
    "bare": "credentials = 'aws'\naws_profile = 'bare'",
    "keyed": "key_env = 'BEDROCK_KEY'",
}
PROFILES = """
[profile filed]
[profile source]
aws_access_key_id = AKIASOURCE0000000000
aws_secret_access_key = source-secret
[profile assumed]
role_arn = arn:aws:iam::123456789012:role/recorder
source_profile = source
region = us-east-1
[profile process]
credential_process = {process}
[profile bare]
region = us-east-1
"""


class Sts:
    """A script that gives the credentials of a role; they last for `lasting` seconds."""

    def __init__(self) -> None:
        self.lasting = 3600
        self.refusal = ""
        self.given = 0
        self._checks = Aws(b"", {"AKIASOURCE0000000000": ("source-secret", "")}, service="sts")

    def __call__(self, peer: Peer) -> None:
        message = peer.read_message()
        self._checks.check(message)
        assert parse_qs(message.body.decode())["Action"] == ["AssumeRole"]
        if self.refusal:
            peer.send(response(_xml_error(self.refusal).encode(), b"Content-Type: text/xml", status=b"403 Forbidden"))
            return
        self.given += 1
        until = datetime.now(UTC) + timedelta(seconds=self.lasting)
        body = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
            <Credentials><AccessKeyId>ASIAROLE{self.given:012}</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>
            <SessionToken>{TOKEN}</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>
            <AssumedRoleUser><Arn>arn:aws:sts::1:x</Arn><AssumedRoleId>x:y</AssumedRoleId></AssumedRoleUser>
            </AssumeRoleResult></AssumeRoleResponse>"""
        peer.send(response(body.encode(), b"Content-Type: text/xml"))


def _xml_error(code: str) -> str:
    return f"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
        <Code>{code}</Code><Message>User: arn:aws:iam::1:user/x is not authorized</Message></Error></ErrorResponse>"""


class Cloud:
    """A wiretape with upstreams that are all `aws`, and what it recorded."""

    def __init__(self, wiretape: Running, aws: Aws, sts: Sts, folder: Path) -> None:
        self.wiretape, self.aws, self.sts, self.folder = wiretape, aws, sts, folder
        self.stage = Stage(wiretape, {})
        self._begun: dict[str, int] = {}

    def begin(self, upstream: str) -> None:
        """What is recorded from here on is asked for."""
        self._begun[upstream] = time.time_ns() // 1000

    def client(self, upstream: str) -> Any:
        """AWS's own, with credentials that are good for nothing."""
        self.begin(upstream)
        return Session().create_client(
            "bedrock-runtime",
            region_name="eu-west-1",
            endpoint_url=f"{self.wiretape.url}/{upstream}",
            aws_access_key_id="AKIACLIENT0000000000",
            aws_secret_access_key="client-secret",
            aws_session_token="client-token-0123456789",
            config=Config(retries={"max_attempts": 0}, proxies={}),
        )

    def converse(self, upstream: str = "bedrock", model: str = MODEL) -> str:
        with closing(self.client(upstream)) as client:
            found = client.converse(modelId=model, messages=MESSAGES)
        return str(found["output"]["message"]["content"][0]["text"])

    def refused(self, upstream: str) -> httpx.Response:
        """The answer to a request that fails."""
        self.begin(upstream)
        return self.wiretape.client.post(f"{self.wiretape.url}/{upstream}/model/{MODEL}/converse", json={})

    def recorded(self, upstream: str) -> Recorded:
        return self.stage.only(Slot(upstream, 0, self._begun[upstream]))

    def trust_roles(self) -> None:
        """Have AWS know the credentials that STS gave, and the next few."""
        self.aws.secrets |= {f"ASIAROLE{number:012}": ("role-secret", TOKEN) for number in range(self.sts.given + 5)}

    def store(self, key: str, secret: str) -> None:
        """Write the credentials of the profile `filed`."""
        lines = ("[filed]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {secret}", "")
        (self.folder / "credentials").write_text("\n".join(lines))


@contextmanager
def clouded(folder: Path) -> Iterator[Cloud]:
    aws = Aws(b"", {})
    process = folder / "process"
    process.write_text("#!/bin/sh\necho leaked-by-a-program >&2\nexit 1\n")
    process.chmod(0o700)
    (folder / "config").write_text(PROFILES.format(process=process))
    sts = Sts()

    with RawUpstream(aws, deadline=IDLE) as origin, RawUpstream(sts, deadline=IDLE) as giver:
        config = "forward.transform_limit = '1 MiB'\nforward.hosts = ['wiretape.test']\n" + "".join(
            f"[upstreams.{name}]\nurl = '{origin.url}'\ndialect = 'bedrock'\n{more}\n"
            for name, more in UPSTREAMS.items()
        )
        variables = {
            "AWS_ACCESS_KEY_ID": "AKIAHELD000000000000",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_STS": giver.url,
            "BEDROCK_KEY": BEARER,
        }
        with serving(folder, config=config, variables=variables) as wiretape:
            yield Cloud(wiretape, aws, sts, folder)
