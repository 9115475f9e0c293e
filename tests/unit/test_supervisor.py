"""The unpacking child and who supervises it: the frontier, the clock, and that no child is ever left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.errors import ArchiveCorrupt, ArchiveUnsafe, CacheFull, Internal
from hubd.unpacking.clock import Clock
from hubd.unpacking.supervisor import Unpacker, UnpackReport
from tests.support.archives import END, MODULE, archive, compressed, file, members
from tests.support.unpacking import LIMITS, contents, is_gone, prepare, run, until

FILES = {**MODULE, "variables/big": os.urandom(1_000_000), "variables/other": os.urandom(700_000)}
DATA = archive(FILES)
HALF = len(DATA) // 2


@contextmanager
def child(spool: str, tree: str, **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The child itself, without a supervisor."""
    numbers = (LIMITS.module_bytes, LIMITS.files, LIMITS.depth, LIMITS.path_bytes, LIMITS.memory_bytes, 60)
    command = [sys.executable, "-P", "-m", "hubd.unpacking.child", spool, tree, str(os.getpid()), *map(str, numbers)]
    with subprocess.Popen(command, **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **pipes}) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[bytes]) -> tuple[str, Any]:
    """The next line of the child, other than those that come by the clock."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        ((what, value),) = json.loads(line).items()
        if what != "unpacked":
            return what, value
    raise EOFError


def until_word(process: subprocess.Popen[bytes], word: str) -> list[tuple[str, Any]]:
    """All that the child tells up to this word."""
    seen = [told(process)]
    while seen[-1][0] != word:
        seen.append(told(process))
    return seen


def tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


# The child alone


def test_the_child_unpacks_before_the_end_and_reads_nothing_beyond_the_frontier(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA[:HALF] + b"\xff" * (len(DATA) - HALF))  # beyond is not yet what it will be
    with child(spool, tree) as process:
        assert told(process) == ("idle", 0)
        tell(process, b"room %d\n%d\n" % (LIMITS.module_bytes, HALF))
        seen = until_word(process, "idle")
        assert seen[-1] == ("idle", HALF)
        assert [value[0] for what, value in seen if what == "file"] == list(MODULE)
        Path(spool).write_bytes(DATA)
        tell(process, b"end %d\n" % len(DATA))
        until_word(process, "report")
        assert process.wait() == 0
    assert contents(tmp_path / "tree-1" / "module") == FILES


def test_the_child_takes_the_last_of_several_frontiers_and_lines_in_pieces(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    with child(spool, tree) as process:
        assert told(process) == ("idle", 0)
        tell(process, b"room 1000000\n1\n2\n3")
        while told(process) != ("idle", 2):
            pass
        tell(process, b"00\n")
        while told(process) != ("idle", 300):
            pass


def test_the_child_writes_nothing_that_it_was_given_no_room_for(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    with child(spool, tree) as process:
        tell(process, b"end %d\n" % len(DATA))
        asked = 0
        while (line := told(process))[0] != "report":
            if line[0] != "room":
                continue
            asked += 1
            size_bytes, announced_bytes = line[1]
            files = [path for path in (tmp_path / "tree-1" / "module").rglob("*") if path.is_file()]
            written_bytes = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
            assert written_bytes < size_bytes <= announced_bytes
            tell(process, b"room %d\n" % size_bytes)
        assert asked >= len(FILES)
        assert process.wait() == 0
    assert contents(tmp_path / "tree-1" / "module") == FILES


@pytest.mark.parametrize("frontier", [0, HALF], ids=["at the start", "half-way"])
def test_the_child_ends_when_the_daemon_closes_its_pipe(frontier: int, tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    with child(spool, tree) as process:
        assert process.stdin is not None
        tell(process, b"%d\n" % frontier)
        process.stdin.close()
        assert process.wait(30) == 3


def test_the_child_ends_when_nobody_listens(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    with child(spool, tree) as process:
        assert process.stdout is not None
        assert told(process) == ("idle", 0)
        process.stdout.close()
        tell(process, b"end %d\n" % len(DATA))
        assert process.wait(30) == 3


def test_the_child_dies_with_the_daemon_even_if_its_pipes_stay_open(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    numbers = (LIMITS.module_bytes, LIMITS.files, LIMITS.depth, LIMITS.path_bytes, LIMITS.memory_bytes, 60)
    daemon = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-P', '-m', 'hubd.unpacking.child', *sys.argv[1:3],"
        " str(os.getpid()), *sys.argv[3:]], stdin=0, stdout=1, start_new_session=True)\n"
        "os.write(2, b'%d\\n' % child.pid)\n"
        "child.wait()\n"
    )
    command = [sys.executable, "-c", daemon, spool, tree, *map(str, numbers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        child_fd = os.pidfd_open(int(process.stderr.readline()))
        try:
            assert told(process) == ("idle", 0)  # it has set itself up, and waits
            process.kill()
            assert select.select([child_fd], [], [], 30)[0], "the child lives on"
        finally:
            os.close(child_fd)


def test_a_child_whose_parent_is_gone_already_does_nothing(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    command = [sys.executable, "-P", "-m", "hubd.unpacking.child", spool, tree, "1", *["1000000000"] * 6]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 3
    assert not os.listdir(tree)


# The supervisor


async def feed_slowly(unpacker: Unpacker, size_bytes: int) -> None:
    for frontier in range(0, size_bytes, 1000):
        unpacker.feed(frontier)
        await asyncio.sleep(0)
    unpacker.finish(size_bytes)


async def test_result_and_feed_run_side_by_side(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    async with Unpacker(spool, tree, LIMITS) as unpacker:
        report, _ = await asyncio.gather(unpacker.result(), feed_slowly(unpacker, len(DATA)))
        assert unpacker.unpacked_bytes == report.size_bytes == sum(map(len, FILES.values()))
    assert sorted(file.path for file in report.files) == sorted(FILES)
    assert contents(tmp_path / "tree-1" / "module") == FILES


async def test_a_bad_start_ends_the_run_before_the_archive_is_whole(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, b"<html>" + bytes(200_000))
    async with Unpacker(spool, tree, LIMITS) as unpacker:
        unpacker.feed(100_000)
        with pytest.raises(ArchiveCorrupt, match="HTML"):
            await unpacker.result()
        unpacker.feed(150_000)  # the transfer does not know yet
        unpacker.finish(200_000)


async def test_the_frontier_may_be_there_before_the_child(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    unpacker = Unpacker(spool, tree, LIMITS)
    unpacker.feed(HALF)
    unpacker.finish(len(DATA))
    async with unpacker:
        assert isinstance(await unpacker.result(), UnpackReport)


async def test_a_report_of_very_many_files_comes_through(tmp_path: Path) -> None:
    files = members({f"assets/{number:050}": b"" for number in range(2000)})
    outcome = await run(tmp_path, compressed(members(MODULE) + files + END), dataclasses.replace(LIMITS, files=3000))
    assert outcome.report is not None, outcome.error
    assert len(outcome.report.files) == 2003


async def cancel_at_once(unpacker: Unpacker) -> None:
    pass


async def cancel_when_idle(unpacker: Unpacker) -> None:
    unpacker.feed(HALF)
    await until(lambda: unpacker.is_idle)


async def cancel_in_the_midst(unpacker: Unpacker) -> None:
    unpacker.feed(HALF)
    await until(lambda: bool(unpacker._files))


@pytest.mark.parametrize("reach", [cancel_at_once, cancel_when_idle, cancel_in_the_midst])
async def test_cancelling_kills_and_reaps_the_child(
    reach: Callable[[Unpacker], Awaitable[None]], tmp_path: Path
) -> None:
    spool, tree = prepare(tmp_path, DATA)
    pids = []

    async def work() -> None:
        async with Unpacker(spool, tree, LIMITS) as unpacker:
            pids.append(unpacker.pid)
            started.set_result(unpacker)
            await unpacker.result()

    started: asyncio.Future[Unpacker] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work())
    await reach(await started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pids[0])


async def test_leaving_early_kills_and_reaps_the_child(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    with pytest.raises(ZeroDivisionError):
        async with Unpacker(spool, tree, LIMITS) as unpacker:
            raise ZeroDivisionError
    assert is_gone(unpacker.pid)


async def test_a_child_that_is_killed_is_an_internal_error(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    async with Unpacker(spool, tree, LIMITS) as unpacker:
        os.kill(unpacker.pid, signal.SIGKILL)
        with pytest.raises(Internal, match="status -9"):
            await unpacker.result()
    assert is_gone(unpacker.pid)


async def test_room_is_asked_for_before_it_is_used_and_what_that_raises_ends_the_run(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    asked: list[tuple[int, int]] = []

    async def make_room(size_bytes: int, announced_bytes: int) -> int:
        asked.append((size_bytes, announced_bytes))
        if len(asked) == 3:
            raise CacheFull("no room")
        return size_bytes

    async with Unpacker(spool, tree, LIMITS, make_room) as unpacker:
        unpacker.finish(len(DATA))
        with pytest.raises(CacheFull):
            await unpacker.result()
    assert is_gone(unpacker.pid)
    assert asked == sorted(asked)
    assert all(0 < size_bytes <= announced_bytes for size_bytes, announced_bytes in asked)


async def test_waiting_for_room_takes_no_unpacking_time(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)
    stopped: list[bool] = []

    async def make_room(size_bytes: int, announced_bytes: int) -> int:
        stopped.append(unpacker._clock._timer is None)
        unpacker.feed(len(DATA))  # more to read is no reason to count while the child waits for room
        stopped.append(unpacker._clock._timer is None)
        return size_bytes

    async with Unpacker(spool, tree, LIMITS, make_room) as unpacker:
        unpacker.finish(len(DATA))
        await unpacker.result()
    assert stopped
    assert all(stopped)


async def test_a_child_that_fails_tells_why(tmp_path: Path) -> None:
    async with Unpacker(str(tmp_path / "missing"), str(tmp_path), LIMITS) as unpacker:
        unpacker.finish(1000)
        with pytest.raises(Internal, match=r"status 1 and no report: FileNotFoundError") as caught:
            await unpacker.result()
    assert "Traceback" in caught.value.__notes__[0]


class Subverted(Unpacker):
    """Runs a child that tells what lies in the spool."""

    def _command(self) -> list[str]:
        script = "import os, sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read()); sys.stdout.flush()"
        return [sys.executable, "-c", script, self._archive]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"idle": 0, "unpacked": 1}\n',
        b'{"unknown": 1}\n',
        b'{"unpacked": -1}\n',
        b'{"unpacked": "many"}\n',
        b'{"file": ["../x", 1, "%s"]}\n' % (b"0" * 64),
        b'{"file": ["./x", 1, "%s"]}\n' % (b"0" * 64),
        b'{"file": ["x", -1, "%s"]}\n' % (b"0" * 64),
        b'{"file": ["x", 1, "short"]}\n',
        b'{"file": [1, 2, 3, 4]}\n',
        b'{"report": {}}\n',
        b'{"report": {"format": "x", "meta_graphs": [], "size_bytes": 0, "peak_rss_bytes": 0}}\n',
        b'{"report": {"format": "tf1", "meta_graphs": [1], "size_bytes": 0, "peak_rss_bytes": 0}}\n',
        b'{"report": {"format": "tf1", "meta_graphs": [], "size_bytes": 9, "peak_rss_bytes": 0}}\n',
        b'{"error": {"code": "archive-corrupt", "detail": "x", "peak_rss_bytes": 0}}\n{"idle": 0}\n',
        b'{"idle": 0',
        b"x" * 17_000_000,
        b"[" * 100_000 + b"\n",
    ],
)
async def test_what_a_subverted_child_tells_is_not_believed(line: bytes, tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, line)
    async with Subverted(spool, tree, LIMITS) as unpacker:
        unpacker.finish(len(line))
        with pytest.raises((Internal, ArchiveUnsafe)):
            await unpacker.result()
    assert is_gone(unpacker.pid)


async def test_a_report_before_the_archive_is_whole_is_not_believed(tmp_path: Path) -> None:
    line = b'{"report": {"format": "tf1", "meta_graphs": [], "size_bytes": 0, "peak_rss_bytes": 0}}\n'
    spool, tree = prepare(tmp_path, line)
    async with Subverted(spool, tree, LIMITS) as unpacker:
        with pytest.raises(Internal, match="not whole"):
            await unpacker.result()


async def test_the_child_gets_nothing_of_the_daemons_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    spool, tree = prepare(tmp_path, DATA)
    async with Unpacker(spool, tree, LIMITS) as unpacker:
        listening = asyncio.create_task(unpacker.result())
        unpacker.feed(HALF)
        await until(lambda: unpacker.is_idle)
        environment = Path(f"/proc/{unpacker.pid}/environ").read_bytes()
        limits = Path(f"/proc/{unpacker.pid}/limits").read_text()
        assert os.readlink(f"/proc/{unpacker.pid}/cwd") == "/"
        assert os.getpgid(unpacker.pid) == unpacker.pid, "a Ctrl-C is the daemon's"
        unpacker.finish(len(DATA))
        await listening
    assert b"s3cret" not in environment
    rows = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert rows["Max address space"][0] == str(LIMITS.memory_bytes)
    assert rows["Max file size"][0] == str(LIMITS.module_bytes)
    assert rows["Max core file size"][0] == "0"
    assert rows["Max open files"][0] == "256"
    assert rows["Max cpu time"][0] == "130"


# The clock


class Timers:
    """An event loop's timers, with a time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.delays: list[float] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        self.delays.append(delay)
        return asyncio.TimerHandle(self.now + delay, callback, (), asyncio.get_running_loop())


async def test_the_clock_counts_only_while_it_is_started() -> None:
    timers, over = Timers(), []
    clock = Clock(timers, 10, lambda: over.append(True))
    timers.now += 1000
    clock.start()
    timers.now += 4
    clock.start()  # again: no second timer
    clock.stop()
    timers.now += 1000
    clock.stop()
    clock.start()
    assert timers.delays == [10, 6]
    assert not over


class TravellingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on."""

    skipped_seconds = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_seconds


def on_a_travelling_loop(work: Callable[[TravellingLoop], Awaitable[None]]) -> None:
    loops: list[TravellingLoop] = []

    def make() -> TravellingLoop:
        loops.append(TravellingLoop())
        return loops[0]

    async def main() -> None:
        await work(loops[0])

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


def test_waiting_for_bytes_costs_the_child_no_time(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)

    async def work(loop: TravellingLoop) -> None:
        async with Unpacker(spool, tree, LIMITS) as unpacker:
            listening = asyncio.create_task(unpacker.result())
            loop.skipped_seconds += 10_000  # nothing was fed yet
            await asyncio.sleep(0)
            unpacker.feed(HALF)
            await until(lambda: unpacker.is_idle)
            loop.skipped_seconds += 10_000  # a stalled server
            await asyncio.sleep(0)
            unpacker.finish(len(DATA))
            assert (await listening).size_bytes

    on_a_travelling_loop(work)


def test_a_child_that_takes_too_long_over_its_bytes_is_killed(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, DATA)

    async def work(loop: TravellingLoop) -> None:
        async with Unpacker(spool, tree, LIMITS) as unpacker:
            os.kill(unpacker.pid, signal.SIGSTOP)  # the slowest child of all
            listening = asyncio.create_task(unpacker.result())
            unpacker.feed(HALF)
            await asyncio.sleep(0)
            loop.skipped_seconds += LIMITS.time_seconds + 1
            with pytest.raises(ArchiveUnsafe, match="limit of 60 s"):
                await listening
        assert is_gone(unpacker.pid)

    on_a_travelling_loop(work)


async def test_a_small_rest_is_told_at_the_end(tmp_path: Path) -> None:
    data = compressed(members(MODULE) + file("x") + END)
    spool, tree = prepare(tmp_path, data)
    async with Unpacker(spool, tree, LIMITS) as unpacker:
        listening = asyncio.create_task(unpacker.result())
        for frontier in range(0, len(data), 50):
            unpacker.feed(frontier)
        assert unpacker.is_idle  # it was not woken for each
        unpacker.finish(len(data))
        assert "x" in [file.path for file in (await listening).files]
