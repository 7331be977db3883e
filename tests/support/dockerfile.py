"""Reads a Dockerfile, and carries its steps out without a container engine: an image is a folder then.

Paths of the image become paths of that folder in the text of every step, but for those of the system, which is this
machine's. Knows the instructions that our Dockerfile uses, in the forms it uses; any other one is an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_SYSTEM = ("bin", "dev", "proc", "usr")
_PATH = re.compile(r"(?<![\w./-])/(?!(?:" + "|".join(_SYSTEM) + r")\b)(?=[\w.])")
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")
_VARIABLE = re.compile(r'(\w[\w.]*)=("(?:[^"\\]|\\.)*"|\S+)')


class StepFailed(AssertionError):
    """A RUN that ended with another code than 0; `output` is what it said."""

    def __init__(self, step: str, output: str) -> None:
        super().__init__(f"{step}\n{output}")
        self.output = output


@dataclass
class Stage:
    """One FROM and what follows it. `steps` are instructions with their arguments, as they stand."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """The arguments of the last such instruction, which is the one that holds."""
        return [arguments for name, arguments in self.steps if name == instruction][-1]

    def words(self, instruction: str) -> list[str]:
        """Those of an exec form. Raises ValueError for a shell form."""
        found = self.last(instruction)
        words = json.loads(found[found.index("[") :] if instruction == "HEALTHCHECK" else found)
        assert isinstance(words, list)
        return words

    def pairs(self, instruction: str) -> dict[str, str]:
        """The names and values of all such instructions, ENV or LABEL."""
        text = " ".join(arguments for name, arguments in self.steps if name == instruction)
        return {name: value.strip('"') for name, value in _VARIABLE.findall(text)}


def parse(text: str) -> list[Stage]:
    """The stages, in their order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages.append(Stage(base, name.strip()))
        elif instruction:
            stages[-1].steps.append((instruction, arguments.strip()))
    return stages


class Ignored:
    """What a .dockerignore keeps out of a build: the last pattern that fits a path, or a folder above it, decides."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._patterns = [
            (not line.startswith("!"), _pattern(line.removeprefix("!")))
            for line in lines
            if line and not line.startswith("#")
        ]

    def __contains__(self, path: Path) -> bool:
        """Of a path within the context."""
        out = False
        for keeps_out, pattern in self._patterns:
            if any(pattern.fullmatch(str(each)) for each in (path, *path.parents)):
                out = keeps_out
        return out


def _pattern(text: str) -> re.Pattern[str]:
    """As Docker reads it: `*` is within one name, `**` any number of folders, none too."""
    tokens = re.split(r"(\*\*/|\*|\?|\[[^]]+\])", text.strip("/"))
    known = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(known.get(t, t if t.startswith("[") else re.escape(t)) for t in tokens))


class Builder:
    """Builds in `folder`: its `root` is the root folder of the stage at hand, and of the image in the end.

    Every stage is built at that one place, so that what holds its own path, as an environment of Python does, still
    stands where it was made once it is copied. `python` is the base image's; `variables` are the machine's own.
    """

    def __init__(self, context: Path, folder: Path, python: Path, variables: Mapping[str, str]) -> None:
        self.root = folder / "root"
        self._stages = folder / "stages"
        self._context = context
        self._ignored = Ignored((context / ".dockerignore").read_text())
        tools = folder / "tools"
        tools.mkdir()
        # Not a link: an environment that is made by way of one looks for its library beside it.
        (tools / "python").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        (tools / "python").chmod(0o755)
        self._base = {**variables, "PATH": f"{tools}:{variables['PATH']}"}
        self._variables: dict[str, str] = {}
        self.workdir = self.root

    def build(self, text: str) -> dict[str, str]:
        """The variables of the image, with paths of this machine in them. Raises StepFailed."""
        *before, last = parse(text)
        for stage in before:
            self._carry_out(stage)
            self.root.rename(self._made(stage.name))
        self._carry_out(last)
        return {name: self._variables[name] for name in last.pairs("ENV")}

    def here(self, text: str) -> str:
        """A text with the image's paths as those of this machine."""
        return _PATH.sub(f"{self.root}/", text)

    def _made(self, name: str) -> Path:
        self._stages.mkdir(exist_ok=True)
        return self._stages / name

    def _carry_out(self, stage: Stage) -> None:
        assert re.fullmatch(r"python:3\.\d+-slim", stage.base), "what another base has is not known here"
        (self.root / "tmp").mkdir(parents=True)
        (self.root / "tmp").chmod(0o1777)
        self._variables, self.workdir = dict(self._base), self.root
        known = {"RUN": self._run, "COPY": self._copy, "WORKDIR": self._change, "ENV": self._set}
        told = {"LABEL", "VOLUME", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
        for instruction, arguments in stage.steps:
            assert instruction in known or instruction in told, f"{instruction} is not known here"
            if instruction in known:
                known[instruction](arguments)

    def _run(self, arguments: str) -> None:
        # Who is not root gives nothing away; all is that user's then, also when it runs.
        before = "" if os.geteuid() == 0 else "chown() { :; }; "
        done = subprocess.run(
            ["/bin/sh", "-ec", before + self.here(arguments)],
            cwd=self.workdir,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepFailed(arguments, done.stdout)

    def _change(self, arguments: str) -> None:
        self.workdir = Path(self.here(arguments))
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _set(self, arguments: str) -> None:
        for name, value in _VARIABLE.findall(arguments):
            whole = re.sub(r"\$(\w+)", lambda found: self._variables[found[1]], self.here(value.strip('"')))
            self._variables[name] = whole

    def _copy(self, arguments: str) -> None:
        flags = dict(_FLAG.findall(arguments))
        assert flags.keys() <= {"from"}, "that flag of COPY is not known here"
        *sources, target = _FLAG.sub("", arguments).split()
        there = self.workdir / self.here(target)
        for source in sources:
            if "from" in flags:
                shutil.copytree(self._made(flags["from"]) / source.lstrip("/"), there, symlinks=True)
            else:
                self._take(Path(source), there, into=target.endswith("/"))

    def _take(self, source: Path, there: Path, *, into: bool) -> None:
        """Out of the context: a file into a folder, or what is in a folder into another."""
        whole = self._context / source
        files = [whole] if whole.is_file() else [path for path in whole.rglob("*") if path.is_file()]
        taken = [path for path in files if path.relative_to(self._context) not in self._ignored]
        assert taken, f"COPY finds no {source}: it is not there, or .dockerignore keeps it out"
        for path in taken:
            inside = path.name if whole.is_file() and into else path.relative_to(whole)
            (there / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, there / inside)
