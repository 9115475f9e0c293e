"""ACLs as bytes, judged by the kernel: what it shows of them, and whom it lets in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hubd.store import acl
from hubd.store.disk import Disk
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def lists(uid: int, path: str) -> bool:
    def attempt() -> bool:
        try:
            return os.listdir(path) == []
        except PermissionError:
            return False

    return as_user(uid, attempt)


@needs_root
def test_the_named_users_may_enter_and_nobody_else() -> None:
    with directory_of(ALICE) as directory:
        Disk().let_in(directory, {BOB, 54309})
        assert mode(directory) == 0o750  # the mask stands where the group's rights stood
        assert [lists(uid, directory) for uid in (ALICE, BOB, 54309, 54310)] == [True, True, True, False]
        assert acl.readers_of(directory) == frozenset({BOB, 54309})


@pytest.mark.parametrize(("readers", "as_mode"), [(None, 0o755), (frozenset(), 0o700)], ids=["everyone", "nobody"])
def test_what_a_mode_can_say_leaves_no_acl_behind(tmp_path: Path, readers: frozenset[int] | None, as_mode: int) -> None:
    Disk().let_in(str(tmp_path), {BOB})
    Disk().let_in(str(tmp_path), readers)
    assert mode(str(tmp_path)) == as_mode
    assert acl.ATTRIBUTE not in os.listxattr(tmp_path)
    assert acl.readers_of(str(tmp_path)) == readers


def test_the_bytes_are_those_of_the_kernels_header() -> None:
    assert acl.encode({0x01020304}).hex(" ", 4) == (
        "02000000 01000700 ffffffff 02000500 04030201 04000000 ffffffff 10000500 ffffffff 20000000 ffffffff"
    )


def test_an_acl_of_somebody_elses_making_lets_in_nobody_knows_whom(tmp_path: Path) -> None:
    writers = acl.encode({BOB}).replace(b"\x02\x00\x05\x00", b"\x02\x00\x07\x00")
    os.setxattr(tmp_path, acl.ATTRIBUTE, writers)
    assert acl.readers_of(str(tmp_path)) is None


def test_a_file_system_without_acls_is_known_as_such(tmp_path: Path) -> None:
    assert acl.is_known_to(str(tmp_path))
    assert not acl.is_known_to("/proc")
