"""`hubctl show --holders`: real processes, found in the real /proc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hubclient.cli.holders import Found, Holder, find_holders, show_holders
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root, staying


@contextmanager
def holding(*paths: Path) -> Iterator[int]:
    """The pid of a process that has these files open."""
    program = "import sys; files = [open(path) for path in sys.argv[1:]]; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "module" / "variables").mkdir(parents=True)
    for name in ("lease", "module/saved_model.pb", "module/variables/variables.index"):
        (tmp_path / name).touch()
    return tmp_path


def found(tree: Path, proc: str = "/proc") -> Found:
    return find_holders(str(tree / "module"), str(tree / "lease"), proc)


def test_holders_of_the_lease_and_of_files_are_found_with_user_and_command(tree: Path) -> None:
    with holding(tree / "lease") as one, holding(tree / "module/variables/variables.index", tree / "lease") as two:
        holders = {holder.pid: holder for holder in found(tree).holders}
    assert holders.keys() == {one, two}
    assert (holders[one].holds, holders[two].holds) == (("lease",), ("lease", "files"))
    assert holders[one].uid == os.getuid()
    assert holders[one].command.startswith(sys.executable)
    assert holders[one].command.endswith(str(tree / "lease"))


def test_a_holder_is_known_by_the_inode_wherever_the_tree_was_moved(tree: Path) -> None:
    with holding(tree / "lease") as pid:
        (tree / "lease").rename(tree / "elsewhere")
        assert [one.pid for one in find_holders(str(tree / "module"), str(tree / "elsewhere")).holders] == [pid]


def test_this_process_is_no_holder(tree: Path) -> None:
    with open(tree / "lease"):
        assert found(tree).holders == []


def test_processes_that_end_meanwhile_are_no_error(tree: Path, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "1" / "fd").mkdir(parents=True)
    (proc / "1" / "fd" / "3").symlink_to(tree / "gone")  # closed between the listing and the look
    (proc / "2").mkdir()  # ended between the listing and the look
    (proc / "3" / "fd").mkdir(parents=True)
    (proc / "3" / "fd" / "3").symlink_to(tree / "lease")  # ended after the look
    assert found(tree, str(proc)) == Found([], 0)


def test_json_says_whether_it_is_the_whole_picture(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with holding(tree / "lease") as pid:
        show_holders(str(tree / "module"), str(tree / "lease"), "h", as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert [(one["pid"], one["holds"]) for one in document["holders"]] == [(pid, ["lease"])]
    assert document["complete"] == (os.geteuid() == 0 and document["hidden"] == 0)


def test_a_command_cannot_steer_the_terminal(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "module" / "a\x1b[2Jb").touch()
    with holding(tree / "module" / "a\x1b[2Jb"):
        show_holders(str(tree / "module"), None, "h", as_json=False)
    assert "\x1b" not in capsys.readouterr().out


@needs_root
def test_another_user_sees_no_more_than_he_may_and_is_told_so() -> None:
    with directory_of(ALICE) as directory:
        lease = Path(directory, "lease")
        lease.touch()

        def hold() -> int:
            os.open(lease, os.O_RDONLY)
            return os.getpid()

        def look() -> tuple[list[Holder], int]:
            return find_holders(directory, str(lease))

        with staying(ALICE, hold) as pid:
            assert [(one.pid, one.uid) for one in look()[0]] == [(pid, ALICE)]
            holders, hidden = as_user(BOB, look)
    assert holders == []
    assert hidden > 0
