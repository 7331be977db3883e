"""Where the command `wiretape` and `python -m proxy` begin, and where every error ends as one sentence."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

import typer

from proxy.cli.app import app
from proxy.cli.edge import INTERRUPTED, complain, fail

COLLECT_AFTER = 50_000
"""Objects more than were let go, before a command looks for garbage. What it loads is none: looking through that, as
often as Python does it of itself, took a fifth of the start. Roles, who live long, look as often as ever."""


def main() -> None:
    """Run the command that the arguments name, and end with its exit code."""
    gc.set_threshold(COLLECT_AFTER)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_quietly()
    gc.freeze()  # or the interpreter would look through all that is loaded, only to end
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command: 0, or 2 for what the user can mend, 1 for the rest, 130 after Ctrl-C."""
    try:
        code = app(list(arguments), prog_name="wiretape", standalone_mode=False)
    except typer.TyperException as error:
        complain(_sentence(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _close_quietly()
        return 1
    except Exception as error:  # noqa: BLE001 - the edge of the program: whatever is left is told in one sentence
        return fail(error)
    return code if isinstance(code, int) else 0


def _sentence(error: typer.TyperException) -> str:
    """What is wrong with the arguments, and where their description is."""
    text = " ".join(error.format_message().split()).rstrip(".").replace(". ", "; ")
    context = getattr(error, "ctx", None)
    called = context.command_path if context is not None else "wiretape"
    return f"{text[:1].lower()}{text[1:]} (see `{called} --help`)"


def _close_quietly() -> None:
    """Let nothing more be written to a pipe that nobody reads: the interpreter would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    main()
