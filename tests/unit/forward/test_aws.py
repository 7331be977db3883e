"""AWS credentials of a machine: where they are found, how long they are used, what is signed, what a refusal means."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import UsageError
from proxy.forward.aws import AwsSource, Endpoint, endpoint
from proxy.forward.signer import NoCredentials, Signable, State
from proxy.wire.interface import RawHeaders, UpstreamResponse
from tests.flow.wire.stage import Answering, response
from tests.support.rawhttp import Message, RawUpstream
from tests.support.sigv4 import Aws, no_hints

HOST = "bedrock-runtime.us-east-1.amazonaws.com"
KEY, SECRET = "AKIAHELD000000000000", "held-secret"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One without credentials; the folder of AWS's files."""
    no_hints(monkeypatch)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def source(host: str = HOST, profile: str | None = None, region: str | None = None) -> AwsSource:
    return AwsSource(host, profile, region, None)


@pytest.fixture(scope="module")
def unchanging() -> dict[str, AwsSource]:
    """By their token."""
    with pytest.MonkeyPatch.context() as patch:
        return {token: static(patch, token) for token in ("", "session-token")}


def static(monkeypatch: pytest.MonkeyPatch, token: str = "") -> AwsSource:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    found = source()
    found.fetch()
    return found


@pytest.mark.parametrize(
    ("host", "known"),
    [
        (HOST, Endpoint("bedrock", "us-east-1")),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", Endpoint("bedrock", "us-gov-west-1")),
        ("bedrock-agent-runtime.eu-central-1.amazonaws.com", Endpoint("bedrock", "eu-central-1")),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", Endpoint("bedrock", "cn-north-1")),
        ("vpce-0a-1b.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", Endpoint("bedrock", "ap-southeast-2")),
        ("bedrock-mantle.us-east-1.api.aws", Endpoint("bedrock-mantle", "us-east-1")),
        ("aws-external-anthropic.us-west-2.api.aws", Endpoint("aws-external-anthropic", "us-west-2")),
        ("127.0.0.1", None),
        ("localhost", None),
        ("gateway.corp.example", None),
        ("bedrock.internal.corp-1.example", None),
    ],
)
def test_what_an_address_says(host: str, known: Endpoint | None) -> None:
    assert endpoint(host) == known


def test_a_region_has_to_be_known(machine: Path) -> None:
    with pytest.raises(UsageError, match=r"^aws_region must be set: neither the url nor"):
        source("127.0.0.1")
    (machine / "config").write_text("[profile corp]\nregion = eu-west-3\n")
    assert "eu-west-3" in repr(source("127.0.0.1", "corp").__dict__)
    assert "us-west-1" in repr(source("127.0.0.1", "corp", "us-west-1").__dict__)


def test_a_profile_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"^aws_profile: The config profile \(corp\) could not be found$"):
        source(profile="corp")


def test_the_machine_has_none() -> None:
    found = source()
    with pytest.raises(NoCredentials, match=r"^the AWS credentials were not found: set AWS_ACCESS_KEY_ID"):
        found.fetch()
    assert found.state() is State.NONE


def test_half_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    with pytest.raises(NoCredentials, match="could not be had: Partial credentials found in env"):
        source().fetch()


@pytest.mark.parametrize(
    ("seconds", "state"), [(3600, State.FRESH), (800, State.STALE), (61, State.STALE), (59, State.NONE)]
)
def test_how_long_those_of_a_container_are_used(monkeypatch: pytest.MonkeyPatch, seconds: int, state: State) -> None:
    until = datetime.now(UTC) + timedelta(seconds=seconds + 1)
    given = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "t", "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    with RawUpstream(Answering(response(json.dumps(given).encode(), b"Content-Type: application/json"))) as giver:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{giver.url}/creds")
        found = source()
        assert found.state() is State.NONE
        found.fetch()
        assert found.state() is state
        found.forget()
        assert found.state() is State.NONE


def test_refused_ones_are_had_from_where_they_come_from_and_serve_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waited for them, while another was told that older ones are refused, goes all the same."""
    found = static(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEXT000000000000")
    asked = Signable(b"POST", b"/x", [(b"Host", b"h")], b"")
    found.fetch()
    assert KEY in str(found.headers(asked))
    found.forget()
    assert found.state() is State.NONE
    assert KEY in str(found.headers(asked))
    found.fetch()
    assert found.state() is State.FRESH
    assert "AKIANEXT000000000000" in str(found.headers(asked))


def test_old_ones_that_could_not_be_had_anew_still_end(monkeypatch: pytest.MonkeyPatch) -> None:
    until = datetime.now(UTC) + timedelta(seconds=300)
    given = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "t", "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    with RawUpstream(Answering(response(json.dumps(given).encode(), b"Content-Type: application/json"))) as giver:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{giver.url}/creds")
        found = source()
        found.fetch()
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.RETRY_ATTEMPTS", 1)
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    for _ in range(2):
        with pytest.raises(NoCredentials):
            found.fetch()
    assert found.state() is State.STALE


def test_static_ones_do_not_age(monkeypatch: pytest.MonkeyPatch) -> None:
    assert static(monkeypatch).state() is State.FRESH


_names = st.from_regex(r"[A-Za-z0-9~._-]{1,5}|%[2-7][0-9A-F]", fullmatch=True)
_targets = st.builds(
    lambda segments, pairs: (
        "/" + "/".join(segments) + ("?" + "&".join("=".join(pair) for pair in pairs) if pairs else "")
    ),
    st.lists(
        st.one_of(_names, st.just("a:0"), st.just("arn%3Aaws%2Fx")).filter(lambda text: text not in (".", "..")),
        max_size=4,
    ),
    st.lists(st.tuples(_names, _names), max_size=4, unique_by=lambda pair: pair[0]),
)


@given(target=_targets, body=st.binary(max_size=50), token=st.sampled_from(["", "session-token"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # that of all tests, which does nothing here
def test_aws_takes_what_is_signed(unchanging: dict[str, AwsSource], target: str, body: bytes, token: str) -> None:
    """By a reading of the signature's rules that knows nothing of the library."""
    found = unchanging[token]
    headers: RawHeaders = [
        (b"Host", HOST.encode()),
        (b"User-Agent", b"sdk/1"),
        (b"Content-Type", b"application/json"),
        (b"X-Amzn-Bedrock-Trace", b"ENABLED"),
        (b"X-Amz-Target", b"a  b"),
        (b"Connection", b"close"),
    ]
    added = found.headers(Signable(b"POST", target.encode(), headers, body))
    names = [name.lower() for name, _ in added]
    assert names == [b"x-amz-date", *([b"x-amz-security-token"] if token else []), b"authorization"]
    sent = Message(b"POST %b HTTP/1.1" % target.encode(), [*headers, *added], body)
    assert Aws(b"", {KEY: (SECRET, token)}).check(sent) == KEY
    signed = dict(added)[b"Authorization"].partition(b"SignedHeaders=")[2].partition(b",")[0].split(b";")
    assert b"user-agent" not in signed
    assert b"connection" not in signed


def refused(status: int, code: str, date: str = "") -> UpstreamResponse:
    headers = [(b"x-amzn-ErrorType", code.encode()), (b"Date", date.encode())]
    return UpstreamResponse(status, b"", headers, bodiless=False)


@pytest.mark.parametrize(
    ("status", "code", "words", "others"),
    [
        (403, "ExpiredTokenException:http://x/", "have expired (ExpiredTokenException)", True),
        (400, "ExpiredToken", "have expired", True),
        (403, "UnrecognizedClientException", "are not known to AWS", True),
        (
            403,
            "InvalidSignatureException",
            "the secret key is wrong, or the region us-east-1 or service bedrock",
            False,
        ),
        (403, "AccessDeniedException", "may not do what was asked (AccessDeniedException)", False),
        (403, "", "may not do what was asked (403)", False),
        (401, "x" * 1000, "may not do what was asked (xxx", False),
    ],
)
def test_what_a_refusal_means(status: int, code: str, words: str, others: bool) -> None:
    found = source().refusal(refused(status, code))
    assert found is not None
    assert words in found[0]
    assert found[1] is others
    assert len(found[0]) < 500


@pytest.mark.parametrize("status", [200, 404, 413, 429, 500, 529])
def test_what_is_no_refusal(status: int) -> None:
    assert source().refusal(refused(status, "AccessDeniedException")) is None
    assert source().refusal(refused(400, "ValidationException")) is None


@pytest.mark.parametrize(
    ("date", "words"),
    [
        (7200, "s behind AWS's; set it"),
        (-7200, "s ahead of AWS's; set it"),
        (0, "the secret key is wrong"),
        ("yesterday", "the secret key is wrong"),
        ("Mon, 99999999999999999999 Jan 2026 00:00:00 GMT", "the secret key is wrong"),
        ("", "the secret key is wrong"),
    ],
)
def test_a_clock_that_is_wrong(date: str | int, words: str) -> None:
    """`date` is what AWS says, or by how many seconds its clock is ahead."""
    said = date if isinstance(date, str) else formatdate(time.time() + date, usegmt=True)
    found = source().refusal(refused(403, "SignatureDoesNotMatch", said))
    assert found is not None
    assert words in found[0]


def test_a_giver_whose_clock_differs(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STS says it of the request for the role's credentials."""
    (machine / "config").write_text(
        "[profile source]\naws_access_key_id = a\naws_secret_access_key = b\n"
        "[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = source\nregion = us-east-1\n"
    )
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>SignatureDoesNotMatch</Code>'
        "<Message>Signature expired: 20260101T000000Z is now earlier than 20260102T000000Z</Message></Error>"
        "</ErrorResponse>"
    )
    answer = response(body.encode(), b"Content-Type: text/xml", status=b"403 Forbidden")
    with RawUpstream(Answering(answer)) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        with pytest.raises(NoCredentials, match=r"Signature expired.*; this machine's clock is wrong, set it$"):
            source(profile="role").fetch()


def test_it_never_asks_in_the_loops_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """`state` and `headers` touch no file and no socket."""
    found = static(monkeypatch)
    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr("proxy.forward.aws.Session", None)
    assert found.state() is State.FRESH
    assert found.headers(Signable(b"POST", b"/x", [(b"Host", b"h")], b""))
