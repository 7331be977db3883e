"""`read` and `refused`: what `load` makes of a file's text, of variables and of flags, far from the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxy.config import Settings, load
from proxy.errors import UsageError

Load = Callable[..., Settings]


@pytest.fixture(name="read")
def _read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load` with a file's text, in an empty folder, as a user whose home folder is another empty one."""
    here, user = tmp_path / "here", tmp_path / "user"
    here.mkdir()
    user.mkdir()
    monkeypatch.chdir(here)

    def read(toml: str | None = None, environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        file = tmp_path / "given.toml"
        if toml is not None:
            file.write_text(toml, encoding="utf-8")
        flags = {key.replace("__", "."): value for key, value in overrides.items()}
        return load(None if toml is None else file, {"HOME": str(user)} | dict(environ or {}), flags)

    return read


@pytest.fixture(name="refused")
def _refused(read: Load) -> Callable[..., str]:
    """The one sentence that `read` ends with."""

    def refused(*args: object, **overrides: object) -> str:
        with pytest.raises(UsageError) as caught:
            read(*args, **overrides)
        text = str(caught.value)
        assert "\n" not in text
        assert caught.value.__cause__ is None, "a cause would show what was refused"
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert not text.endswith("."), text
        return text

    return refused
