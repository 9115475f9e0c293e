"""Several users on one machine: what another user could have planted is not used."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubclient import finding
from hubclient.connecting import connect_to_users
from hubclient.contract.errors import CacheUntrusted, DaemonUnreachable
from hubclient.contract.places import user_socket
from hubclient.finding import Place
from hubclient.resolver import Resolver
from tests.support.handmade_cache import HandmadeCache
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root

pytestmark = needs_root

HANDLE = "https://example.org/m/1"


@pytest.fixture
def directory() -> Iterator[Path]:
    with directory_of(0) as path:
        yield Path(path)


@pytest.fixture
def of_bob() -> Iterator[Path]:
    with directory_of(BOB) as path:
        yield Path(path)


def give(path: Path | str, uid: int) -> None:
    """All that is below `path`, and itself, to this user."""
    for parent, directories, files in os.walk(path):
        for name in (*directories, *files):
            os.chown(os.path.join(parent, name), uid, uid, follow_symlinks=False)
    os.chown(path, uid, uid)


def cache_of(uid: int, directory: Path) -> HandmadeCache:
    cache = HandmadeCache(directory / f"cache-of-{uid}")
    cache.add(HANDLE)
    give(cache.root, uid)
    return cache


def environ_for(cache: HandmadeCache, **variables: str) -> dict[str, str]:
    return {
        "TFHUB_CACHE_DIR": cache.root,
        "HOME": "/",
        "HUBD_AUTOSTART": "0",
        "HUBD_TIMEOUT": "0",
        "PATH": os.defpath,
    } | variables


def resolve(environ: dict[str, str]) -> str:
    return Resolver(environ).resolve(HANDLE)


def test_a_cache_of_root_serves_everyone(directory: Path) -> None:
    cache = cache_of(0, directory)
    assert as_user(ALICE, lambda: resolve(environ_for(cache))).startswith(cache.layout.trees)


def test_a_cache_of_ones_own_serves_oneself(directory: Path) -> None:
    cache = cache_of(ALICE, directory)
    assert as_user(ALICE, lambda: resolve(environ_for(cache))).startswith(cache.layout.trees)


def test_a_cache_planted_by_another_user_is_not_trusted_whatever_its_daemon_lock_says(directory: Path) -> None:
    cache = cache_of(BOB, directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        os.chmod(directory / "s", 0o666)
        listener.listen()
        listener.setblocking(False)
        cache.write_daemon_lock(str(directory / "s"))
        os.chown(cache.layout.daemon_lock, BOB, BOB)
        environ = environ_for(cache, HUBD_AUTOSTART="1")
        with pytest.raises(CacheUntrusted, match=f"HUBD_TRUST_UID={BOB}"):
            as_user(ALICE, lambda: resolve(environ))
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_cache_that_another_user_could_swap_is_not_trusted(directory: Path) -> None:
    (directory / "of-bob").mkdir()
    cache = cache_of(ALICE, directory / "of-bob")
    os.chown(directory / "of-bob", BOB, BOB)
    with pytest.raises(CacheUntrusted, match=f"of-bob belongs to uid {BOB}"):
        as_user(ALICE, lambda: resolve(environ_for(cache)))
    os.chown(directory / "of-bob", 0, 0)
    os.chmod(directory / "of-bob", 0o777)
    with pytest.raises(CacheUntrusted, match=r"others can write to .*of-bob"):
        as_user(ALICE, lambda: resolve(environ_for(cache)))
    os.chmod(directory / "of-bob", 0o1777)
    assert as_user(ALICE, lambda: resolve(environ_for(cache))).startswith(cache.layout.trees)


def test_a_trusted_users_cache_is_used(directory: Path) -> None:
    cache = cache_of(BOB, directory)
    environ = environ_for(cache, HUBD_TRUST_UID=str(BOB))
    assert as_user(ALICE, lambda: resolve(environ)).startswith(cache.layout.trees)


def test_the_owner_of_the_named_sockets_directory_vouches_for_the_cache(directory: Path, of_bob: Path) -> None:
    cache = cache_of(BOB, directory)
    (of_bob / "hubd.sock.cache").symlink_to(cache.root)
    environ = environ_for(cache, HUBD_SOCKET=str(of_bob / "hubd.sock"))
    assert as_user(ALICE, lambda: resolve(environ)).startswith(cache.layout.trees)


def test_the_owner_of_the_services_directory_vouches_for_the_cache(directory: Path, of_bob: Path) -> None:
    cache = cache_of(BOB, directory)
    (of_bob / "hubd.sock.cache").symlink_to(cache.root)

    def find(environ: object) -> Place:
        return finding.find({}, service_socket=str(of_bob / "hubd.sock"))

    path = as_user(ALICE, lambda: Resolver({"HUBD_TIMEOUT": "0"}, find=find).resolve(HANDLE))
    assert path.startswith(cache.layout.trees)


@pytest.mark.parametrize("part", ["handles", "trees"])
def test_a_cache_of_which_a_part_is_another_users_is_not_trusted(directory: Path, part: str) -> None:
    cache = cache_of(ALICE, directory)
    os.chown(getattr(cache.layout, part), BOB, BOB)
    with pytest.raises(DaemonUnreachable):
        as_user(ALICE, lambda: resolve(environ_for(cache)))


def test_a_cache_that_one_may_not_read_is_left_to_the_daemon(directory: Path) -> None:
    cache = cache_of(0, directory)
    os.chmod(cache.layout.handles, 0o700)
    with pytest.raises(DaemonUnreachable):
        as_user(ALICE, lambda: resolve(environ_for(cache)))


@pytest.mark.parametrize("hidden", ["trees", "tree", "lease", "listing", "version_file", "module"])
def test_a_part_that_one_may_not_read_is_left_to_the_daemon(directory: Path, hidden: str) -> None:
    cache = cache_of(0, directory)
    (tree,) = Path(cache.layout.trees).iterdir()
    part = getattr(cache.layout, hidden)
    path = Path(part if isinstance(part, str) else part(tree.name))
    path.chmod(0o700 if path.is_dir() else 0o600)
    with pytest.raises(DaemonUnreachable):
        as_user(ALICE, lambda: resolve(environ_for(cache)))


def test_a_daemon_lock_of_another_user_is_not_believed(directory: Path) -> None:
    cache = cache_of(ALICE, directory)
    cache.write_daemon_lock("/some/socket")
    os.chown(cache.layout.daemon_lock, BOB, BOB)
    assert as_user(ALICE, lambda: finding.named_socket(cache.root, {})) is None


def test_a_named_socket_on_which_another_user_answers_is_not_used(directory: Path) -> None:
    cache = cache_of(ALICE, directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        os.chmod(directory / "s", 0o666)
        listener.listen()  # as root, and the lock says that the daemon is Alice's
        cache.write_daemon_lock(str(directory / "s"))
        os.chown(cache.layout.daemon_lock, ALICE, ALICE)
        place = Place(user_socket(cache.root, {}), cache.root, "user")
        assert as_user(ALICE, lambda: connect_to_users(place, {}) is None)


def test_a_daemon_that_one_may_not_speak_to_is_told(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        os.chmod(directory / "s", 0o600)
        listener.listen()
        environ = {"HUBD_SOCKET": str(directory / "s"), "HUBD_TIMEOUT": "600"}
        with pytest.raises(DaemonUnreachable, match=f"as uid {ALICE}: Permission denied"):
            as_user(ALICE, lambda: resolve(environ))


def test_no_daemon_is_started_in_the_home_of_another_user(directory: Path, of_bob: Path) -> None:
    cache = cache_of(ALICE, directory)
    cache.link(HANDLE).unlink()
    environ = environ_for(cache, HOME=str(of_bob), HUBD_AUTOSTART="1")
    with pytest.raises(DaemonUnreachable, match=f"belongs to uid {BOB}.*sudo -H"):
        as_user(ALICE, lambda: resolve(environ))
