"""Leases: a tree that anyone holds cannot be taken, and one that nobody holds can."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient.contract.lease import Lease


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "lease").touch()
    return str(tmp_path / "lease")


def _fork(action: Callable[[], None]) -> tuple[int, int]:
    """A child that runs the action, writes a byte to the pipe, and stays until it is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            os.write(writing, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def _kill(child: int, pipe: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pipe)


def test_many_share_and_none_can_take_the_write_side(path: str) -> None:
    with Lease.share(path) as one, Lease.share(path) as other:
        assert one.inode == other.inode
        with pytest.raises(BlockingIOError):
            Lease.exclusive(path)
    Lease.exclusive(path).release()


def test_nobody_shares_what_is_being_removed(path: str) -> None:
    with Lease.exclusive(path):
        with pytest.raises(BlockingIOError):
            Lease.share(path)
        with pytest.raises(BlockingIOError):
            Lease.exclusive(path)
    Lease.share(path).release()


def test_a_lease_ends_with_its_process_however_it_dies(path: str) -> None:
    kept: list[Lease] = []
    child, pipe = _fork(lambda: kept.append(Lease.share(path)))
    assert os.read(pipe, 1) == b"x"
    with pytest.raises(BlockingIOError):
        Lease.exclusive(path)
    _kill(child, pipe)
    Lease.exclusive(path).release()


def test_a_forked_child_keeps_the_lease_that_its_parent_releases(path: str) -> None:
    lease = Lease.share(path)
    child, pipe = _fork(lambda: None)
    assert os.read(pipe, 1) == b"x"
    lease.release()
    with pytest.raises(BlockingIOError):
        Lease.exclusive(path)
    _kill(child, pipe)
    Lease.exclusive(path).release()


def test_a_lease_does_not_pass_on_to_another_program(path: str) -> None:
    with Lease.share(path) as lease:
        assert not os.get_inheritable(lease.fileno())


def test_a_reader_cannot_make_its_lease_a_write_lock(path: str) -> None:
    with Lease.share(path) as lease, pytest.raises(OSError, match="Bad file descriptor") as refusal:
        fcntl.fcntl(lease.fileno(), fcntl.F_OFD_SETLK, _write_lock())
    assert refusal.value.errno == errno.EBADF


def test_closing_another_descriptor_of_the_file_leaves_the_lease(path: str) -> None:
    with Lease.share(path):  # a plain POSIX record lock would end here
        os.close(os.open(path, os.O_RDONLY))
        with pytest.raises(BlockingIOError):
            Lease.exclusive(path)


def test_a_tree_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lease.share(str(tmp_path / "lease"))


def test_a_link_in_the_place_of_a_lease_is_not_followed(path: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        Lease.share(str(tmp_path / "link"))


def a_directory(path: str) -> None:
    os.mkdir(path)


def a_pipe(path: str) -> None:
    os.mkfifo(path)


def a_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)


@pytest.mark.parametrize("other", [a_directory, a_pipe, a_socket])
@pytest.mark.parametrize("take", [Lease.share, Lease.exclusive])
def test_something_else_in_the_place_of_a_lease_is_none_and_nobody_waits_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[[str], None], take: Callable[[str], Lease]
) -> None:
    monkeypatch.chdir(tmp_path)
    other("lease")
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        take(str(tmp_path / "lease"))
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_the_lease_of_the_new_tree_is_taken_when_the_old_one_went_between_open_and_lock(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race that the second look is for: here the replacement strikes exactly there, once."""
    lock, replaced = fcntl.fcntl, False

    def replace_then_lock(fd: int, command: int, argument: bytes) -> int | bytes:
        nonlocal replaced
        if not replaced:
            replaced = True
            os.rename(path, tmp_path / "trash")
            Path(path).touch()
        return lock(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", replace_then_lock)
    with Lease.share(path) as lease:
        assert lease.inode[1] == os.stat(path).st_ino
    assert replaced


def test_a_tree_that_is_replaced_again_and_again_is_given_up(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, rounds = fcntl.fcntl, 0

    def replace_then_lock(fd: int, command: int, argument: bytes) -> int | bytes:
        nonlocal rounds
        rounds += 1
        os.rename(path, tmp_path / f"trash-{rounds}")
        Path(path).touch()
        return lock(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", replace_then_lock)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        Lease.share(path)
    assert rounds == 3
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_releasing_twice_closes_nothing_else(path: str) -> None:
    lease = Lease.share(path)
    descriptor = lease.fileno()
    lease.release()
    other = os.open(path, os.O_RDONLY)
    assert other == descriptor
    lease.release()
    os.fstat(other)
    os.close(other)
    assert not lease.held


def _write_lock() -> bytes:
    from hubclient.contract import lease

    return lease._WRITE_LOCK
