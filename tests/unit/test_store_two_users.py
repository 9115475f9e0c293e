"""The store with the daemon and its users as unprivileged users: what they can do, and what they cannot."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from typing import ParamSpec

import pytest

from hubclient.contract.errors import Internal, InUse
from hubclient.contract.lease import Lease
from hubd.store.adoption import CacheUnusable, adopt
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.recovery import clear, mend
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, fill, record_of
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root, staying

pytestmark = needs_root

P = ParamSpec("P")

_HANDLE = "https://example.com/m/1"
_DIGEST = digest_of(FILES)
_RECORD = record_of(_HANDLE)

#: Leases that a forked child keeps until it ends; in the test's own process it stays empty.
_KEPT: list[Lease] = []


def _publish(root: str) -> None:
    os.umask(0o077)  # the modes of the cache must not depend on it
    with adopt(root, socket="/run/s") as hold:
        clear(hold.layout)
        trees, records = Trees(hold.layout), Records(hold.layout)
        staging = trees.stage()
        tree = staging.attempt_tree(1)
        old = os.umask(0o022)  # the unpacking child sees to its modes itself
        manifest = fill(tree)
        os.umask(old)
        with trees.publish(tree, _DIGEST, manifest):
            records.put(_RECORD, direct_until=float("inf"))
        staging.discard()
        trees.empty_trash()


@pytest.fixture
def cache() -> Iterator[StoreLayout]:
    """Alice's daemon has published a module and is gone."""
    with directory_of(ALICE) as directory:
        root = f"{directory}/cache"
        as_user(ALICE, lambda: _publish(root))
        yield StoreLayout(root)


def _errno_of(action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> int:
    try:
        action(*args, **kwargs)
    except OSError as error:
        return error.errno or 0
    return 0


def test_every_mode_is_the_design_s(cache: StoreLayout) -> None:
    modes = {
        path: stat.S_IMODE(os.lstat(path).st_mode)
        for directory, _, files in os.walk(cache.root)
        for path in (directory, *(f"{directory}/{file}" for file in files))
        if not os.path.islink(path)
    }
    tree, module = cache.tree(_DIGEST), cache.module(_DIGEST)
    assert modes == {
        cache.root: 0o755,
        cache.version_file: 0o644,
        cache.cachedir_tag: 0o644,
        cache.daemon_lock: 0o644,
        cache.staging: 0o700,
        cache.trash: 0o700,
        cache.handles: 0o711,
        cache.trees: 0o711,
        cache.tfhub: 0o711,
        cache.record(_RECORD.key): 0o600,
        tree: 0o755,
        cache.manifest(_DIGEST): 0o644,
        cache.listing(_DIGEST): 0o644,
        cache.lease(_DIGEST): 0o644,
        module: 0o755,
        f"{module}/variables": 0o755,
        **{f"{module}/{path}": 0o644 for path in FILES},
    }


def test_another_user_finds_holds_and_reads_a_module(cache: StoreLayout) -> None:
    def resolve() -> dict[str, bytes]:
        target = os.readlink(cache.handle_link(_RECORD.key))
        assert target == f"../trees/{_DIGEST}"
        with Lease.share(cache.lease(_DIGEST)):
            module = cache.module(_DIGEST)
            assert os.path.samefile(module, cache.tfhub_view(_HANDLE))
            return {path: open(f"{module}/{path}", "rb").read() for path in FILES}

    assert as_user(BOB, resolve) == FILES


def test_another_user_cannot_take_the_write_side_of_a_lease(cache: StoreLayout) -> None:
    assert as_user(BOB, lambda: _errno_of(Lease.exclusive, cache.lease(_DIGEST))) == errno.EACCES


def test_another_user_can_write_nowhere_in_the_cache(cache: StoreLayout) -> None:
    def attempts() -> dict[str, int]:
        outcomes = {}
        for directory, _, files in os.walk(cache.root):
            outcomes[directory] = _errno_of(os.mkdir, f"{directory}/planted")
            for path in (f"{directory}/{name}" for name in files):
                outcomes[path] = _errno_of(os.open, path, os.O_WRONLY)
                outcomes[f"{path} unlinked"] = _errno_of(os.unlink, path)
        for directory in (*cache.directories, cache.tree(_DIGEST), cache.module(_DIGEST)):
            outcomes[directory] = _errno_of(os.mkdir, f"{directory}/planted")
            outcomes[f"{directory} away"] = _errno_of(os.rename, directory, f"{directory}2")
        return outcomes

    outcomes = as_user(BOB, attempts)
    assert len(outcomes) > 15
    assert set(outcomes.values()) == {errno.EACCES}, outcomes


def test_another_user_can_neither_list_nor_read_what_is_not_for_users(cache: StoreLayout) -> None:
    def attempts() -> list[int]:
        return [
            *(_errno_of(os.listdir, path) for path in cache.directories),
            _errno_of(os.open, cache.record(_RECORD.key), os.O_RDONLY),
            _errno_of(os.chdir, cache.staging),
        ]

    assert set(as_user(BOB, attempts)) == {errno.EACCES}


def test_the_daemon_cannot_evict_what_another_user_holds(cache: StoreLayout) -> None:
    trees = Trees(cache)
    with staying(BOB, lambda: _KEPT.append(Lease.share(cache.lease(_DIGEST)))):
        with pytest.raises(InUse):
            as_user(ALICE, lambda: trees.evict(_DIGEST))
        assert os.path.isdir(cache.module(_DIGEST))
    as_user(ALICE, lambda: trees.evict(_DIGEST))
    assert not os.path.lexists(cache.tree(_DIGEST))


@pytest.mark.parametrize("hidden", ["lease", "tree"])
def test_another_user_cannot_hold_what_it_may_not_read(cache: StoreLayout, hidden: str) -> None:
    os.chmod(cache.lease(_DIGEST) if hidden == "lease" else cache.tree(_DIGEST), 0o600 if hidden == "lease" else 0o700)
    with staying(BOB, lambda: _errno_of(Lease.share, cache.lease(_DIGEST))) as refusal:
        assert refusal == errno.EACCES
        as_user(ALICE, lambda: Trees(cache).evict(_DIGEST))


def test_another_user_cannot_hold_a_module_back_by_locks_of_another_kind(cache: StoreLayout) -> None:
    def attempts() -> list[int]:
        path = cache.lease(_DIGEST)
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whom no lease of ours asks
        return [
            _errno_of(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            _errno_of(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_WRLCK),
            _errno_of(os.open, f"/proc/self/fd/{fd}", os.O_RDWR),
        ]

    with staying(BOB, attempts) as refusals:
        assert refusals == [errno.EBADF, errno.EACCES, errno.EACCES]
        as_user(ALICE, lambda: Trees(cache).evict(_DIGEST))
    assert not os.path.lexists(cache.tree(_DIGEST))


def test_the_daemon_repairs_mends_evicts_and_empties_its_trash_without_being_root(cache: StoreLayout) -> None:
    def daemon() -> list[str]:
        trees, records = Trees(cache), Records(cache)
        os.unlink(f"{cache.module(_DIGEST)}/saved_model.pb")
        assert trees.find(_DIGEST) is None
        staging = trees.stage()
        tree = staging.attempt_tree(1)
        trees.publish(tree, _DIGEST, fill(tree)).release()
        staging.discard()
        os.unlink(cache.tfhub_view(_HANDLE))
        assert mend(trees, records, lambda record: 1e9).records_mended == 1
        trees.evict(_DIGEST)
        records.remove(_RECORD.key)
        trees.empty_trash()
        return [name for directory in cache.directories for name in os.listdir(directory)]

    assert as_user(ALICE, daemon) == []


def test_a_cache_is_not_taken_over_from_another_user(cache: StoreLayout) -> None:
    for taker in (BOB, os.geteuid()):
        with pytest.raises(CacheUnusable, match=f"belongs to uid {ALICE}"):
            as_user(taker, lambda: adopt(cache.root, socket="/run/s").close())


def test_a_lock_on_daemon_lock_does_not_keep_the_next_daemon_out(cache: StoreLayout) -> None:
    with staying(BOB, lambda: _KEPT.append(Lease.share(cache.daemon_lock))):
        as_user(ALICE, lambda: adopt(cache.root, socket="/run/s").close())


def test_a_directory_that_may_not_be_written_to_is_refused_by_name() -> None:
    with directory_of(os.geteuid()) as directory, pytest.raises(CacheUnusable, match=f"may not write to {directory}"):
        as_user(BOB, lambda: adopt(directory, socket="/run/s").close())


def test_what_cannot_be_known_is_no_miss(cache: StoreLayout) -> None:
    os.chmod(cache.trees, 0o700)
    with pytest.raises(Internal, match=cache.lease(_DIGEST)):
        as_user(BOB, lambda: Trees(cache).find(_DIGEST))
