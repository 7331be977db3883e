"""The margin: times, marks, lines that are full."""

from __future__ import annotations

import pytest

from proxy.cli import render
from proxy.cli.margin import Margin
from proxy.interpret.spoken import Piece


def printed(capsys: pytest.CaptureFixture[str], *pieces: Piece) -> list[str]:
    margin = Margin()
    for piece in pieces:
        margin.write(piece)
    margin.close()
    out = capsys.readouterr().out
    assert out == "" or out.endswith("\n")
    return out.splitlines()


def test_pieces_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = Piece(350_000, "text", "Once"), Piece(400_000, "text", " upon\n\na"), Piece(1_500_000, "text", " time\n")
    assert printed(capsys, *pieces) == ["    0.350 s | Once upon", "", "    0.400 s | a time"]


def test_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = (
        Piece(1, "reasoning", "hm"),
        Piece(2_000, "text", "yes"),
        Piece(3_000, "call", "get {}"),
        Piece(4_000, "error", "overloaded"),
    )
    assert [line[12:] for line in printed(capsys, *pieces)] == [": hm", "| yes", "> get {}", "! overloaded"]


@pytest.mark.parametrize("letter", ["a", "世", "🙂"])
def test_a_full_line_goes_on_in_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    monkeypatch.setattr(render, "width", lambda: 41)
    lines = printed(capsys, Piece(0, "text", letter * 70), Piece(9_000_000, "text", letter * 10))
    assert "".join(line[14:] for line in lines) == letter * 80
    room = 27 if letter == "a" else 13
    assert [len(line[14:]) for line in lines] == [room] * (80 // room) + ([80 % room] if 80 % room else [])
    assert lines[-1].startswith("    9.000 s") == (letter != "a"), "the time of the first that is in a line"


def test_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, Piece(0, "text", "")) == []
