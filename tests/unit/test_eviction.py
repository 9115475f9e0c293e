"""Eviction: the least recently used goes, with all that names it; what is pinned or leased stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubclient.contract.errors import InUse, NotFound
from hubclient.contract.lease import Lease
from hubd.store.adoption import adopt
from hubd.store.budget import Candidate
from hubd.store.eviction import Evictor
from hubd.store.layout import StoreLayout
from hubd.store.ledger import disk_bytes
from hubd.store.partials import Partials
from hubd.store.records import Records
from hubd.store.recovery import mend
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, fill, record_of

UNTIL = 2_000_000_000.0


class Cache:
    """A store of its own with modules in it."""

    def __init__(self, root: str) -> None:
        with adopt(root, socket="/s") as hold:
            self.layout: StoreLayout = hold.layout
        self.reopen()

    def reopen(self) -> None:
        """As after a restart."""
        self.trees, self.records = Trees(self.layout), Records(self.layout)
        mend(self.trees, self.records, lambda record: UNTIL)
        self.partials = Partials(self.layout, self.trees.ledger, 3600.0)
        self.evictor = Evictor(self.trees, self.records, self.partials)

    def add(self, name: str, *, used: float, content: str = "", pinned: bool = False) -> str:
        """The digest of a module that was used at that time; equal `content` is equal content."""
        files = {**FILES, "assets/name": (content or name).ljust(8).encode() * 1000}
        staging = self.trees.stage()
        tree = staging.attempt_tree(1)
        with self.trees.publish(tree, digest_of(files), fill(tree, files)):
            record = record_of(handle(name), files).model_copy(update={"pinned": pinned})
            self.records.put(record, direct_until=UNTIL)
        staging.discard()
        self.trees.empty_trash()
        os.utime(self.layout.record(record.key), (used, used))
        self.records.load(record.key)
        return record.digest

    def make_room(self, need_bytes: int, *, in_full: bool = False) -> list[tuple[str, ...]]:
        used_bytes = self.trees.ledger.used_bytes
        victims = self.evictor.make_room(
            lambda: need_bytes - (used_bytes - self.trees.ledger.used_bytes), in_full=in_full
        )
        return [victim.handles for victim in victims]

    def names(self) -> set[str]:
        return {record.handle.split("/")[-2] for _, record in self.records.all()}

    def check(self) -> None:
        """Records, views and trees agree, and the ledger is what lies on the disk."""
        digests = {record.digest for _, record in self.records.all()}
        assert set(self.trees.digests()) == digests
        assert {entry.digest for entry in self.records.catalog.entries()} == digests
        assert len(os.listdir(self.layout.handles)) == 2 * len(self.records.catalog)
        assert len(os.listdir(self.layout.tfhub)) == len(self.records.catalog)
        on_disk = sum(disk_bytes(self.layout.tree(digest)) for digest in digests)
        assert self.trees.ledger.used_bytes == on_disk
        assert os.listdir(self.layout.trash) == []


def handle(name: str) -> str:
    return f"https://example.com/{name}/1"


def key(name: str) -> str:
    return record_of(handle(name)).key


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"))


def test_the_least_recently_used_goes_with_views_and_record(cache: Cache) -> None:
    for number, name in enumerate(("old", "middle", "new")):
        cache.add(name, used=1000.0 + number)
    assert cache.make_room(1) == [(handle("old"),)]
    assert cache.names() == {"middle", "new"}
    cache.check()


def test_the_space_is_free_when_room_was_made(cache: Cache) -> None:
    digest = cache.add("old", used=1000.0)
    size_bytes = disk_bytes(cache.layout.tree(digest))
    assert cache.trees.ledger.used_bytes == size_bytes
    cache.make_room(size_bytes)
    assert cache.trees.ledger.used_bytes == 0
    cache.check()


def test_what_lies_in_the_trash_goes_before_any_module(cache: Cache) -> None:
    cache.add("old", used=1000.0)
    staging = cache.trees.stage()
    Path(staging.archive).write_bytes(b"x" * 100_000)
    staging.discard()
    assert cache.make_room(50_000) == []
    assert cache.names() == {"old"}
    cache.check()


def test_downloads_that_were_broken_off_go_before_any_module(cache: Cache) -> None:
    cache.add("old", used=1000.0)
    staging = cache.trees.stage()
    Path(staging.archive).write_bytes(os.urandom(1_000_000))
    transfer = cache.partials.begun(handle("partial"), '"etag"', None, 2_000_000)
    assert cache.partials.keep(staging, transfer, 1_000_000)
    assert cache.trees.ledger.bytes_below(cache.layout.staging) >= 1_000_000
    assert cache.evictor.kept().in_flight_bytes == 0
    assert cache.make_room(500_000) == [()]
    assert cache.partials.all() == []
    assert cache.names() == {"old"}
    cache.check()


def test_pinned_and_leased_modules_stay_and_the_next_one_goes(cache: Cache) -> None:
    pinned = cache.add("pinned", used=1000.0, pinned=True)
    leased = cache.add("leased", used=1001.0)
    cache.add("free", used=1002.0)
    with Lease.share(cache.layout.lease(leased)), Lease.share(cache.layout.lease(pinned)):
        assert cache.make_room(1) == [(handle("free"),)]
        assert cache.make_room(1) == []
        kept = cache.evictor.kept()
        assert kept.pinned_bytes > 0, "the pin stays when the lease goes"
        assert kept.leased_keys == (key("leased"),)
        assert kept.pinned_bytes + kept.leased_bytes == cache.trees.ledger.used_bytes
    assert cache.make_room(1) == [(handle("leased"),)]
    cache.check()


def test_nothing_goes_for_what_would_not_fit_even_then(cache: Cache) -> None:
    cache.add("pinned", used=1000.0, pinned=True)
    leased = cache.add("leased", used=1001.0)
    free = [cache.add(name, used=used) for name, used in (("one", 1002.0), ("two", 1003.0))]
    free_bytes = sum(disk_bytes(cache.layout.tree(digest)) for digest in free)
    with Lease.share(cache.layout.lease(leased)):
        assert cache.make_room(free_bytes + 1, in_full=True) == []
        assert cache.names() == {"pinned", "leased", "one", "two"}
        assert cache.make_room(free_bytes, in_full=True) == [(handle("one"),), (handle("two"),)]
    cache.check()


def test_a_record_that_was_pinned_by_hand_meanwhile_keeps_its_tree(cache: Cache) -> None:
    cache.add("old", used=1000.0)
    path = Path(cache.layout.record(key("old")))
    path.write_text(path.read_text().replace('"pinned": false', '"pinned": true'))
    os.utime(path, (1000.0, 1000.0))
    assert cache.make_room(1) == []
    cache.check()


def test_what_a_prefetch_file_pins_stays_as_long_as_it_says_so(cache: Cache) -> None:
    cache.add("wanted", used=1000.0, content="shared")
    cache.add("other", used=1000.0, content="shared")  # one pin keeps the tree for all of its handles
    cache.add("plain", used=2000.0)
    cache.evictor.pins.replace({key("wanted"): ["b.toml", "a.toml"]})
    assert cache.make_room(10**9) == [(handle("plain"),)]
    assert list(cache.evictor.prune(older_than=UNTIL, to_size_bytes=0, dry_run=False)) == []
    assert cache.evictor.kept().pinned_bytes > 0
    with pytest.raises(InUse, match=r"wanted by the prefetch file a\.toml, b\.toml"):
        cache.evictor.remove(key("wanted"), force=False)
    assert cache.evictor.remove(key("other"), force=False).shared_with == (handle("wanted"),)
    cache.evictor.pins.replace({})
    assert cache.make_room(1) == [(handle("wanted"),)]
    cache.check()


def test_what_a_file_pins_between_choice_and_eviction_stays(cache: Cache) -> None:
    cache.add("late", used=1000.0)
    victims = iter(cache.evictor.prune(older_than=UNTIL, to_size_bytes=None, dry_run=False))
    candidates = cache.evictor.candidates
    cache.evictor.candidates = lambda: [*candidates(), *pinned_now()]  # type: ignore[method-assign]

    def pinned_now() -> list[Candidate]:
        cache.evictor.pins.replace({key("late"): ["a.toml"]})
        return []

    assert [victim.removed for victim in victims] == [False]
    assert cache.names() == {"late"}


def test_force_removes_what_a_prefetch_file_pins(cache: Cache) -> None:
    cache.add("wanted", used=1000.0)
    cache.evictor.pins.replace({key("wanted"): ["a.toml"]})
    assert cache.evictor.remove(key("wanted"), force=True).freed_bytes > 0
    assert cache.names() == set()


def test_a_tree_is_as_recent_and_as_pinned_as_its_records_together(cache: Cache) -> None:
    cache.add("a", used=1000.0, content="shared")
    cache.add("b", used=3000.0, content="shared")
    cache.add("c", used=2000.0)
    assert cache.make_room(1) == [(handle("c"),)]
    cache.add("d", used=4000.0, content="shared", pinned=True)
    assert cache.make_room(1) == []
    cache.check()


def test_evicting_a_shared_tree_removes_all_its_records(cache: Cache) -> None:
    for name in ("a", "b", "c", "d"):
        cache.add(name, used=1000.0, content="shared")
    assert len(list(cache.trees.digests())) == 1
    assert cache.make_room(1) == [tuple(map(handle, "abcd"))]
    assert cache.names() == set()
    cache.check()


def test_removing_one_handle_keeps_the_others_and_the_last_one_takes_the_tree(cache: Cache) -> None:
    digest = cache.add("a", used=1000.0, content="shared")
    cache.add("b", used=1000.0, content="shared")
    with Lease.share(cache.layout.lease(digest)):
        removed = cache.evictor.remove(key("a"), force=False)
        assert (removed.freed_bytes, removed.shared_with) == (0, (handle("b"),))
        with pytest.raises(InUse):
            cache.evictor.remove(key("b"), force=False)
        assert cache.names() == {"b"}
    assert cache.evictor.remove(key("b"), force=False).freed_bytes > 0
    cache.trees.empty_trash()
    cache.check()
    with pytest.raises(NotFound):
        cache.evictor.remove(key("b"), force=False)


def test_force_removes_what_is_in_use_and_what_is_pinned(cache: Cache) -> None:
    digest = cache.add("a", used=1000.0, pinned=True)
    with Lease.share(cache.layout.lease(digest)):
        cache.evictor.remove(key("a"), force=True)
    cache.trees.empty_trash()
    assert cache.names() == set()
    cache.check()


def test_prune_takes_what_is_old_and_then_down_to_the_size(cache: Cache) -> None:
    for number, name in enumerate("abcd"):
        cache.add(name, used=1000.0 + number)
    cache.add("pinned", used=1.0, pinned=True)
    size_bytes = cache.trees.ledger.used_bytes // 5
    told = list(cache.evictor.prune(older_than=1001.5, to_size_bytes=None, dry_run=True))
    assert [(victim.handles, victim.removed) for victim in told] == [((handle("a"),), False), ((handle("b"),), False)]
    assert len(cache.names()) == 5
    told = list(cache.evictor.prune(older_than=1000.5, to_size_bytes=3 * size_bytes, dry_run=False))
    assert [victim.handles for victim in told] == [(handle("a"),), (handle("b"),)]
    assert all(victim.removed for victim in told)
    assert cache.names() == {"c", "d", "pinned"}
    cache.check()


def test_prune_tells_what_is_in_use_and_goes_on(cache: Cache) -> None:
    digest = cache.add("a", used=1000.0)
    cache.add("b", used=1001.0)
    with Lease.share(cache.layout.lease(digest)):
        told = list(cache.evictor.prune(older_than=None, to_size_bytes=0, dry_run=False))
    assert [(victim.handles, victim.removed, victim.in_use) for victim in told] == [
        ((handle("a"),), False, True),
        ((handle("b"),), True, False),
    ]
    cache.check()


def test_a_module_that_is_published_again_between_the_steps_of_its_eviction_keeps_its_record(cache: Cache) -> None:
    """The tree is taken, a fetch puts an equal one in its place, and only then the records are looked at."""
    cache.add("a", used=1000.0)
    evict = cache.trees.evict

    def evicted_and_published_again(digest: str, *, force: bool = False) -> int:
        freed_bytes = evict(digest, force=force)
        cache.add("a", used=5000.0)
        return freed_bytes

    cache.trees.evict = evicted_and_published_again  # type: ignore[method-assign]
    cache.make_room(1)
    cache.trees.evict = evict  # type: ignore[method-assign]
    assert cache.names() == {"a"}
    cache.check()


def test_the_catalog_and_the_ledger_are_the_same_after_a_restart(cache: Cache) -> None:
    cache.add("a", used=1000.0, content="shared")
    cache.add("b", used=2000.0, content="shared", pinned=True)
    cache.add("c", used=3000.0)
    before = sorted(cache.records.catalog.entries()), cache.trees.ledger.used_bytes
    cache.reopen()
    assert (sorted(cache.records.catalog.entries()), cache.trees.ledger.used_bytes) == before
    cache.check()


def test_pinning_is_no_use(cache: Cache) -> None:
    cache.add("a", used=1000.0)
    cache.records.amend(
        key("a"),
        lambda now: now.model_copy(update={"pinned": True}) if now is not None else None,
        lambda record: UNTIL,
        is_use=False,
    )
    assert cache.records.last_used(key("a")) == 1000.0
    entry = cache.records.catalog.get(key("a"))
    assert entry is not None
    assert (entry.pinned, entry.last_used) == (True, 1000.0)
