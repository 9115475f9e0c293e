"""Trees: published whole, found when intact, repaired under their holders, never evicted while anyone holds them."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient.contract import listing
from hubclient.contract.errors import DiskFull, HubError, Internal, InUse
from hubclient.contract.lease import Lease
from hubd.store.adoption import adopt
from hubd.store.deep_check import DeepCheck
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout, TreeLayout
from hubd.store.manifest import Manifest
from hubd.store.trees import Trees
from tests.support.modules import FILES, change_silently, digest_of, fill

_DIGEST = digest_of(FILES)


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        return hold.layout


@pytest.fixture
def trees(layout: StoreLayout) -> Trees:
    return Trees(layout)


def _publish(trees: Trees) -> Lease:
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    try:
        return trees.publish(tree, _DIGEST, fill(tree))
    finally:
        staging.discard()
        trees.empty_trash()


def _content(layout: StoreLayout) -> dict[str, bytes]:
    module = Path(layout.module(_DIGEST))
    return {str(path.relative_to(module)): path.read_bytes() for path in module.rglob("*") if path.is_file()}


def _leftovers(layout: StoreLayout) -> list[str]:
    return os.listdir(layout.staging) + os.listdir(layout.trash)


def _damage(layout: StoreLayout) -> None:
    os.unlink(f"{layout.module(_DIGEST)}/variables/variables.index")


def test_a_published_tree_is_found_whole_and_held(trees: Trees, layout: StoreLayout) -> None:
    with _publish(trees) as published:
        assert published.held
        with pytest.raises(InUse):
            trees.evict(_DIGEST)
    lease = trees.find(_DIGEST)
    assert lease is not None
    with lease:
        assert lease.inode == published.inode
        assert _content(layout) == FILES
        with pytest.raises(InUse):
            trees.evict(_DIGEST)
    assert _leftovers(layout) == []
    assert list(trees.digests()) == [_DIGEST]


def test_the_listing_holds_the_files_as_they_lie_on_the_disk(trees: Trees, layout: StoreLayout) -> None:
    _publish(trees).release()
    entries = listing.parse(Path(layout.listing(_DIGEST)).read_bytes())
    assert [entry.path for entry in entries] == sorted(
        FILES, key=lambda path: (path != "saved_model.pb", -len(FILES[path]))
    )
    assert listing.first_difference(layout.module(_DIGEST), entries) is None


def test_the_manifest_reads_back(trees: Trees) -> None:
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    manifest = fill(tree)
    assert trees.manifest(_DIGEST) is None
    trees.publish(tree, _DIGEST, manifest).release()
    assert trees.manifest(_DIGEST) == manifest


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b"\xff"])
def test_a_damaged_manifest_is_none_and_a_warning(
    trees: Trees, layout: StoreLayout, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    _publish(trees).release()
    Path(layout.manifest(_DIGEST)).write_bytes(data)
    assert trees.manifest(_DIGEST) is None
    assert "damaged manifest" in caplog.text


def test_a_manifest_names_only_files_inside_the_module(trees: Trees) -> None:
    tree = trees.stage().attempt_tree(1)
    data = fill(tree).model_dump()
    for path in ("/etc/passwd", "../x", "a/../b", "a//b", ".", "", "a\nb"):
        with pytest.raises(ValueError, match="a path"):
            Manifest.model_validate({**data, "files": {path: {"size_bytes": 0, "sha256": "0" * 64}}})


def test_equal_files_have_one_content_digest_and_others_have_others(trees: Trees) -> None:
    contents = [
        FILES,
        dict(reversed(list(FILES.items()))),
        {**FILES, "assets/a": b""},
        {**FILES, "saved_model.pb": b"x"},
    ]
    digests = [fill(trees.stage().attempt_tree(1), files).content_digest for files in contents]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("path", list(FILES))
def test_a_file_that_is_gone_changed_or_touched_makes_it_a_miss(trees: Trees, layout: StoreLayout, path: str) -> None:
    _publish(trees).release()
    file = Path(layout.module(_DIGEST), path)
    status, data = file.stat(), file.read_bytes()
    file.unlink()
    assert trees.find(_DIGEST) is None
    file.write_bytes(data[:-1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert trees.find(_DIGEST) is None
    file.write_bytes(data)
    assert trees.find(_DIGEST) is None
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    lease = trees.find(_DIGEST)
    assert lease is not None
    lease.release()


@pytest.mark.parametrize("name", ["lease", "files", "module"])
def test_a_tree_that_lost_a_part_of_its_own_is_a_miss_and_is_repaired(
    trees: Trees, layout: StoreLayout, name: str
) -> None:
    _publish(trees).release()
    os.rename(f"{layout.tree(_DIGEST)}/{name}", f"{layout.root}/moved")
    assert trees.find(_DIGEST) is None
    with _publish(trees) as lease:
        assert lease.inode[1] == os.stat(layout.lease(_DIGEST)).st_ino
        assert _content(layout) == FILES
    found = trees.find(_DIGEST)
    assert found is not None
    found.release()


@pytest.mark.parametrize("other", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_a_tree_with_something_else_in_the_place_of_its_lease_is_repaired_and_can_be_evicted(
    trees: Trees, layout: StoreLayout, other: Callable[[str], None]
) -> None:
    def replace() -> None:
        os.unlink(layout.lease(_DIGEST))
        other(layout.lease(_DIGEST))

    _publish(trees).release()
    replace()
    assert trees.find(_DIGEST) is None
    _publish(trees).release()
    found = trees.find(_DIGEST)
    assert found is not None
    found.release()
    replace()
    trees.evict(_DIGEST)
    trees.empty_trash()
    assert not os.path.lexists(layout.tree(_DIGEST))
    assert _leftovers(layout) == []


def test_a_missing_tree_is_a_miss(trees: Trees) -> None:
    assert trees.find(_DIGEST) is None
    trees.evict(_DIGEST)


def test_a_listing_is_read_afresh_when_it_changes(trees: Trees, layout: StoreLayout) -> None:
    _publish(trees).release()
    lease = trees.find(_DIGEST)
    assert lease is not None
    lease.release()
    Path(layout.listing(_DIGEST)).write_bytes(b"1 2 other\n")
    assert trees.find(_DIGEST) is None


def test_an_intact_tree_stays_when_it_is_published_again(trees: Trees, layout: StoreLayout) -> None:
    with _publish(trees) as first, _publish(trees) as second:
        assert first.inode == second.inode
        assert os.stat(layout.lease(_DIGEST)).st_ino == first.inode[1]
    assert _leftovers(layout) == []


def test_a_repair_keeps_the_holders_lease(trees: Trees, layout: StoreLayout) -> None:
    with _publish(trees) as holder:
        _damage(layout)
        _publish(trees).release()
        assert _content(layout) == FILES
        assert os.stat(layout.lease(_DIGEST)).st_ino == holder.inode[1]
        with pytest.raises(InUse):
            trees.evict(_DIGEST)
    trees.evict(_DIGEST)
    assert not os.path.lexists(layout.tree(_DIGEST))


def test_a_repair_without_renameat2_ends_the_same(layout: StoreLayout) -> None:
    class WithoutExchange(Disk):
        def exchange(self, one: str, other: str) -> None:
            raise OSError(errno.EINVAL, "Invalid argument", one)

    trees = Trees(layout, WithoutExchange())
    with _publish(trees) as holder:
        _damage(layout)
        _publish(trees).release()
        assert _content(layout) == FILES
        assert os.stat(layout.lease(_DIGEST)).st_ino == holder.inode[1]


def test_whatever_else_lies_in_the_place_of_a_tree_makes_way(trees: Trees, layout: StoreLayout, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = Path(layout.tree(_DIGEST))
    plants: list[Callable[[], None]] = [
        place.touch,
        place.mkdir,
        lambda: place.symlink_to(outside),
        lambda: place.symlink_to("nowhere"),
    ]
    for plant in plants:
        plant()
        assert trees.find(_DIGEST) is None
        _publish(trees).release()
        assert _content(layout) == FILES
        assert not os.path.islink(layout.tree(_DIGEST))
        trees.evict(_DIGEST)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("spoil", ["missing", "longer", "link", "directory"])
def test_files_that_are_not_the_manifest_s_are_never_published(trees: Trees, layout: StoreLayout, spoil: str) -> None:
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    manifest = fill(tree)
    file = Path(tree, "module", "saved_model.pb")
    data = file.read_bytes()
    file.unlink()
    match spoil:
        case "longer":
            file.write_bytes(data + b"x")
        case "link":
            file.symlink_to("variables/variables.index")
        case "directory":
            file.mkdir()
    with pytest.raises(Internal, match=r"saved_model\.pb"):
        trees.publish(tree, _DIGEST, manifest)
    assert os.listdir(layout.trees) == []


def test_a_manifest_of_another_archive_is_refused(trees: Trees, layout: StoreLayout) -> None:
    tree = trees.stage().attempt_tree(1)
    with pytest.raises(Internal):
        trees.publish(tree, "0" * 64, fill(tree))
    with pytest.raises(Internal):
        trees.publish(tree, "../" + "0" * 61, fill(trees.stage().attempt_tree(1)))
    assert os.listdir(layout.trees) == []


def test_eviction_gives_the_space_back(trees: Trees, layout: StoreLayout) -> None:
    _publish(trees).release()
    trees.evict(_DIGEST)
    assert trees.find(_DIGEST) is None
    assert len(os.listdir(layout.trash)) == 1
    trees.empty_trash()
    assert _leftovers(layout) == []
    _publish(trees).release()
    assert _content(layout) == FILES


def test_emptying_the_trash_follows_no_link(trees: Trees, layout: StoreLayout, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    os.symlink(tmp_path / "outside", f"{layout.trash}/link")
    os.mkdir(f"{layout.trash}/directory")
    os.symlink(tmp_path / "outside", f"{layout.trash}/directory/link")
    trees.empty_trash()
    assert os.listdir(layout.trash) == []
    assert (tmp_path / "outside" / "file").exists()


def test_fetches_and_evictions_at_once_always_leave_a_whole_tree_or_none(trees: Trees, layout: StoreLayout) -> None:
    failures: list[BaseException] = []
    evictions = 0

    def publish() -> None:
        try:
            for round_ in range(20):
                with _publish(trees):
                    if _content(layout) != FILES:
                        raise AssertionError("a held tree is not whole")
                    if round_ % 3 == 0:
                        Path(layout.module(_DIGEST), "saved_model.pb").unlink(missing_ok=True)
                        _publish(trees).release()
        except BaseException as error:
            failures.append(error)

    def evict() -> None:
        nonlocal evictions
        while any(publisher.is_alive() for publisher in publishers):
            try:
                trees.evict(_DIGEST)
                evictions += 1
            except InUse:
                pass
            except BaseException as error:
                failures.append(error)
                return

    publishers = [threading.Thread(target=publish)]
    evictor = threading.Thread(target=evict)
    for thread in (*publishers, evictor):
        thread.start()
    for thread in (*publishers, evictor):
        thread.join()
    assert failures == []
    assert evictions > 0
    trees.empty_trash()
    assert os.listdir(layout.staging) == []


def test_two_fetches_of_equal_content_at_once_share_one_tree(trees: Trees, layout: StoreLayout) -> None:
    leases: list[Lease] = []
    start = threading.Barrier(4)

    def publish() -> None:
        start.wait()
        leases.append(_publish(trees))

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({lease.inode for lease in leases}) == 1
    assert len(leases) == 4
    assert _content(layout) == FILES
    for lease in leases:
        lease.release()


def test_discarding_never_raises(trees: Trees, layout: StoreLayout, caplog: pytest.LogCaptureFixture) -> None:
    staging = trees.stage()
    Path(staging.archive).write_bytes(b"partial")
    staging.discard()
    staging.discard()
    assert os.listdir(layout.staging) == []
    assert len(os.listdir(layout.trash)) == 1
    trees.empty_trash()
    assert _leftovers(layout) == []
    staging = trees.stage()
    os.rmdir(layout.trash)
    Path(layout.trash).touch()
    staging.discard()
    assert "cannot move" in caplog.text
    assert staging.path in caplog.text


class FailingDisk(Disk):
    """Fails at the n-th call, as a full or broken disk would."""

    def __init__(self, calls: int, number: int) -> None:
        self.calls, self.number = calls, number

    def _count(self, path: str) -> None:
        self.calls -= 1
        if self.calls == 0:
            raise OSError(self.number, os.strerror(self.number), path)

    def create(self, path: str, mode: int) -> int:
        self._count(path)
        return super().create(path, mode)

    def write(self, fd: int, data: bytes) -> None:
        self._count("")
        super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._count("")
        super().fsync(fd)

    def fsync_directory(self, path: str) -> None:
        self._count(path)
        super().fsync_directory(path)

    def rename(self, source: str, target: str) -> None:
        self._count(source)
        super().rename(source, target)

    def mkdir(self, path: str, mode: int) -> None:
        self._count(path)
        super().mkdir(path, mode)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EXDEV, Internal), (errno.EROFS, Internal)],
)
def test_a_failing_disk_is_a_clear_error_and_leaves_nothing_half_made(
    layout: StoreLayout, number: int, error: type[HubError]
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for calls in range(1, 100):
        trees = Trees(layout, FailingDisk(calls, number))
        failure: HubError | None = None
        try:
            _publish(trees).release()
        except HubError as raised:
            failure = raised
        if failure is None:
            break
        assert type(failure) is error, failure
        assert len(os.listdir("/proc/self/fd")) == descriptors
        if os.listdir(layout.trees):  # the failure came after the rename: then it is all there
            assert _content(layout) == FILES
        Trees(layout).evict(_DIGEST)
    assert 10 < calls < 99


def test_a_damaged_tree_is_warned_of_by_file(
    trees: Trees, layout: StoreLayout, caplog: pytest.LogCaptureFixture
) -> None:
    _publish(trees).release()
    _damage(layout)
    with caplog.at_level(logging.WARNING):
        assert trees.find(_DIGEST) is None
    assert "variables/variables.index" in caplog.text


def _silently_damaged(trees: Trees, layout: StoreLayout) -> DeepCheck:
    _publish(trees).release()
    change_silently(Path(layout.module(_DIGEST)) / "saved_model.pb")
    check = DeepCheck(TreeLayout(layout.tree(_DIGEST)), _DIGEST, threading.Event())
    check.work()
    assert check.damage == ("saved_model.pb",)
    return check


def test_what_the_deep_check_condemned_is_served_no_more_until_it_is_repaired(
    trees: Trees, layout: StoreLayout
) -> None:
    check = _silently_damaged(trees, layout)
    lease = trees.find(_DIGEST)
    assert lease is not None, "the quick check cannot see it"
    with lease:
        assert trees.condemn(_DIGEST, check)
        check.close()
        assert trees.find(_DIGEST) is None
        assert Trees(layout).find(_DIGEST) is None, "nor does the next daemon serve it"
        _publish(trees).release()
        assert os.stat(layout.lease(_DIGEST)).st_ino == lease.inode[1]
    found = trees.find(_DIGEST)
    assert found is not None
    found.release()
    assert _content(layout) == FILES


def test_what_took_the_place_of_the_checked_tree_is_not_condemned(trees: Trees, layout: StoreLayout) -> None:
    check = _silently_damaged(trees, layout)
    os.rename(layout.tree(_DIGEST), layout.new_trash())
    assert not trees.condemn(_DIGEST, check)
    _publish(trees).release()
    assert not trees.condemn(_DIGEST, check)
    check.close()
    assert trees.health.damaged == 0
    found = trees.find(_DIGEST)
    assert found is not None
    found.release()


def test_a_damage_counts_once_and_again_after_a_repair(trees: Trees, layout: StoreLayout) -> None:
    for round_ in (1, 2):
        _publish(trees).release()
        _damage(layout)
        for _ in range(3):
            assert trees.find(_DIGEST) is None
        assert (trees.health.damaged, trees.health.repaired) == (round_, round_ - 1)
    _publish(trees).release()
    assert (trees.health.damaged, trees.health.repaired) == (2, 2)
