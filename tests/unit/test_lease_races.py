"""A new lease against an eviction, in every order of their steps: a path is handed out, or removed, and never both."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hubclient.cache import Cache, Tree
from hubclient.contract import lease
from hubd.store.disk import Disk
from hubd.store.eviction import Evictor
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.trees import Trees
from tests.support.handmade_cache import is_leased
from tests.support.modules import FILES, digest_of, fill, record_of
from tests.support.stepping import Actor, interleavings

HANDLE = "https://example.org/m/1"
DIGEST = digest_of(FILES)
RECORD = record_of(HANDLE)

# Before what each stands still.
HOLDER_POINTS = ("open", "lock", "compare")
EVICTION_POINTS = ("lock", "move away", "release", "remove views", "publish again")

Pause = Callable[[str], None]


class _Stepped:
    """A module of which some functions pause before they are called."""

    def __init__(self, module: Any, points: dict[str, str], pause: Pause) -> None:
        self._module = module
        self._points = points
        self._pause = pause

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name not in self._points:
            return found

        def stepped(*arguments: Any) -> Any:
            self._pause(self._points[name])
            return found(*arguments)

        return stepped


class _Race:
    """A cache with one module, somebody who takes a lease on it, and the daemon that evicts it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, again: bool) -> None:
        self.layout = StoreLayout(str(root))
        root.mkdir()
        for directory in self.layout.directories:
            os.mkdir(directory)
        Path(self.layout.version_file).write_text("1\n")
        race = self

        class SteppedDisk(Disk):
            def fsync(self, fd: int) -> None:
                """Which takes long, and orders nothing here."""

            def fsync_directory(self, path: str) -> None:
                """The same. In ``trees/`` it is what follows the move, before the lock is let go of."""
                if path == race.layout.trees:
                    race._pause("release")

            def rename(self, source: str, target: str) -> None:
                if os.path.dirname(target) == race.layout.trash:
                    race._pause("move away")
                super().rename(source, target)

            def unlink(self, path: str) -> None:
                if path == race.layout.handle_link(RECORD.key):
                    race._pause("remove views")
                super().unlink(path)

        self._disk = SteppedDisk()
        self.trees = Trees(self.layout, self._disk)
        self.records = Records(self.layout, self._disk)
        self.evictor = Evictor(self.trees, self.records)
        self._actors: tuple[Actor[Any], ...] = ()
        self._again = again
        self._publish()
        monkeypatch.setattr(lease, "os", _Stepped(os, {"open": "open", "stat": "compare"}, self._pause))
        monkeypatch.setattr(lease, "fcntl", _Stepped(fcntl, {"fcntl": "lock"}, self._pause))
        self.cache = Cache(self.layout.root, frozenset((os.geteuid(),)))
        self.cache.look("0" * 64)  # whether it is to be trusted is not part of the race
        self.holder: Actor[Tree | None] = Actor(lambda: self.cache.look(RECORD.key), HOLDER_POINTS)
        self.eviction: Actor[bool] = Actor(self._evict, EVICTION_POINTS)
        self._actors = (self.holder, self.eviction)
        for actor in self._actors:
            actor.start()

    def run(self, order: Sequence[bool]) -> tuple[Tree | None, bool]:
        """What the holder holds at the end, and whether the module was evicted."""
        for is_holder in order:
            (self.holder if is_holder else self.eviction).step()
        was_evicted = self.eviction.finish()
        held = self.holder.finish()
        assert (self.eviction.error, self.holder.error) == (None, None)
        assert was_evicted is not None
        return held, was_evicted

    def _pause(self, point: str) -> None:
        for actor in self._actors:
            actor.pause(point)

    def _evict(self) -> bool:
        was_evicted = bool(self.evictor.make_room(lambda: int(os.path.exists(self.layout.tree(DIGEST)))))
        if was_evicted and self._again:
            self._pause("publish again")
            self._actors = (self.holder,)
            self._publish()
        return was_evicted

    def _publish(self) -> None:
        staging = self.trees.stage()
        tree = staging.attempt_tree(1)
        with self.trees.publish(tree, DIGEST, fill(tree, disk=self._disk)):
            self.records.put(RECORD, direct_until=float("inf"))


@pytest.mark.parametrize("again", [False, True], ids=["evicted", "evicted and published again"])
def test_eviction_racing_a_new_lease_never_hands_out_a_removed_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    outcomes = set()
    points = EVICTION_POINTS[: None if again else -1]
    for number, order in enumerate(interleavings(len(HOLDER_POINTS), len(points))):
        with monkeypatch.context() as patched:
            race = _Race(tmp_path / str(number), patched, again=again)
            held, was_evicted = race.run(order)
        if held is not None:
            assert {path: (Path(held.path) / path).read_bytes() for path in FILES} == FILES
            assert is_leased(race.layout, DIGEST)
            held.lease.release()
        # Of the two exactly one has its way, unless the module came back before the holder looked again.
        assert (held is None) == was_evicted or (held is not None and was_evicted and again)
        assert os.path.exists(race.layout.tree(DIGEST)) == (not was_evicted or again)
        outcomes.add((held is not None, was_evicted))
    assert outcomes == {(True, False), (False, True)} | ({(True, True)} if again else set())


def test_the_race_stops_at_every_point_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    race = _Race(tmp_path / "cache", monkeypatch, again=True)
    race.eviction.finish()
    race.holder.finish()
    assert tuple(race.eviction.passed) == EVICTION_POINTS
    assert tuple(race.holder.passed) == HOLDER_POINTS
