"""The daemon takes short turns of the CPU, and its children the usual ones."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hubd.unpacking.kernel import take_turns
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

GETATTR = {"x86_64": 315, "aarch64": 275}.get(os.uname().machine)
SHORT_SECONDS = 0.0001


def turn_ns(tid: int = 0) -> int:
    """What the kernel says of a thread (sched_getattr(2)); 0 where it does not tell."""
    attributes = ctypes.create_string_buffer(48)
    if GETATTR is None or ctypes.CDLL(None).syscall(ctypes.c_long(GETATTR), tid, attributes, 48, 0) != 0:
        return 0
    return int(struct.unpack("=IIQiIQQQ", attributes.raw)[5])


needs_turns = pytest.mark.skipif(turn_ns() == 0, reason="this kernel does not tell how long turns are")


@needs_turns
def test_turns_are_as_long_as_they_are_to_be_and_usual_again() -> None:
    seen: list[int] = []

    def work() -> None:
        usual = turn_ns()
        take_turns(SHORT_SECONDS)
        seen.append(turn_ns())
        take_turns(None)
        seen.append(turn_ns() - usual)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [100_000, 0]


def test_a_niceness_stays() -> None:
    code = "import os; from hubd.unpacking.kernel import take_turns; os.nice(7); take_turns(0.001); print(os.nice(0))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"7\n"


@needs_turns
def test_the_daemons_are_short_and_those_of_a_child_that_unpacks_are_not(tmp_path: Path, origin: Origin) -> None:
    packed = archive()
    slow = Answer(packed, gate_after_bytes=len(packed) // 2)
    handle = origin.serve("/m/1", slow)
    with Daemon(tmp_path) as daemon, daemon.events(handle) as events:
        assert turn_ns(daemon.pid) == 100_000
        usual = turn_ns()
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")
        while next(events)["event"] != "resolved":
            if children.read_text() and not slow.gate.is_set():
                wait_until(lambda: {turn_ns(int(child)) for child in children.read_text().split()} == {usual})
                slow.gate.set()
        assert slow.gate.is_set()
