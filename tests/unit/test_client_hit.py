"""The hit path: a cached handle resolves with a lease and a check, and without a daemon."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient.contract.errors import (
    CacheUntrusted,
    DaemonUnreachable,
    DigestMismatch,
    HubError,
    Offline,
    RequestInvalid,
)
from hubclient.contract.lease import Lease
from hubclient.resolver import Resolver
from hubclient.warning import StaleModuleWarning
from tests.support.handmade_cache import FILES, HandmadeCache, is_leased

HANDLE = "https://example.org/m/1"
OTHER = "https://example.org/n/1"


@pytest.fixture
def cache(tmp_path: Path) -> HandmadeCache:
    return HandmadeCache(tmp_path / "cache")


@pytest.fixture
def environ(tmp_path: Path, cache: HandmadeCache) -> dict[str, str]:
    """No daemon runs, and none may be started."""
    return {
        "TFHUB_CACHE_DIR": cache.root,
        "HUBD_AUTOSTART": "0",
        "HUBD_TIMEOUT": "0",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@pytest.fixture
def resolver(environ: dict[str, str]) -> Resolver:
    return Resolver(environ)


def damage_by_size(file: Path) -> None:
    status = file.stat()
    file.write_bytes(file.read_bytes() + b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def damage_by_time(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def damage_by_removal(file: Path) -> None:
    file.unlink()


def open_files() -> int:
    gc.collect()  # what earlier tests left to it closes its files now, and not between two counts
    return len(os.listdir("/proc/self/fd"))


def test_a_cached_handle_resolves_without_a_daemon(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    assert resolver.resolve(HANDLE) == cache.layout.module(digest)


@pytest.mark.parametrize("spelling", ["HTTPS://EXAMPLE.org:443/m/1#top", HANDLE + "?tf-hub-format=compressed"])
def test_every_spelling_of_a_handle_finds_it(cache: HandmadeCache, resolver: Resolver, spelling: str) -> None:
    digest = cache.add(HANDLE)
    assert resolver.resolve(spelling) == cache.layout.module(digest)


def test_the_real_path_is_answered(tmp_path: Path, cache: HandmadeCache, environ: dict[str, str]) -> None:
    digest = cache.add(HANDLE)
    (tmp_path / "shortcut").symlink_to(cache.root)
    environ["TFHUB_CACHE_DIR"] = str(tmp_path / "shortcut")
    assert Resolver(environ).resolve(HANDLE) == cache.layout.module(digest)


def test_the_tfhub_directory_of_a_cache_means_the_cache(cache: HandmadeCache, environ: dict[str, str]) -> None:
    digest = cache.add(HANDLE)
    environ["TFHUB_CACHE_DIR"] = cache.layout.tfhub
    assert Resolver(environ).resolve(HANDLE) == cache.layout.module(digest)


def test_a_resolved_module_stays_leased(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    assert not is_leased(cache.layout, digest)
    resolver.resolve(HANDLE)
    assert is_leased(cache.layout, digest)


def test_a_repeated_call_opens_and_locks_nothing(
    cache: HandmadeCache, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add(HANDLE)
    path = resolver.resolve(HANDLE)
    before = open_files()

    def refuse(*_: object) -> None:
        raise AssertionError("opened")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert resolver.resolve(HANDLE) == path
    assert open_files() == before


def test_a_held_module_is_leased_until_it_is_released(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    held = resolver.hold(HANDLE)
    assert held.lease is not None
    assert is_leased(cache.layout, digest)
    held.lease.release()
    assert not is_leased(cache.layout, digest)


def test_two_handles_of_one_tree_keep_one_lease(cache: HandmadeCache, resolver: Resolver) -> None:
    cache.point(OTHER, cache.add(HANDLE))
    path = resolver.resolve(HANDLE)
    before = open_files()
    assert resolver.resolve(OTHER) == path
    assert open_files() == before


def test_threads_that_resolve_at_once_keep_one_lease(cache: HandmadeCache, resolver: Resolver) -> None:
    cache.add(HANDLE)
    before = open_files()
    start = threading.Barrier(8)
    paths: list[str] = []

    def work() -> None:
        start.wait()
        paths.append(resolver.resolve(HANDLE))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1
    assert open_files() == before + 1


def test_a_lease_is_shared_with_a_forked_child(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    held = resolver.hold(HANDLE)
    assert held.lease is not None
    reader, writer = os.pipe()
    child = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", "read line"],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, held.lease.fileno(), 9), (os.POSIX_SPAWN_DUP2, reader, 0)],
    )
    held.lease.release()
    assert is_leased(cache.layout, digest)
    os.write(writer, b"end\n")
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert not is_leased(cache.layout, digest)


@pytest.mark.parametrize("damage", [damage_by_size, damage_by_time, damage_by_removal])
@pytest.mark.parametrize("path", FILES)
def test_a_damaged_file_is_noticed_on_the_first_hit(
    cache: HandmadeCache, resolver: Resolver, path: str, damage: Callable[[Path], None]
) -> None:
    damage(cache.file(cache.add(HANDLE), path))
    before = open_files()
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)
    assert open_files() == before


@pytest.mark.parametrize("damage", [damage_by_size, damage_by_time, damage_by_removal])
def test_a_damaged_file_is_noticed_on_a_repeated_hit(
    cache: HandmadeCache, resolver: Resolver, damage: Callable[[Path], None]
) -> None:
    digest = cache.add(HANDLE)
    resolver.resolve(HANDLE)
    damage(cache.file(digest))
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


def test_damage_to_a_small_file_is_noticed_by_each_new_lease(cache: HandmadeCache, resolver: Resolver) -> None:
    files = {"saved_model.pb": b"graph", **{f"assets/{number}": bytes(9 - number) for number in range(9)}}
    digest = cache.add(HANDLE, files)
    held = resolver.hold(HANDLE)
    cache.file(digest, "assets/8").unlink()
    with pytest.raises(DaemonUnreachable):
        resolver.hold(HANDLE)
    assert held.lease is not None
    held.lease.release()


def test_a_repaired_tree_is_used_under_the_old_lease(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    path = resolver.resolve(HANDLE)
    before = open_files()
    damage_by_time(cache.file(digest))
    cache.write_listing(digest)
    for _ in range(2):
        assert resolver.resolve(HANDLE) == path
    assert open_files() == before


def test_a_tree_that_was_replaced_is_leased_anew(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    path = resolver.resolve(HANDLE)
    before = open_files()
    listed = Path(cache.layout.listing(digest)).read_bytes()
    times = {name: cache.file(digest, name).stat().st_mtime_ns for name in FILES}
    os.rename(cache.layout.tree(digest), cache.root + "/gone")
    cache.write_tree(digest)
    for name, mtime_ns in times.items():
        os.utime(cache.file(digest, name), ns=(mtime_ns, mtime_ns))
    Path(cache.layout.listing(digest)).write_bytes(listed)
    assert not is_leased(cache.layout, digest)
    assert resolver.resolve(HANDLE) == path
    assert is_leased(cache.layout, digest)
    assert open_files() == before


def test_a_handle_that_moved_to_another_tree_is_followed_and_both_stay(
    cache: HandmadeCache, resolver: Resolver
) -> None:
    old = cache.add(HANDLE)
    resolver.resolve(HANDLE)
    new = cache.add(HANDLE, {"saved_model.pb": b"\x08\x01new"})
    assert resolver.resolve(HANDLE) == cache.layout.module(new)
    assert is_leased(cache.layout, old)
    assert is_leased(cache.layout, new)


@pytest.mark.parametrize("target", ["/etc", "../trees/short", "../../trees/" + "a" * 64, "../trees/" + "a" * 64 + "/x"])
def test_a_link_that_leads_elsewhere_is_not_followed(cache: HandmadeCache, resolver: Resolver, target: str) -> None:
    cache.add(HANDLE)
    link = cache.link(HANDLE)
    until = link.lstat().st_mtime
    link.unlink()
    link.symlink_to(target)
    os.utime(link, (until, until), follow_symlinks=False)
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


def test_a_dangling_link_is_a_miss(cache: HandmadeCache, resolver: Resolver) -> None:
    cache.remove_tree(cache.add(HANDLE))
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


def test_a_tree_that_is_being_removed_is_a_miss(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    with Lease.exclusive(cache.layout.lease(digest)), pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


@pytest.mark.parametrize(
    "text",
    [b"", b"no listing", b"1 2", b"1 two saved_model.pb\n", b"\xff\n", b"1 2 a\0b\n", b"1 2 " + b"a/" * 5000 + b"\n"],
)
def test_a_damaged_listing_is_a_miss(cache: HandmadeCache, resolver: Resolver, text: bytes) -> None:
    digest = cache.add(HANDLE)
    Path(cache.layout.listing(digest)).write_bytes(text)
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


def a_pipe(path: str) -> None:
    os.mkfifo(path)


def a_directory(path: str) -> None:
    os.mkdir(path)


def a_link_to_itself(path: str) -> None:
    os.symlink(path, path)


def a_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize("place", ["listing", "lease", "layout", "link", "module", "tree", "trees", "handles"])
@pytest.mark.parametrize("other", [a_pipe, a_directory, a_link_to_itself, a_socket])
def test_something_else_in_the_place_of_a_part_is_a_miss_and_nobody_waits_at_it(
    cache: HandmadeCache,
    resolver: Resolver,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    other: Callable[[str], None],
) -> None:
    digest = cache.add(HANDLE)
    paths = {
        "listing": cache.layout.listing(digest),
        "lease": cache.layout.lease(digest),
        "layout": cache.layout.version_file,
        "link": str(cache.link(HANDLE)),
        "module": cache.layout.module(digest),
        "tree": cache.layout.tree(digest),
        "trees": cache.layout.trees,
        "handles": cache.layout.handles,
    }
    before = open_files()
    os.rename(paths[place], cache.root + "/away")
    monkeypatch.chdir(os.path.dirname(paths[place]))  # a socket's path is short
    other(os.path.basename(paths[place]) if other is not a_link_to_itself else paths[place])
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)
    assert open_files() == before


@pytest.mark.parametrize("text", [b"", b"0", b"-1", b"1.0", b"one", b"1\0", b"9" * 20, b"\xff"])
def test_a_damaged_layout_is_left_to_the_daemon(cache: HandmadeCache, resolver: Resolver, text: bytes) -> None:
    cache.add(HANDLE)
    Path(cache.layout.version_file).write_bytes(text)
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


def test_what_is_no_directory_is_no_cache(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "file").touch()
    environ["TFHUB_CACHE_DIR"] = str(tmp_path / "file")
    with pytest.raises(CacheUntrusted, match="is no directory"):
        Resolver(environ).resolve(HANDLE)


def test_a_newer_layout_is_left_to_the_daemon(tmp_path: Path, environ: dict[str, str]) -> None:
    cache = HandmadeCache(tmp_path / "newer", version=2)
    cache.add(HANDLE)
    environ["TFHUB_CACHE_DIR"] = cache.root
    with pytest.raises(DaemonUnreachable):
        Resolver(environ).resolve(HANDLE)


def test_a_stale_module_is_used_with_a_warning_when_no_daemon_answers(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE, direct_for_seconds=-1)
    with pytest.warns(StaleModuleWarning, match="may be out of date") as caught:
        path = resolver.resolve(HANDLE)
    assert path == cache.layout.module(digest)
    assert is_leased(cache.layout, digest)
    assert caught[0].filename == __file__


def test_a_held_module_that_became_stale_is_asked_for(cache: HandmadeCache, resolver: Resolver) -> None:
    cache.point(HANDLE, cache.add(HANDLE))
    resolver.resolve(HANDLE)
    os.utime(cache.link(HANDLE), (time.time() - 1,) * 2, follow_symlinks=False)
    with pytest.warns(StaleModuleWarning):
        resolver.resolve(HANDLE)


def test_a_stale_and_damaged_module_is_not_used(cache: HandmadeCache, resolver: Resolver) -> None:
    cache.file(cache.add(HANDLE, direct_for_seconds=-1)).unlink()
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE)


def test_offline_a_stale_module_is_used_without_asking(cache: HandmadeCache, environ: dict[str, str]) -> None:
    digest = cache.add(HANDLE, direct_for_seconds=-1)
    environ["HUBD_OFFLINE"] = "1"
    assert Resolver(environ).resolve(HANDLE) == cache.layout.module(digest)


def test_offline_what_is_not_cached_is_offline_at_once(environ: dict[str, str]) -> None:
    environ |= {"HUBD_OFFLINE": "1", "HUBD_AUTOSTART": "1", "HUBD_TIMEOUT": "600"}
    with pytest.raises(Offline, match="HUBD_OFFLINE"):
        Resolver(environ).resolve(HANDLE)


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_the_right_digest_is_a_hit(cache: HandmadeCache, resolver: Resolver, prefix: str) -> None:
    digest = cache.add(HANDLE)
    for _ in range(2):
        assert resolver.resolve(HANDLE, digest=prefix + digest) == cache.layout.module(digest)


def test_another_digest_is_left_to_the_daemon(cache: HandmadeCache, resolver: Resolver) -> None:
    cache.add(HANDLE)
    resolver.resolve(HANDLE)
    with pytest.raises(DaemonUnreachable):
        resolver.resolve(HANDLE, digest="0" * 64)


def test_offline_another_digest_is_a_mismatch(cache: HandmadeCache, environ: dict[str, str]) -> None:
    cache.add(HANDLE)
    environ["HUBD_OFFLINE"] = "1"
    with pytest.raises(DigestMismatch):
        Resolver(environ).resolve(HANDLE, digest="0" * 64)


@pytest.mark.parametrize("digest", ["", "abc", "G" * 64, "A" * 64, "md5:" + "0" * 64])
def test_what_is_no_digest_is_refused(cache: HandmadeCache, resolver: Resolver, digest: str) -> None:
    cache.add(HANDLE)
    with pytest.raises(RequestInvalid):
        resolver.resolve(HANDLE, digest=digest)


def test_the_cache_is_that_of_the_environment_of_each_call(
    tmp_path: Path, cache: HandmadeCache, environ: dict[str, str]
) -> None:
    other = HandmadeCache(tmp_path / "other")
    here, there = cache.add(HANDLE), other.add(HANDLE, name="another")
    resolver = Resolver(environ)
    for expected, root in ((cache, cache.root), (other, other.root), (cache, cache.root)):
        environ["TFHUB_CACHE_DIR"] = root
        digest = here if expected is cache else there
        assert resolver.resolve(HANDLE) == expected.layout.module(digest)


def test_many_spellings_are_not_remembered_for_ever(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    for number in range(5000):
        assert resolver.resolve(f"{HANDLE}#{number}") == cache.layout.module(digest)
    assert len(resolver._keys) <= 4096


@pytest.mark.parametrize("handle", ["ftp://example.org/m", "https://user:secret@example.org/m", "https:///m"])
def test_an_invalid_handle_is_refused_without_a_daemon(resolver: Resolver, handle: str) -> None:
    with pytest.raises(HubError) as caught:
        resolver.resolve(handle)
    assert caught.value.code == "handle-invalid"
    assert "secret" not in str(caught.value)


def test_look_answers_from_the_cache_alone(cache: HandmadeCache, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    cache.add(OTHER, direct_for_seconds=-1, name="stale")
    held = resolver.look(HANDLE)
    assert held is not None
    assert held.lease is not None
    assert held.path == cache.layout.module(digest)
    held.lease.release()
    assert resolver.look(OTHER) is None
    assert resolver.look("https://example.org/absent/1") is None
