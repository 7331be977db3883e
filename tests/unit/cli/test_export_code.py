"""`export curl` and `export python`: which request, to which address, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.cli.conftest import Command, tame

Ids = dict[str, UUID]


def test_curl_to_the_provider(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "curl", ids["stream"])
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0] == "curl https://api.openai.com/chat/completions \\"
    assert "  -H 'X-Twice: a' \\" in ran.lines
    assert "Host" not in ran.text
    assert ran.lines[-1] == """  --data-binary '{"model":"m"}'"""


def test_python_to_the_provider(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "python", ids["stream"])
    assert (ran.code, ran.err) == (0, "")
    assert "url = 'https://api.openai.com/chat/completions'" in ran.lines
    compile(ran.text, "script", "exec")


@pytest.mark.parametrize("form", ["curl", "python"])
def test_through_the_data_port(wiretape: Command, ids: Ids, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRETAPE_FORWARD__PORT", "9001")
    assert "http://127.0.0.1:9001/v1/chat/completions" in wiretape("export", form, ids["stream"], "--through").text


@pytest.mark.parametrize("form", ["curl", "python"])
def test_what_is_refused(wiretape: Command, ids: Ids, form: str) -> None:
    for name, flags, said in (
        ("bodiless", (), "not recorded"),
        ("hostile", (), "--upstream NAME=URL"),
        ("hostile", ("--upstream", "evil=http://127.0.0.1:1"), "cannot be sent again"),
        ("stream", ("--upstream", "openai=demo:"), "--through"),
    ):
        ran = wiretape("export", form, ids[name], *flags)
        assert ran.code in (1, 2)
        assert ran.out == b""
        assert said in ran.err
        assert tame(ran.err)


def test_another_address_and_a_file_of_ones_own(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "request.sh"
    ran = wiretape("export", "curl", "last", "--upstream", "openai=http://10.0.0.1/v9", "--output", file)
    assert (ran.code, ran.out) == (0, b"")
    assert "still running" in ran.err
    assert file.read_text().startswith("curl http://10.0.0.1/v9/chat/completions")
    assert file.stat().st_mode & 0o777 == 0o600
