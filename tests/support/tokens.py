"""A giver of Google's access tokens: it wants a service account's assertion, signed with the account's key, made just
now (RFC 7523)."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.rawhttp import DEADLINE, Ended, Message, Peer

EMAIL = "recorder@synthetic.iam.gserviceaccount.com"


@dataclass
class Tokens:
    """A script for RawUpstream. Tokens hold for `lasting` seconds. `ahead`: seconds that its clock is ahead of ours.
    It answers when `open`, and tells by `asked` that somebody waits."""

    lasting: int = 3600
    ahead: float = 0.0
    refusal: str = ""
    open: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    given: list[str] = field(default_factory=list)

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                message = peer.read_message()
                self.asked.set()
                assert self.open.wait(DEADLINE)
                status, body = self._answer(message)
                text = json.dumps(body).encode()
                head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                peer.send(head % (status, len(text)) + text)
        except Ended:
            return

    def _answer(self, message: Message) -> tuple[int, dict[str, object]]:
        asked = parse_qs(message.body.decode())
        header, claims, sealed = asked["assertion"][0].split(".")
        said = json.loads(_plain(claims))
        problem = self.refusal
        try:
            self.key.public_key().verify(
                _plain(sealed), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            problem = "Invalid JWT Signature."
        now = time.time() + self.ahead
        if not said["iat"] - 300 < now < said["exp"]:
            problem = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your "
                "iat and exp values in the JWT claim."
            )
        if problem:
            return 400, {"error": "invalid_grant", "error_description": problem}
        assert said["iss"] == EMAIL
        assert said["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        self.given.append(f"ya29.synthetic-{len(self.given)}-{'x' * 40}")
        return 200, {"access_token": self.given[-1], "expires_in": self.lasting, "token_type": "Bearer"}

    def account(self, folder: Path, url: str, key: rsa.RSAPrivateKey | None = None) -> Path:
        """The file of a service account whose tokens are given at `url`."""
        private = (key or self.key).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / "account.json"
        facts = {
            "type": "service_account",
            "project_id": "synthetic",
            "private_key_id": "1",
            "private_key": private.decode(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"{url}/token",
        }
        path.write_text(json.dumps(facts))
        return path


def _plain(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
