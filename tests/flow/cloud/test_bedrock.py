"""An upstream that is asked with the AWS credentials of this machine: AWS's own SDK and Anthropic's for it work without
a change, AWS takes each request, and what is wrong with the credentials is told as that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import httpx2 as httpx
import pytest
from anthropic import AnthropicBedrock
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # as above

from tests.flow.cloud.bedrock import (
    ANSWERED,
    ARN,
    BEARER,
    CLAUDE,
    MESSAGES,
    MODEL,
    SECRET,
    STREAMED,
    TOKEN,
    Cloud,
    clouded,
)
from tests.flow.wire.stage import request, response
from tests.support.rawhttp import Message
from tests.support.running import files_of, wait_for
from tests.support.sigv4 import Refused, no_hints
from tests.support.streams import streams

CONVERSE = streams()["bedrock-converse-text-cache"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouded(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Cloud:
    aws = running.aws
    aws.answer = response(ANSWERED, b"Content-Type: application/json")
    aws.secrets = {"AKIAHELD000000000000": (SECRET, TOKEN)}
    aws.ahead, aws.refuse = 0.0, None
    aws.expired.clear()
    aws.taken.clear()
    aws.keys.clear()
    return running


@pytest.fixture(autouse=True)
def _no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    no_hints(monkeypatch)


def test_awss_own_sdk_reads_a_stream(cloud: Cloud) -> None:
    cloud.aws.answer = STREAMED + b"Content-Length: %d\r\n\r\n%b" % (len(CONVERSE.body), CONVERSE.body)
    with closing(cloud.client("bedrock")) as client:
        events = list(client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])
    assert "Bonjour" in str(events)
    taken = cloud.aws.taken[-1]
    assert taken.target == b"/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
    assert b"AKIACLIENT" not in str(taken.headers).encode()
    recorded = cloud.recorded("bedrock")
    assert (recorded.request, recorded.response) == (taken.body, CONVERSE.body)
    assert recorded.facts["usage_state"] == "complete"
    taken_off, put = [each for each in recorded.changes if each["kind"] == "request_header_added"]
    assert taken_off["removed"] == ["authorization", "x-amz-date", "x-amz-security-token"]
    names = dict(put["headers"])
    assert names["X-Amz-Date"].encode() == taken.one("x-amz-date")
    assert names["X-Amz-Security-Token"].startswith("redacted:")
    assert names["Authorization"].startswith("AWS4-HMAC-SHA256 redacted:")


def test_anthropics_sdk_for_it(cloud: Cloud) -> None:
    cloud.aws.answer = response(json.dumps(CLAUDE).encode(), b"Content-Type: application/json")
    with AnthropicBedrock(
        aws_access_key="AKIACLIENT0000000000",
        aws_secret_key="client-secret",
        aws_region="us-east-1",
        base_url=f"{cloud.wiretape.url}/bedrock",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        cloud.begin("bedrock")
        found = client.messages.create(model=MODEL, max_tokens=10, messages=[{"role": "user", "content": "hello"}])
    assert found.model_dump()["content"][0]["text"] == "Bonjour"
    assert cloud.aws.taken[-1].target == f"/model/{MODEL}/invoke".encode()
    assert cloud.recorded("bedrock").facts["input_tokens"] == 3


def test_the_path_may_hold_anything(cloud: Cloud) -> None:
    assert cloud.converse(model=ARN) == "Bonjour"
    assert b"%2F" in cloud.aws.taken[-1].target


def test_requests_are_billed_to_the_credentials_not_to_their_keys(cloud: Cloud) -> None:
    """Those of a role are other ones every hour."""
    credentials = set()
    cloud.trust_roles()
    for upstream in ("bedrock", "bedrock", "assumed"):
        cloud.converse(upstream)
        credentials.add(cloud.recorded(upstream).facts["credential"])
    assert len(credentials) == 2


def test_a_role_is_assumed_and_its_credentials_are_renewed_before_they_end(cloud: Cloud) -> None:
    before = cloud.sts.given
    cloud.trust_roles()
    cloud.wiretape.kill("forward")  # it knows none then
    cloud.wiretape.successor("forward", 0)
    cloud.sts.lasting = 20  # too short to be used for long
    assert cloud.converse("assumed") == "Bonjour"
    cloud.sts.lasting = 3600
    assert [cloud.converse("assumed") for _ in range(3)] == ["Bonjour"] * 3
    assert cloud.sts.given == before + 2
    assert cloud.aws.keys == [f"ASIAROLE{before + more:012}" for more in (1, 2, 2, 2)]
    assert cloud.aws.taken[-1].one("x-amz-security-token") == TOKEN.encode()


def test_a_role_that_may_not_be_assumed(cloud: Cloud) -> None:
    cloud.wiretape.kill("forward")
    cloud.sts.refusal = "AccessDenied"
    try:
        found = cloud.refused("assumed")
    finally:
        cloud.sts.refusal = ""
    assert found.status_code == 502
    said = found.json()["error"]
    assert said["type"] == "wiretape_upstream_credentials_failed"
    assert "assumed: the AWS credentials of the profile assumed could not be had" in said["message"]
    assert "AccessDenied" in said["message"]
    recorded = cloud.recorded("assumed")
    assert recorded.facts["error"].startswith("credentials: the AWS credentials of the profile assumed")
    assert (recorded.outcome, recorded.request) == ("upstream_failed", b"{}")
    assert not cloud.aws.taken


def test_a_program_that_gives_none_is_not_quoted(cloud: Cloud) -> None:
    found = cloud.refused("process")
    why = "could not be had: the credential_process of the profile failed"
    assert found.status_code == 502
    assert found.json()["message"] == f"process: the AWS credentials of the profile process {why}"
    cloud.recorded("process")
    assert not [
        path for path, data in files_of(cloud.folder).items() if b"leaked-by" in data and path.name != "process"
    ]


def test_there_are_none(cloud: Cloud) -> None:
    found = cloud.refused("bare")
    assert found.status_code == 502
    assert "of the profile bare were not found: set AWS_ACCESS_KEY_ID" in found.json()["message"]
    assert "were not found" in cloud.wiretape.log


def test_a_wrong_secret_is_told_as_ours(cloud: Cloud) -> None:
    cloud.aws.secrets = {"AKIAHELD000000000000": ("another", TOKEN)}
    with pytest.raises(ClientError) as raised:
        cloud.converse()
    assert raised.value.response["Error"]["Code"] == "InvalidSignatureException"
    fault = raised.value.response["ResponseMetadata"]["HTTPHeaders"]["x-wiretape-credentials"]
    assert fault == (
        "the AWS credentials, with which bedrock is asked, did not give a signature that AWS takes "
        "(InvalidSignatureException): the secret key is wrong, or the region us-east-1 or service bedrock is"
    )
    recorded = cloud.recorded("bedrock")
    assert ["x-wiretape-credentials", fault] in [header for each in recorded.changes for header in each["headers"]]
    assert b"calculated does not match" in recorded.response
    wait_for(lambda: fault in cloud.wiretape.log, "the log to say so")


@pytest.mark.parametrize(("ahead", "words"), [(900.0, "behind AWS's"), (-900.0, "ahead of AWS's")])
def test_a_wrong_clock(cloud: Cloud, ahead: float, words: str) -> None:
    cloud.aws.ahead = ahead
    found = cloud.refused("bedrock")
    assert found.status_code == 403
    assert "signed with a wrong time (InvalidSignatureException): this machine's clock is " in (
        fault := found.headers["x-wiretape-credentials"]
    )
    assert words in fault
    assert 890 < int(fault.partition("clock is ")[2].split()[0]) < 910


def test_credentials_that_have_expired_are_read_again(cloud: Cloud) -> None:
    cloud.aws.secrets |= {"AKIAFILED00000000000": ("one", ""), "AKIAFILED00000000001": ("two", "")}
    cloud.store("AKIAFILED00000000000", "one")
    assert cloud.converse("filed") == "Bonjour"
    cloud.store("AKIAFILED00000000001", "two")
    assert cloud.converse("filed") == "Bonjour"
    cloud.aws.expired.add("AKIAFILED00000000000")
    found = cloud.refused("filed")
    assert found.status_code == 403
    assert "have expired (ExpiredTokenException): renew them" in found.headers["x-wiretape-credentials"]
    assert cloud.converse("filed") == "Bonjour"
    assert cloud.aws.keys == ["AKIAFILED00000000000", "AKIAFILED00000000000", "AKIAFILED00000000001"]


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("UnrecognizedClientException", 403, "are not known to AWS"),
        ("AccessDeniedException", 403, "may not do what was asked (AccessDeniedException)"),
        ("Strange\xe9Exception", 403, "may not do what was asked (Strange?Exception)"),
        ("ValidationException", 400, None),
        ("ThrottlingException", 429, None),
    ],
)
def test_what_aws_refuses(cloud: Cloud, code: str, status: int, words: str | None) -> None:
    cloud.aws.refuse = Refused(code, "no", status)
    found = cloud.refused("bedrock")
    fault = found.headers.get("x-wiretape-credentials")
    assert found.status_code == status
    assert found.json() == {"message": "no"}
    assert (fault is None) if words is None else (words in (fault or ""))


def test_more_than_is_held_is_refused(cloud: Cloud) -> None:
    target = b"/bedrock/model/m/converse"
    big = cloud.stage.exchange(request(target, b"x" * (2**20 + 1)))
    assert big.status == 413
    assert b"forward.transform_limit (1048576 bytes)" in big.body
    cloud.begin("bedrock")
    with cloud.stage.client() as client:
        client.send(request(target, None, b"Transfer-Encoding: chunked"), b"10000\r\n%b\r\n" % (b"x" * 65536) * 16)
        assert client.send(b"1\r\nx\r\n").read_message().status == 413
    assert cloud.recorded("bedrock").outcome == "refused"
    fitting = b"y" * 2**20
    assert cloud.stage.exchange(request(target, fitting)).status == 200
    assert cloud.aws.taken[-1].body == fitting


def test_a_body_in_pieces_and_a_signed_url(cloud: Cloud) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"a":'
        yield b" 1}"

    query = "a=b%20c&X-Amz-Signature=00&X-Amz-Credential=AKIACLIENT0000000000%2F1&aa=1&a=B"
    url = f"{cloud.wiretape.url}/bedrock/model/m:1/converse?{query}"
    assert cloud.wiretape.client.post(url, content=pieces()).is_success
    taken = cloud.aws.taken[-1]
    assert (taken.body, taken.target) == (b'{"a": 1}', b"/model/m:1/converse?a=b%20c&aa=1&a=B")


@pytest.mark.parametrize("line", [b"Host: evil.test", b"Host: localhost\r\nOrigin: https://evil.test"])
def test_no_page_and_no_foreign_name_gets_at_them(cloud: Cloud, line: bytes) -> None:
    asked = request(b"/bedrock/model/m/converse", b"{}").replace(b"Host: wiretape.test", line)
    assert cloud.stage.exchange(asked).status == 403
    assert not cloud.aws.taken


def test_an_api_key_of_bedrock(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is signed then, whatever the client signed with."""
    seen: list[Message] = []

    def check(message: Message) -> str:
        seen.append(message)
        return "none"

    monkeypatch.setattr(cloud.aws, "check", check)
    assert cloud.converse("keyed") == "Bonjour"
    assert seen[0].one("authorization") == f"Bearer {BEARER}".encode()
    assert not [name for name, _ in seen[0].headers if name.lower().startswith(b"x-amz-")]


def test_nothing_secret_is_kept(cloud: Cloud) -> None:
    cloud.converse()
    cloud.recorded("bedrock")
    secrets = (SECRET, TOKEN, BEARER, "client-secret", "client-token-0123456789", "role-secret")
    ours = {path: data for path, data in files_of(cloud.folder).items() if path.parent != cloud.folder}
    ours |= {path: path.read_bytes() for path in cloud.folder.glob("wiretape-*")}
    assert not [path for path, data in ours.items() for secret in secrets if secret.encode() in data]
    assert not [path for path, data in ours.items() if b"AKIAHELD" in data]
