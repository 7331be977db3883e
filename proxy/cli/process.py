"""What every process of a role begins with: the values that it is told become its options, and it runs.

`serve` starts its roles here, as `python -m proxy.cli.process ROLE`, and tells them the values as JSON on standard
input: settings are read once, and a role need not load what reads them, nor the commands: half of what it takes to
start. Must not know settings.
"""

from __future__ import annotations

import gc
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import msgspec

from proxy import log
from proxy.cli.edge import INTERRUPTED, fail
from proxy.errors import UsageError

if TYPE_CHECKING:
    from proxy.forward.destinations import CredentialOptions
    from proxy.forward.signer import Source
    from proxy.store import Engine

T = TypeVar("T")

_OFTEN = gc.get_threshold()  # how often a process that lives long looks for garbage; a command does less so


@dataclass(frozen=True, slots=True)
class Own:
    """What a process has of its own. `lifeline` is a descriptor whose end-of-file means: stop."""

    listener: socket.socket | None = None
    lifeline: int | None = None
    on_serving: Callable[[], None] = lambda: None


def told(values: Mapping[str, object]) -> bytes:
    """The values of a role's options, as its process is told them."""
    return msgspec.json.encode(values, enc_hook=str)  # a path is all that JSON does not know


def run(role: str, values: bytes, own: Own) -> None:
    """Run a role until it is told to stop. Raises what the role raises."""
    gc.set_threshold(*_OFTEN)
    {"forward": _forward, "ingest": _ingest, "console": _console, "playback": _playback}[role](values, own)


@contextmanager
def _loading() -> Iterator[None]:
    """What is loaded is no garbage: looking through it while it comes in took a twelfth of a role's start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _forward(values: bytes, own: Own) -> None:
    with _loading():
        from proxy.forward.run import Options, run

    raise_file_limit()
    options = _options(Options, values, listener=own.listener, lifeline=own.lifeline, on_serving=own.on_serving)
    if any(each.http2 for each in options.upstreams):
        from proxy.wire.http2 import Http2Upstream

        options = replace(options, http2=Http2Upstream)
    if any(each.credentials for each in options.upstreams):
        options = replace(options, sources=_source)
    run(options)


def _source(options: CredentialOptions, host: str) -> Source:
    """Raises UsageError that begins with the name of the key that is wrong."""
    try:
        if options.of == "aws":
            from proxy.forward.aws import AwsSource

            return AwsSource(host, options.aws_profile, options.aws_region, options.aws_service)
        from proxy.forward.google import GoogleSource

        return GoogleSource(options.google_file)
    except ImportError as error:
        missing = f"credentials: {options.of!r} needs {error.name}, which is not installed"
        raise UsageError(f"{missing}: pip install 'wiretape[{options.of}]'") from None


def _ingest(values: bytes, own: Own) -> None:
    with _loading():
        from proxy.ingest.run import IngestOptions, run

    run(_options(IngestOptions, values, upgrade=_upgrade, lifeline=own.lifeline))


def _console(values: bytes, own: Own) -> None:
    with _loading():
        from proxy.console.run import ConsoleOptions, run

    run(_options(ConsoleOptions, values, listener=own.listener, lifeline=own.lifeline, on_serving=own.on_serving))


def _playback(values: bytes, own: Own) -> None:
    with _loading():
        from proxy.replay.run import PlaybackOptions, run

    raise_file_limit()
    run(_options(PlaybackOptions, values, listener=own.listener, lifeline=own.lifeline, on_serving=own.on_serving))


def _options(kind: type[T], values: bytes, **own: object) -> T:
    hints = get_type_hints(kind)
    parts = msgspec.json.decode(values, type=dict[str, msgspec.Raw])
    plain = {name: msgspec.json.decode(part, type=hints[name], dec_hook=_path) for name, part in parts.items()}
    return kind(**plain, **own)


def _path(kind: type, value: Any) -> Any:
    assert kind is Path, f"{kind} is no plain value"
    return Path(value)


def _upgrade(engine: Engine) -> None:
    from proxy.store.migrate import upgrade

    upgrade(engine)


def raise_file_limit() -> None:
    """Let this process open as many files as it may: a stream takes two descriptors, and the usual 1024 are few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a kernel that allows fewer than it says is no reason not to begin
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Be the process of a role: its name, then `--fd` and `--lifeline` with a descriptor each. The exit code."""
    role, *flags = sys.argv[1:]
    fds = {name: int(fd) for name, fd in zip(flags[::2], flags[1::2], strict=True)}
    log.set_up(role)
    try:
        listener = socket.socket(fileno=fds["--fd"]) if "--fd" in fds else None
        run(role, sys.stdin.buffer.read(), Own(listener, fds["--lifeline"]))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the program: whatever is left is told in one sentence
        return fail(error)
    return 0


if __name__ == "__main__":
    code = main()
    gc.freeze()  # or the interpreter would look through all that is loaded, only to end
    sys.exit(code)
