"""Requests to AWS, signed (SigV4) with the credentials of this machine: environment, profiles, roles, as AWS's own
tools find them. Loaded only where an upstream asks for it: botocore is an extra, and takes a while. Must not know
sockets.

AWS signs Host and path: what a client signed for us means nothing to it.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote

from botocore.auth import SigV4Auth  # type: ignore[import-untyped]  # it ships no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # as above
from botocore.credentials import RefreshableCredentials  # type: ignore[import-untyped]  # as above
from botocore.exceptions import (  # type: ignore[import-untyped]  # as above
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
)
from botocore.session import Session  # type: ignore[import-untyped]  # as above

from proxy.errors import UsageError
from proxy.forward.signer import NoCredentials, Signable, State, said
from proxy.wire.interface import RawHeaders, UpstreamResponse

_NEARLY_OVER = 60  # seconds before their end from which on credentials are not used
_SKEW = 240  # seconds that clocks may differ; AWS itself allows 300
_ENDPOINT = re.compile(r"(?:.+\.)?([a-z0-9-]+?)(?:-fips)?\.([a-z]{2,4}(?:-[a-z]+)+-[0-9]+)\.(?:vpce\.)?[a-z.]+")
# Names that AWS signs under another name than that in their addresses.
_SIGNED_AS_BEDROCK = frozenset(
    f"bedrock{more}" for more in ("", "-runtime", "-agent", "-agent-runtime", "-data-automation-runtime")
)
_SIGNED = (b"host", b"content-type")  # and x-amz-*: what is not signed may be changed on the way
_EXPIRED = frozenset(("ExpiredToken", "ExpiredTokenException"))
_UNKNOWN = frozenset(("InvalidClientTokenId", "UnrecognizedClientException"))
_MISSIGNED = frozenset(("InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"))
_NOT_SIGNED = ("Signature expired", "Signature not yet current")


class Endpoint(NamedTuple):
    """What AWS wants to know in a signature."""

    service: str
    region: str


def endpoint(host: str) -> Endpoint | None:
    """What the host of an AWS endpoint says: `bedrock-runtime.us-east-1.amazonaws.com`, those of FIPS, VPCs, `api.aws`;
    None for another."""
    found = _ENDPOINT.fullmatch(host)
    if found is None:
        return None
    return Endpoint("bedrock" if found[1] in _SIGNED_AS_BEDROCK else found[1], found[2])


class AwsSource:
    """A signer.Source. `region` and `service` are taken from the host where they are None."""

    whole = True
    query: frozenset[bytes] = frozenset()

    def __init__(self, host: str, profile: str | None, region: str | None, service: str | None) -> None:
        """Raises UsageError that begins with the name of the key that is wrong."""
        self._profile = profile
        self.account = f"aws:{profile or 'default'}"
        self.label = "the AWS credentials" + (f" of the profile {profile}" if profile else "")
        self._credentials: Any = None
        self._frozen: Any = None
        self._refused = False
        self._anew = False  # what is had next comes from where they come from
        known = endpoint(host)
        try:
            session = self._session()
            region = region or (known and known.region) or session.get_config_variable("region")
            session.get_scoped_config()  # which only then looks for the profile
        except BotoCoreError as error:
            raise UsageError(f"aws_profile: {said(error)}") from None
        if not region:
            raise UsageError("aws_region must be set: neither the url nor AWS's own configuration names a region")
        self._where = Endpoint(service or (known.service if known else "bedrock"), region)

    def state(self) -> State:
        """See Source."""
        if self._frozen is None or self._refused:
            return State.NONE
        if isinstance(self._credentials, RefreshableCredentials):
            if self._credentials.refresh_needed(refresh_in=_NEARLY_OVER):
                return State.NONE
            if self._credentials.refresh_needed():
                return State.STALE
        return State.FRESH

    def fetch(self) -> None:
        """See Source."""
        try:
            known, self._anew = None if self._anew else self._credentials, False
            credentials = known or self._session().get_credentials()
            if credentials is None:
                text = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, aws_profile, or give the machine a role"
                raise NoCredentials(f"{self.label} were not found: {text}")
            self._frozen = credentials.get_frozen_credentials()
            self._credentials, self._refused = credentials, False
        except (BotoCoreError, ClientError, RuntimeError, OSError, ValueError) as error:
            self._anew = True  # the old ones may be good for a while yet: how long is for them to say
            raise NoCredentials(f"{self.label} could not be had: {_reason(error)}") from None

    def headers(self, request: Signable) -> RawHeaders:
        """See Source."""
        path, _, query = request.target.decode("utf-8", "replace").partition("?")
        pairs = [tuple(unquote(part) for part in item.partition("=")[::2]) for item in query.split("&") if item]
        url = f"https://{_host(request.headers)}{path}"
        signed = AWSRequest(request.method.decode(), url, data=request.body, params=pairs)
        for name, value in request.headers:
            lower = name.lower()
            if lower in _SIGNED or lower.startswith(b"x-amz-"):
                signed.headers.add_header(lower.decode(), value.decode("utf-8", "replace"))
        before = set(signed.headers)
        SigV4Auth(self._frozen, *self._where).add_auth(signed)
        return [(name.encode(), value.encode()) for name, value in signed.headers.items() if name not in before]

    def forget(self) -> None:
        """See Source."""
        self._refused = self._anew = True

    def refusal(self, response: UpstreamResponse) -> tuple[str, bool] | None:
        """See Source."""
        if response.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return None
        named = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        code = said(named.get(b"x-amzn-errortype", "").partition(":")[0])
        if code in _EXPIRED:
            return f"have expired ({code}): renew them where they come from; they are read again now", True
        if code in _UNKNOWN:
            return f"are not known to AWS ({code}): the access key is wrong, was deleted, or has no token", True
        if code in _MISSIGNED:
            return self._missigned(code, named.get(b"date", "")), False
        if response.status == HTTPStatus.BAD_REQUEST:
            return None  # about the request
        return f"may not do what was asked ({code or response.status}): AWS refused it, not wiretape", False

    def _missigned(self, code: str, date: str) -> str:
        skew = _skew(date)
        if abs(skew) > _SKEW:
            behind = "behind" if skew > 0 else "ahead of"
            clock = f"this machine's clock is {abs(skew):.0f} s {behind} AWS's"
            return f"signed with a wrong time ({code}): {clock}; set it"
        where = f"region {self._where.region} or service {self._where.service}"
        return f"did not give a signature that AWS takes ({code}): the secret key is wrong, or the {where} is"

    def _session(self) -> Any:
        return Session(profile=self._profile)


def _host(headers: RawHeaders) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == b"host"), "")


def _skew(date: str) -> float:
    """Seconds that this machine's clock is behind that of a response's Date; 0 where that is none."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, CredentialRetrievalError) and error.kwargs.get("provider") == "custom-process":
        return "the credential_process of the profile failed"  # it may have written anything
    text = said(error)
    clock = any(words in text for words in _NOT_SIGNED)
    return f"{text}; this machine's clock is wrong, set it" if clock else text
