"""Run parts of a test as unprivileged users: everything else runs as root in many containers, which hides mistakes."""

from __future__ import annotations

import codecs
import os
import pickle
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest

ALICE = 54301
BOB = 54302

# Loaded on first use otherwise, and the interpreter's own files may lie where these users cannot read them.
codecs.lookup("ascii")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")

_FORKING = threading.Lock()

T = TypeVar("T")


def as_user(uid: int, action: Callable[[], T], groups: Sequence[int] = ()) -> T:
    """What the action returns (or raises) in a forked child that has become this user for good."""
    with _forked(uid, action, stays=False, groups=groups) as result:
        return result


@contextmanager
def staying(uid: int, action: Callable[[], T]) -> Iterator[T]:
    """The same, but the child stays, with all that it has opened, until the block ends."""
    with _forked(uid, action, stays=True) as result:
        yield result


@contextmanager
def _forked(uid: int, action: Callable[[], T], *, stays: bool, groups: Sequence[int] = ()) -> Iterator[T]:
    # One at a time: a child that another thread forks meanwhile would keep the writing end open, and this one waiting.
    with _FORKING:
        result_reader, result_writer = os.pipe()
        stay_reader, stay_writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(result_reader)
            os.close(stay_writer)
            if not stays:
                os.close(stay_reader)
                stay_reader = -1
            _be(uid, groups, action, result_writer, stay_reader)
        os.close(result_writer)
        os.close(stay_reader)
    try:
        with os.fdopen(result_reader, "rb") as pipe:
            data = pipe.read()
        if not data:
            raise RuntimeError(f"the child of uid {uid} died")
        result, failure = pickle.loads(data)
        if failure is not None:
            raise failure
        yield result
    finally:
        os.close(stay_writer)
        os.waitpid(child, 0)


def _be(uid: int, groups: Sequence[int], action: Callable[[], T], result_writer: int, stay_reader: int) -> None:
    try:
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            result = action()
            data = pickle.dumps((result, None))
        except BaseException as error:
            error.add_note(f"in a child of uid {uid}:\n{traceback.format_exc()}")
            data = pickle.dumps((None, error))
        with os.fdopen(result_writer, "wb") as pipe:
            pipe.write(data)
        if stay_reader >= 0:
            os.read(stay_reader, 1)
    finally:
        os._exit(0)


@contextmanager
def directory_of(uid: int) -> Iterator[str]:
    """A new directory of this user's that everyone may enter, below the system's temporary directory.

    pytest's own `tmp_path` lies below directories that only the user of the test run may enter.
    """
    outer = tempfile.mkdtemp(prefix="hubd-test-")
    try:
        os.chmod(outer, 0o755)
        inner = f"{outer}/u{uid}"
        os.mkdir(inner)
        os.chmod(inner, 0o755)
        os.chown(inner, uid, uid)
        yield inner
    finally:
        shutil.rmtree(outer)
