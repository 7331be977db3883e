"""An AWS endpoint that takes nothing that is not signed as its documentation says (Signature Version 4), and says as
AWS does why. Written from that documentation, apart from any library that signs."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import quote, unquote_to_bytes

import pytest

from tests.support.rawhttp import Ended, Message, Peer

_AUTHORIZATION = re.compile(
    rb"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<day>[0-9]{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request"
    rb", ?SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let AWS's own library take nothing from whoever runs the test."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("botocore").setLevel(logging.ERROR)


class Refused(Exception):
    """`code` is AWS's own word."""

    def __init__(self, code: str, text: str, status: int = 403) -> None:
        super().__init__(text)
        self.code, self.status = code, status


@dataclass
class Aws:
    """A script for RawUpstream. `secrets` has (secret key, session token or "") by access key; `answer` is what a
    request gets that is in order, a whole response on the wire. `ahead`: seconds that its clock is ahead of ours.
    `expired` are access keys whose tokens have expired. `taken` are the requests that were in order."""

    answer: bytes
    secrets: dict[str, tuple[str, str]]
    region: str = "us-east-1"
    service: str = "bedrock"
    ahead: float = 0.0
    expired: set[str] = field(default_factory=set)
    refuse: Refused | None = None
    taken: list[Message] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                peer.send(self._answer(peer.read_message()))
        except Ended:
            return

    def _answer(self, message: Message) -> bytes:
        try:
            key = self.check(message)
            if self.refuse is not None:
                raise self.refuse
        except Refused as error:
            body = json.dumps({"message": str(error)}).encode()
            head = f"HTTP/1.1 {error.status} Refused\r\nDate: {formatdate(time.time() + self.ahead, usegmt=True)}\r\n"
            head += f"x-amzn-RequestId: 1\r\nx-amzn-ErrorType: {error.code}:http://internal.amazon.com/coral/\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            return head.encode("latin-1") + body
        self.taken.append(message)
        self.keys.append(key)
        return self.answer

    def check(self, message: Message) -> str:
        """The access key of a request that is in order. Raises Refused."""
        given = _AUTHORIZATION.fullmatch(message.one("authorization") or b"")
        if given is None:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        key = given["key"].decode()
        if key not in self.secrets:
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        if key in self.expired:
            raise Refused("ExpiredTokenException", "The security token included in the request is expired")
        secret, token = self.secrets[key]
        if (message.one("x-amz-security-token") or b"").decode() != token:
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        stamp = (message.one("x-amz-date") or b"").decode()
        at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if abs(at - time.time() - self.ahead) > 300:
            raise Refused("InvalidSignatureException", f"Signature expired: {stamp} is now earlier than the clock")
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        if given["day"].decode() != stamp[:8] or given["region"].decode() != self.region:
            raise Refused("InvalidSignatureException", f"Credential should be scoped to a valid region: {scope}")
        names = given["names"].decode().split(";")
        must = {"host", *(name.decode().lower() for name, _ in message.headers if name.lower().startswith(b"x-amz-"))}
        if not must <= set(names):
            raise Refused("InvalidSignatureException", f"not signed: {must - set(names)}")
        if not hmac.compare_digest(signature(message, names, stamp, scope, secret), given["signature"].decode()):
            raise Refused("InvalidSignatureException", "The request signature we calculated does not match")
        return key


def signature(message: Message, names: list[str], stamp: str, scope: str, secret: str) -> str:
    """Of a request as it came."""
    path, _, query = message.target.partition(b"?")
    pairs = [item.partition(b"=")[::2] for item in query.split(b"&")] if query else []
    items = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    canonical = [
        message.method.decode(),
        "/".join(quote(segment, safe="-_.~") for segment in path.decode("latin-1").split("/")),
        "&".join("=".join(item) for item in items),
        *(f"{name}:{_value(message, name)}" for name in names),
        "",
        ";".join(names),
        hashlib.sha256(message.body).hexdigest(),
    ]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()


def _encoded(part: bytes) -> str:
    return quote(unquote_to_bytes(part), safe="-_.~")


def _value(message: Message, name: str) -> str:
    return ",".join(" ".join(value.decode().split()) for value in message.all(name))
