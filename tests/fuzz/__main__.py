"""`make fuzz ARGS="response -max_total_time=60"`: the name of a parser, and what libFuzzer takes.

Needs atheris, which is not among the locked packages: `.venv/bin/pip install atheris`.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> int:
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.stderr.write("fuzz: atheris is not installed: .venv/bin/pip install atheris\n")
        return 2
    with atheris.instrument_imports(include=["proxy.wire", "tests.fuzz"]):
        parsers: Any = importlib.import_module("tests.fuzz.parsers")
    name, options = "".join(sys.argv[1:2]), sys.argv[2:]
    if name not in parsers.PARSERS:
        sys.stderr.write(f"fuzz: name one of {', '.join(parsers.PARSERS)}, then libFuzzer's options\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="wiretape-fuzz-") as corpus:
        for number, seed in enumerate(parsers.SEEDS[name]):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], parsers.PARSERS[name])
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
