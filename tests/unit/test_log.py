"""The log: one line per event, nothing that a terminal obeys, no traceback and no exception's own words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.log import place, safe, set_up

OTHERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "alembic", "httpx2", "httpcore2")
SECRET = "sk-proj-THIS-MUST-NOT-BE-LOGGED"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, OTHERS))}
    yield
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)


def fail() -> None:
    raise ValueError(SECRET)


@given(st.text())
def test_safe_text_holds_no_control_character(text: str) -> None:
    made = safe(text)
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in made)
    if made == text:
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, ünïcode 🎈", "plain, ünïcode 🎈"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("two\nlines\r\t", "two\\x0alines\\x0d\\x09"),
        ("C1 \x9b31m \x85 \x7f", "C1 \\x9b31m \\x85 \\x7f"),
        ("", ""),
    ],
)
def test_safe(text: str, expected: str) -> None:
    assert safe(text) == expected


def test_one_line_with_time_level_and_role(capsys: pytest.CaptureFixture[str]) -> None:
    role = set_up("forward")
    role.warning("disk %s\nfull\x1b[2J", "nearly")
    text = capsys.readouterr().err
    assert text.endswith(" warning forward: disk nearly\\x0afull\\x1b[2J\n")
    assert text.count("\n") == 1
    assert text[4] == text[7] == "-"


def test_an_exception_is_named_by_type_and_place_alone(capsys: pytest.CaptureFixture[str]) -> None:
    role = set_up("forward")
    try:
        try:
            fail()
        except ValueError as inner:
            raise RuntimeError(SECRET) from inner
    except RuntimeError:
        role.exception("it broke\n")
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert SECRET not in text
    assert text.count("\n") == 1
    assert "error forward: it broke (RuntimeError at test_log.py:" in text


def test_stack_and_exception_text_that_others_ask_for_stay_out(capsys: pytest.CaptureFixture[str]) -> None:
    role = set_up("forward")
    error = ValueError(SECRET)
    role.error("odd", exc_info=error, stack_info=True)
    role.error("none", exc_info=(None, None, None))
    text = capsys.readouterr().err
    assert text.splitlines()[0].endswith("odd (ValueError)")
    assert text.splitlines()[1].endswith("none")
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_callback_that_fails_is_logged_without_its_words(
    capsys: pytest.CaptureFixture[str], factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    set_up("forward")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    text = capsys.readouterr().err
    assert "ValueError at test_log.py:" in text
    assert SECRET not in text
    assert text.count("\n") == 1


def test_others_speak_only_of_errors(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("forward")
    for name in OTHERS:
        logging.getLogger(name).warning("noise")
    logging.getLogger("asyncio").error("loud")
    assert capsys.readouterr().err.splitlines()[0].endswith("error asyncio: loud")


def test_setting_up_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("forward")
    set_up("ingest").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_place_of_an_exception_that_was_never_raised() -> None:
    assert place(KeyError(SECRET)) == "KeyError"
