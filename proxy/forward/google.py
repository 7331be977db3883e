"""Access tokens for Google's APIs (Vertex), by the credentials of this machine: a service account's key file, or what
Google's own tools find. Loaded only where an upstream asks for it: google-auth is an extra. Must not know sockets.
"""

from __future__ import annotations

import warnings
from http import HTTPStatus
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import TokenState
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from proxy.errors import UsageError
from proxy.forward.held import GOOGLE_QUERY
from proxy.forward.signer import NoCredentials, Signable, State, said
from proxy.wire.interface import RawHeaders, UpstreamResponse

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_STATES = {TokenState.FRESH: State.FRESH, TokenState.STALE: State.STALE, TokenState.INVALID: State.NONE}
_QUOTA = b"x-goog-user-project"
_OF_CLOCKS = "timeframe"  # Google's word for a token that was made in the future, or long ago


class GoogleSource:
    """A signer.Source. `file` is one that Google made; without it what its own tools would use."""

    whole = False
    query = GOOGLE_QUERY

    def __init__(self, file: Path | None) -> None:
        """Raises UsageError that begins with the name of the key that is wrong."""
        # They are about credentials that somebody else gave: these the user names himself.
        warnings.filterwarnings("ignore", module=r"google\.auth")
        self.label = "Google's credentials" + (f" of {file.name}" if file else "")
        self._file = file
        self._credentials: Any = None
        self._refused = False
        if file is not None:
            self._credentials = _load(file)
        whose = getattr(self._credentials, "service_account_email", None) or file or "default"
        self.account = f"google:{whose}"

    def state(self) -> State:
        """See Source."""
        if self._credentials is None or self._refused:
            return State.NONE
        return _STATES[self._credentials.token_state]

    def fetch(self) -> None:
        """See Source."""
        try:
            found = self._credentials
            if found is None:
                found, _ = google.auth.default(scopes=_SCOPES)
            found.refresh(Request())
            self._credentials, self._refused = found, False
        except (GoogleAuthError, OSError, ValueError) as error:
            text = said(error.args[0] if error.args else error)
            if _OF_CLOCKS in text:
                text += "; this machine's clock is wrong, set it"
            raise NoCredentials(f"{self.label} could not be had: {text}") from None

    def headers(self, request: Signable) -> RawHeaders:
        """See Source."""
        made = [(b"Authorization", b"Bearer " + self._credentials.token.encode())]
        quota = self._credentials.quota_project_id
        if quota and not any(name.lower() == _QUOTA for name, _ in request.headers):
            made.append((_QUOTA, quota.encode()))
        return made

    def forget(self) -> None:
        """See Source."""
        self._refused = True

    def refusal(self, response: UpstreamResponse) -> tuple[str, bool] | None:
        """See Source."""
        if response.status == HTTPStatus.UNAUTHORIZED:
            return "gave a token that was refused (401): it was revoked, or is for others; the next one is new", True
        if response.status == HTTPStatus.FORBIDDEN:
            return "may not do what was asked (403): Google refused it, not wiretape", False
        return None


def _load(file: Path) -> Any:
    try:
        load: Any = google.auth.load_credentials_from_file  # it has no types
        found, _ = load(str(file), scopes=_SCOPES)
    except (GoogleAuthError, OSError, ValueError) as error:
        # Its text may quote the file.
        raise UsageError(f"google_file: {file} is no file of Google credentials ({type(error).__name__})") from None
    return found
