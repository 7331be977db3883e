"""Credentials never get into what is recorded, wherever they stand, and each keeps one fingerprint."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.forward.redact import SECRET_HEADERS, SECRET_QUERY, URL_HEADERS, Redactor

REDACTOR = Redactor(b"k" * 32)
KEY = b"sk-proj-abcdefghijklmnopqrstuvwx"
MARK = b"redacted:" + REDACTOR.fingerprint(KEY)

REQUEST_HEADERS = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "ocp-apim-subscription-key",
    "x-goog-api-key",
    "cookie",
    "x-amz-security-token",
    "x-auth-token",
    "cf-aig-authorization",
    "helicone-auth",
]
RESPONSE_HEADERS = ["set-cookie", "x-guploader-uploadid"]
QUERY = [
    "key",
    "api-key",
    "access_token",
    "token",
    "sig",
    "signature",
    "upload_id",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "subscription-key",
    "refresh_token",
]
IDENTITY = [
    "openai-organization",
    "openai-project",
    "anthropic-workspace-id",
    "anthropic-organization-id",
    "chatgpt-account-id",
    "x-goog-user-project",
    "x-amz-date",
    "x-request-id",
    "user-agent",
    "content-type",
]


def one(name: str, value: bytes, redactor: Redactor = REDACTOR) -> bytes:
    """How a header's value is recorded."""
    ((_, recorded),) = redactor.headers([(name.encode(), value)])
    return recorded.encode("latin-1")


def fingerprints(recorded: bytes) -> set[bytes]:
    return set(re.findall(rb"redacted:([0-9a-f]{16})", recorded))


@pytest.mark.parametrize("name", [*REQUEST_HEADERS, *RESPONSE_HEADERS])
@pytest.mark.parametrize("style", [str.lower, str.upper, str.title])
def test_secret_headers(name: str, style: object) -> None:
    shown = style(name) if callable(style) else name
    ((recorded_name, value),) = REDACTOR.headers([(shown.encode(), KEY)])
    assert recorded_name == shown
    assert value.encode() == MARK


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Token", "Basic", "Digest", "Negotiate"])
def test_schemes_stay_and_do_not_change_the_fingerprint(scheme: str) -> None:
    assert one("Authorization", f"{scheme} ".encode() + KEY) == f"{scheme} ".encode() + MARK
    assert one("Authorization", f"{scheme}   ".encode() + KEY + b" ") == f"{scheme} ".encode() + MARK


def test_an_unknown_scheme_is_redacted_as_a_whole() -> None:
    assert one("authorization", b"Secret " + KEY) == b"redacted:" + REDACTOR.fingerprint(b"Secret " + KEY)


def test_ephemeral_tokens_of_gemini_live() -> None:
    token = b"auth_tokens/0123456789abcdef"
    assert one("authorization", b"Token " + token) == b"Token redacted:" + REDACTOR.fingerprint(token)


def aws(signature: str, day: str = "20261122", access: str = "AKIAIOSFODNN7EXAMPLE") -> bytes:
    scope = f"{access}/{day}/us-east-1/bedrock/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={signature}".encode()


def test_aws_signatures_go_and_the_signer_has_one_fingerprint() -> None:
    recorded = one("authorization", aws("a" * 64))
    assert recorded == b"AWS4-HMAC-SHA256 redacted:" + REDACTOR.fingerprint(b"AKIAIOSFODNN7EXAMPLE")
    assert recorded == one("authorization", aws("b" * 64, "20261123"))
    assert recorded != one("authorization", aws("a" * 64, access="AKIAIOSFODNN7EXAMPL2"))
    presigned = b"/m?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261122%2Fus-east-1%2Fbedrock%2Faws4_request&X-Amz-Date=2"
    assert fingerprints(REDACTOR.target(presigned)) == fingerprints(recorded)
    assert REDACTOR.credential([], presigned) == REDACTOR.credential([(b"Authorization", aws("c" * 64))], b"/")
    assert b"a" * 64 not in one("authorization", b"AWS4-HMAC-SHA256 " + b"a" * 64)


@pytest.mark.parametrize("name", QUERY)
def test_secret_parameters(name: str) -> None:
    for shown in (name, name.upper(), name.lower(), quote(name[0]) + name[1:], f"%{ord(name[0]):02X}{name[1:]}"):
        target = REDACTOR.target(f"/v1/x?a=1&{shown}=".encode() + KEY + b"&b=2")
        assert target == f"/v1/x?a=1&{shown}=".encode() + MARK + b"&b=2"


def test_parameters_that_repeat_are_all_redacted() -> None:
    assert REDACTOR.target(b"/?key=" + KEY + b"&key=other-secret&key=") == (
        b"/?key=" + MARK + b"&key=redacted:" + REDACTOR.fingerprint(b"other-secret") + b"&key="
    )


def test_a_percent_encoded_value_has_the_fingerprint_of_what_it_means() -> None:
    encoded = b"".join(b"%%%02x" % byte for byte in KEY)
    assert REDACTOR.target(b"/?key=" + encoded) == b"/?key=" + MARK
    assert REDACTOR.target(b"/?key=" + KEY.replace(b"-", b"%2D")) == b"/?key=" + MARK


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/models?limit=5&after=key",
        b"/v1/models?",
        b"/v1/models?&&a&=b&c=",
        b"/v1/models",
        b"",
        b"?",
        b"//x/../%2F%zz?a=%zz",
        b"/model/us.a-v1%3A0/converse?monkey=1&keys=2&tokens=3",
        b"/v1/projects/p@q/publishers/claude@1:predict?alt=sse",
        b"/\xff\xfe?\x80=\xff",
        b"/v1/x?key&token",
    ],
)
def test_targets_without_a_credential_stay_octet_by_octet(target: bytes) -> None:
    assert REDACTOR.target(target) == target


def test_keys_in_a_path_or_a_parameter_of_any_name() -> None:
    assert REDACTOR.target(b"/bot/" + KEY + b"/send?q=" + KEY) == b"/bot/" + MARK + b"/send?q=" + MARK
    assert REDACTOR.target(b"/x?q=the%20key%20" + KEY) == b"/x?q=the%20key%20" + MARK
    assert REDACTOR.target(b"/~a=" + KEY + b"/openai/v1") == b"/~a=" + MARK + b"/openai/v1"
    assert REDACTOR.target(b"/?" + KEY) == b"/?" + MARK


@pytest.mark.parametrize("name", sorted(name.decode() for name in URL_HEADERS))
def test_urls_in_headers(name: str) -> None:
    upload = b"https://up.example/upload/v1beta/files?upload_id=AbPt_0123&upload_protocol=resumable"
    assert one(name, upload) == upload.replace(b"AbPt_0123", b"redacted:" + REDACTOR.fingerprint(b"AbPt_0123"))
    callback = b"https://a.example/cb#state=1&access_token=" + KEY
    assert one(name, callback) == callback.replace(KEY, MARK)
    assert one(name, b"https://a.example/cb?key=" + KEY + b"#frag") == b"https://a.example/cb?key=" + MARK + b"#frag"
    for before in (b"https://", b"//"):
        with_user = before + b"me:pass@word@host.example/x@y"
        secret = b"redacted:" + REDACTOR.fingerprint(b"me:pass@word")
        assert one(name, with_user) == before + secret + b"@host.example/x@y"
    assert one(name, b"/v1/realtime/calls/rtc_123") == b"/v1/realtime/calls/rtc_123"


def test_subprotocols() -> None:
    offered = b"realtime, openai-insecure-api-key." + KEY + b", openai-organization.org-1, openai-project.proj_1"
    assert one("Sec-WebSocket-Protocol", offered) == offered.replace(KEY, MARK)
    assert one("sec-websocket-protocol", b"realtime, " + KEY) == b"realtime, " + MARK
    assert one("sec-websocket-protocol", b"openai-insecure-api-key.short") == (
        b"openai-insecure-api-key.redacted:" + REDACTOR.fingerprint(b"short")
    )
    assert one("sec-websocket-protocol", b"openai-insecure-api-key.") == b"openai-insecure-api-key."


@pytest.mark.parametrize("name", IDENTITY)
def test_identity_and_ordinary_headers_are_kept(name: str) -> None:
    assert one(name, b"value-of-24-characters-ab") == b"value-of-24-characters-ab"


def test_a_key_in_a_header_of_any_name() -> None:
    assert one("x-custom", b"key=" + KEY + b";") == b"key=" + MARK + b";"
    assert one("x-assertion", b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl").startswith(b"redacted:")


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "cookie", "location", "x-other"])
def test_empty_values_stay_empty(name: str) -> None:
    assert one(name, b"") == b""


def test_a_scheme_without_a_secret_is_none() -> None:
    assert one("authorization", b"Bearer") == b"Bearer"
    assert REDACTOR.credential([(b"Authorization", b"Bearer"), (b"x-api-key", b"")], b"/?key=") is None


def test_order_case_and_repetition_are_kept() -> None:
    given_headers = [
        (b"B", b"1"),
        (b"a", b""),
        (b"B", b"2"),
        (b"X-API-Key", b"one"),
        (b"x-api-key", b"two"),
        (b"b", b"3"),
    ]
    recorded = REDACTOR.headers(given_headers)
    assert [name for name, _ in recorded] == ["B", "a", "B", "X-API-Key", "x-api-key", "b"]
    assert [value for name, value in recorded if name.lower() in {"a", "b"}] == ["1", "", "2", "3"]
    assert recorded[3][1] != recorded[4][1]


def test_bytes_beyond_ascii_are_kept_as_latin_1() -> None:
    every = bytes(range(0x80, 0x100))
    ((name, value),) = REDACTOR.headers([(b"x-\xe9", every)])
    assert (name.encode("latin-1"), value.encode("latin-1")) == (b"x-\xe9", every)
    assert one("authorization", b"Bearer \xff\x80secret") == b"Bearer redacted:" + REDACTOR.fingerprint(
        b"\xff\x80secret"
    )


def test_configured_names() -> None:
    redactor = Redactor(b"k" * 32, ("X-My-Key", "openai-project"), ("My-Param",))
    assert one("x-my-KEY", b"short", redactor) == b"redacted:" + redactor.fingerprint(b"short")
    assert one("OpenAI-Project", b"proj_1", redactor).startswith(b"redacted:")
    assert (
        redactor.target(b"/?my-param=short&x=1") == b"/?my-param=redacted:" + redactor.fingerprint(b"short") + b"&x=1"
    )
    assert redactor.credential([], b"/?my-param=short") == redactor.fingerprint(b"short").decode()


WHERE = {
    "bearer": ([(b"Authorization", b"Bearer " + KEY)], b"/"),
    "bare": ([(b"authorization", KEY)], b"/"),
    "x-api-key": ([(b"X-Api-Key", KEY)], b"/"),
    "api-key": ([(b"api-key", KEY)], b"/"),
    "x-goog-api-key": ([(b"x-goog-api-key", KEY)], b"/"),
    "azure": ([(b"Ocp-Apim-Subscription-Key", KEY)], b"/"),
    "query": ([(b"authorization", b"")], b"/x?alt=sse&key=" + KEY),
    "encoded": ([], b"/x?key=" + quote(KEY, safe="").replace("-", "%2D").encode()),
}


@pytest.mark.parametrize(("headers", "target"), WHERE.values(), ids=WHERE)
def test_one_key_has_one_fingerprint_wherever_it_stands(headers: list[tuple[bytes, bytes]], target: bytes) -> None:
    expected = REDACTOR.fingerprint(KEY)
    assert REDACTOR.credential(headers, target) == expected.decode()
    recorded = "\n".join(value for _, value in REDACTOR.headers(headers)).encode() + REDACTOR.target(target)
    assert fingerprints(recorded) == {expected}


def test_which_credential_is_billed() -> None:
    headers = [(b"x-api-key", b"second"), (b"Authorization", b"Bearer first"), (b"Authorization", b"Bearer third")]
    assert REDACTOR.credential(headers, b"/?key=fourth") == REDACTOR.fingerprint(b"first").decode()
    assert REDACTOR.credential(headers[:1], b"/?key=fourth") == REDACTOR.fingerprint(b"second").decode()
    assert REDACTOR.credential([(b"cookie", b"a=b")], b"/x?alt=sse") is None


def test_fingerprints() -> None:
    assert re.fullmatch(rb"[0-9a-f]{16}", REDACTOR.fingerprint(KEY))
    assert REDACTOR.fingerprint(KEY) != REDACTOR.fingerprint(KEY + b"x")
    assert REDACTOR.fingerprint(KEY) != Redactor(b"j" * 32).fingerprint(KEY), "without the key none can be guessed"
    before = REDACTOR.fingerprint(KEY)
    for number in range(3000):
        REDACTOR.fingerprint(b"%d" % number)
    assert len(REDACTOR._known) <= 1024, "who sends ever new keys must not fill the memory"
    assert REDACTOR.fingerprint(KEY) == before


def test_other_text() -> None:
    assert REDACTOR.text("search") == "search"
    assert REDACTOR.text(f"é key {KEY.decode()}") == f"é key {MARK.decode()}"


secrets = st.text(
    alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+/=", min_size=12, max_size=80
)
header_names = st.sampled_from(sorted(name.decode() for name in SECRET_HEADERS)).flatmap(
    lambda name: st.sampled_from([name, name.title(), name.upper()])
)
schemes = st.sampled_from(["", "Bearer ", "Token ", "Basic ", "Custom "])
noise = st.lists(
    st.tuples(st.sampled_from(["Accept", "X-Trace", "accept"]), st.text("abc,;= ", max_size=9)), max_size=4
)


@given(secrets, header_names, schemes, noise, noise)
def test_no_secret_in_a_secret_header_survives(
    secret: str, name: str, scheme: str, before: list[tuple[str, str]], behind: list[tuple[str, str]]
) -> None:
    headers = [*before, (name, scheme + secret), *behind]
    recorded = REDACTOR.headers([(key.encode(), value.encode()) for key, value in headers])
    assert secret not in repr(recorded)
    assert [key for key, _ in recorded] == [key for key, _ in headers]


@given(
    secrets,
    st.sampled_from(sorted(name.decode() for name in SECRET_QUERY)),
    st.sampled_from(["/v1/x", "https://host.example/a", "", "//h/x"]),
    st.booleans(),
    st.sampled_from(["", "a=1&", "&&", "key=&"]),
    st.sampled_from(["", "&b=2", "&", "#frag"]),
)
def test_no_secret_in_a_secret_parameter_survives(
    secret: str, name: str, path: str, encoded: bool, before: str, behind: str
) -> None:
    value = quote(secret, safe="") if encoded else secret
    target = f"{path}?{before}{name}={value}{behind}".encode()
    for recorded in (REDACTOR.target(target), one("location", target)):
        assert secret.encode() not in recorded
        assert value.encode() not in recorded


@given(secrets)
def test_no_secret_in_a_subprotocol_survives(secret: str) -> None:
    token = secret.replace("/", "").replace("=", "")
    recorded = one("Sec-WebSocket-Protocol", f"realtime,openai-insecure-api-key.{token} , x".encode())
    assert token.encode() not in recorded
    assert recorded.startswith(b"realtime,openai-insecure-api-key.redacted:")


@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=8), st.binary(max_size=80))
def test_any_bytes_are_taken(headers: list[tuple[bytes, bytes]], target: bytes) -> None:
    assert len(REDACTOR.headers(headers)) == len(headers)
    REDACTOR.target(target)
    REDACTOR.credential(headers, target)
