"""Status files: who lives is asked of the process table, and nothing that stands in the folder makes reading fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from proxy import status
from proxy.status import STALE_AFTER, Status, StatusFile, forget, read_all


def plant(home: Path, name: str, content: object) -> Path:
    path = home / "status" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
    return path


def frame(**changed: object) -> dict[str, object]:
    born = status._born(os.getpid())
    return {"role": "forward", "pid": os.getpid(), "born": born, "written": time.time(), "facts": {}, **changed}


def test_written_and_read(tmp_path: Path) -> None:
    StatusFile(tmp_path, "ingest").write({"lag_bytes": 0})
    file = StatusFile(tmp_path, "forward")
    file.write({"old": True})
    file.write({"accepted": 3, "worker": "é"})
    one, two = read_all(tmp_path)
    assert (one.role, two.role) == ("forward", "ingest")
    assert (one.pid, one.alive, one.fresh, one.facts) == (os.getpid(), True, True, {"accepted": 3, "worker": "é"})
    assert not list((tmp_path / "status").glob("*.new"))
    file.remove()
    file.remove()
    assert [item.role for item in read_all(tmp_path)] == ["ingest"]


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    StatusFile(tmp_path, "forward").write({})
    assert (tmp_path / "status").stat().st_mode & 0o777 == 0o700


def test_no_folder_no_status(tmp_path: Path) -> None:
    assert read_all(tmp_path) == []


def test_old_but_alive_is_not_fresh(tmp_path: Path) -> None:
    plant(tmp_path, "forward-1.json", frame(written=time.time() - STALE_AFTER - 1))
    (found,) = read_all(tmp_path)
    assert (found.alive, found.fresh) == (True, False)


def test_a_process_that_ended(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from proxy.status import StatusFile; StatusFile(pathlib.Path(sys.argv[1]), 'x').write({})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    (found,) = read_all(tmp_path)
    assert (found.role, found.alive, found.fresh) == ("x", False, False)
    forget(tmp_path, found)
    forget(tmp_path, found)
    assert read_all(tmp_path) == []


def test_a_pid_that_is_anothers_by_now(tmp_path: Path) -> None:
    plant(tmp_path, "forward-1.json", frame(born="1"))
    (found,) = read_all(tmp_path)
    assert found.alive is False


def test_a_dead_process_that_nobody_waited_for_is_not_alive(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        plant(tmp_path, f"forward-{child.pid}.json", frame(pid=child.pid, born=status._born(child.pid)))
        assert read_all(tmp_path)[0].alive is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert read_all(tmp_path)[0].alive is False
    finally:
        child.kill()
        child.communicate()


def test_a_process_whose_name_looks_like_the_end_of_its_name() -> None:
    script = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 1 (', 0, 0, 0); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        born = status._born(child.pid)
        assert born is not None
        assert born.isdigit()
        own = status._born(os.getpid())
        assert own is not None
        assert int(born) >= int(own)
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"role": "forward", "pid": 1',
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"forward-1"',
        b'{"role": "forward"}',
        msgspec.json.encode({**frame(), "pid": "me"}),
        msgspec.json.encode({**frame(), "written": None}),
        msgspec.json.encode({**frame(), "facts": 5}),
        msgspec.json.encode({**frame(), "facts": [1, 2]}),
    ],
    ids=lambda content: content[:24].decode("latin-1"),  # not all of it: there are a pid and a time in it
)
def test_half_written_and_foreign_files_are_passed_over(tmp_path: Path, content: bytes) -> None:
    plant(tmp_path, "forward-1.json", content)
    plant(tmp_path, "forward-2.json", frame())
    plant(tmp_path, "readme.txt", b"not ours")
    (tmp_path / "status" / "a-folder.json").mkdir()
    (found,) = read_all(tmp_path)
    assert found.pid == os.getpid()


def test_writing_does_not_fail_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    StatusFile(tmp_path / "home", "forward").write({})
    assert len(read_all(tmp_path / "home")) == 1
    StatusFile(Path("/proc/nothing/here"), "forward").write({})


def test_a_status_is_judged_when_asked() -> None:
    assert Status("forward", 1, True, time.time()).fresh
    assert not Status("forward", 1, False, time.time()).fresh


def test_a_process_of_another_table_lives_as_long_as_it_speaks(tmp_path: Path) -> None:
    """Each container numbers its processes for itself: the same pid is somebody else's there."""
    StatusFile(tmp_path, "forward").write({})
    (path,) = (tmp_path / "status").iterdir()
    told = msgspec.json.decode(path.read_bytes()) | {"table": "pid:[1]", "born": "1"}
    for written, alive in ((time.time(), True), (time.time() - STALE_AFTER - 1, False)):
        path.write_bytes(msgspec.json.encode(told | {"written": written}))
        (found,) = read_all(tmp_path)
        assert (found.alive, found.fresh) == (alive, alive)
