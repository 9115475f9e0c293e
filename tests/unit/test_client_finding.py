"""Which daemon an environment means, and who is believed about it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hubclient import finding
from hubclient.connecting import connect_to_users
from hubclient.contract.errors import CacheUntrusted, DaemonUnreachable, RequestInvalid
from hubclient.contract.places import user_socket
from hubclient.finding import Place
from tests.support.handmade_cache import HandmadeCache


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """The socket of a service: its directory exists."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "hubd.sock"


def find(environ: dict[str, str], service: Path) -> Place:
    return finding.find(environ, service_socket=str(service), service_cache=str(service.parent.parent / "var"))


def test_the_named_socket_comes_first(tmp_path: Path, service: Path) -> None:
    environ = {"HUBD_SOCKET": str(tmp_path / "mine.sock"), "TFHUB_CACHE_DIR": "/elsewhere"}
    assert find(environ, service) == Place(str(tmp_path / "mine.sock"), None, "explicit")


def test_the_link_beside_a_named_socket_tells_its_cache(tmp_path: Path, service: Path) -> None:
    (tmp_path / "mine.sock.cache").symlink_to("/the/cache")
    assert find({"HUBD_SOCKET": str(tmp_path / "mine.sock")}, service).cache == "/the/cache"


def test_an_empty_variable_names_nothing(service: Path) -> None:
    assert find({"HUBD_SOCKET": "", "TFHUB_CACHE_DIR": ""}, service).kind == "service"


def test_the_service_is_meant_where_its_directory_is(tmp_path: Path, service: Path) -> None:
    assert find({}, service) == Place(str(service), str(tmp_path / "var"), "service")


def test_the_service_tells_its_cache(service: Path) -> None:
    Path(f"{service}.cache").symlink_to("/data/hubd")
    assert find({}, service).cache == "/data/hubd"


def test_another_cache_means_the_users_own_daemon(tmp_path: Path, service: Path) -> None:
    place = find({"TFHUB_CACHE_DIR": str(tmp_path / "own")}, service)
    assert (place.kind, place.cache) == ("user", str(tmp_path / "own"))


@pytest.mark.parametrize("below", ["", "/tfhub"])
def test_the_services_own_cache_means_the_service(tmp_path: Path, service: Path, below: str) -> None:
    cache = HandmadeCache(tmp_path / "data")
    Path(f"{service}.cache").symlink_to(cache.root)
    assert find({"TFHUB_CACHE_DIR": cache.root + below}, service).kind == "service"


def test_without_a_service_the_users_own_daemon_is_meant(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "caches")}
    place = find(environ, tmp_path / "absent" / "hubd.sock")
    assert (place.kind, place.cache) == ("user", str(tmp_path / "caches" / "hubd"))


def test_a_users_socket_lies_in_the_runtime_directory(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "TFHUB_CACHE_DIR": str(tmp_path / "cache")}
    place = finding.user_place(environ)
    assert os.path.dirname(place.socket) == str(tmp_path / "hubd")


def test_a_runtime_directory_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "TFHUB_CACHE_DIR": str(tmp_path / "cache")}
    place = finding.user_place(environ)
    assert os.path.dirname(place.socket) == str(tmp_path / "cache" / "run")


@pytest.mark.parametrize("value", ["-1", "abc", "nan", "inf", "1e400"])
def test_a_timeout_that_is_no_number_of_seconds_is_told(value: str) -> None:
    with pytest.raises(RequestInvalid, match="HUBD_TIMEOUT"):
        finding.timeout_seconds({"HUBD_TIMEOUT": value})


@pytest.mark.parametrize(("value", "seconds"), [("", 30), ("0", 0), ("2.5", 2.5), ("10s", 10)])
def test_the_timeout_is_in_seconds(value: str, seconds: float) -> None:
    assert finding.timeout_seconds({"HUBD_TIMEOUT": value}) == seconds


class TestTrust:
    """Whose caches are used. The tests with several users are in `test_client_trust.py`."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> HandmadeCache:
        return HandmadeCache(tmp_path / "cache")

    def trusted(self, **environ: str) -> frozenset[int]:
        return finding.trusted_uids(environ, Place("/nowhere/hubd.sock", None, "user"))

    def test_root_and_oneself_are_trusted(self) -> None:
        assert self.trusted() == {0, os.geteuid()}

    def test_whom_the_user_named_is_trusted(self) -> None:
        assert 4711 in self.trusted(HUBD_TRUST_UID="4711")

    @pytest.mark.parametrize("value", ["alice", "-1", "1 2"])
    def test_a_trusted_uid_that_is_no_number_is_told(self, value: str) -> None:
        with pytest.raises(RequestInvalid, match="HUBD_TRUST_UID"):
            self.trusted(HUBD_TRUST_UID=value)

    @pytest.mark.parametrize("directory", ["root", "handles", "trees"])
    @pytest.mark.parametrize("mode", [0o775, 0o757])
    def test_a_cache_that_others_can_write_to_is_not_trusted(
        self, cache: HandmadeCache, directory: str, mode: int
    ) -> None:
        finding.require_trust(cache.root, self.trusted())
        os.chmod(getattr(cache.layout, directory), mode)
        with pytest.raises(CacheUntrusted, match="chmod go-w"):
            finding.require_trust(cache.root, self.trusted())

    @pytest.mark.parametrize("directory", ["handles", "trees"])
    def test_a_cache_whose_parts_lie_elsewhere_is_not_trusted(
        self, tmp_path: Path, cache: HandmadeCache, directory: str
    ) -> None:
        part = Path(getattr(cache.layout, directory))
        part.rename(tmp_path / "moved")
        part.symlink_to(tmp_path / "moved")
        with pytest.raises(CacheUntrusted, match="no directory"):
            finding.require_trust(cache.root, self.trusted())


class TestDaemonLock:
    """The socket that a cache's `daemon.lock` names."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> HandmadeCache:
        return HandmadeCache(tmp_path / "cache")

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Path:
        return tmp_path / "elsewhere.sock"

    def place(self, cache: HandmadeCache) -> Place:
        return Place(user_socket(cache.root, {}), cache.root, "user")

    def test_the_daemon_is_found_from_another_environment(self, cache: HandmadeCache, elsewhere: Path) -> None:
        cache.write_daemon_lock(str(elsewhere))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(elsewhere))
            listener.listen()
            connected = connect_to_users(self.place(cache), {})
            assert connected is not None
            connected.close()

    def test_a_daemon_of_an_earlier_boot_is_not_looked_for(self, cache: HandmadeCache, elsewhere: Path) -> None:
        cache.write_daemon_lock(str(elsewhere), boot_id="an earlier one")
        assert finding.named_socket(cache.root, {}) is None

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "7", '{"pid": 1}', '{"socket": 1, "boot_id": "x"}', "x" * 10_000, "[" * 4000, "\udcff"]
    )
    def test_a_damaged_lock_names_nothing(self, cache: HandmadeCache, text: str) -> None:
        Path(cache.layout.daemon_lock).write_bytes(text.encode(errors="surrogateescape"))
        assert finding.named_socket(cache.root, {}) is None

    @pytest.mark.parametrize("path", ["/lone-surrogate-\ud800", "/" + "a" * 200])
    def test_a_lock_with_a_path_that_no_socket_has_names_nothing(self, cache: HandmadeCache, path: str) -> None:
        cache.write_daemon_lock(path)
        assert finding.named_socket(cache.root, {}) is None

    def test_a_relative_socket_is_not_believed(self, cache: HandmadeCache) -> None:
        cache.write_daemon_lock("hubd.sock")
        assert finding.named_socket(cache.root, {}) is None

    def test_a_lock_that_others_can_write_to_is_not_believed(self, cache: HandmadeCache, elsewhere: Path) -> None:
        cache.write_daemon_lock(str(elsewhere))
        os.chmod(cache.layout.daemon_lock, 0o666)
        assert finding.named_socket(cache.root, {}) is None

    def test_a_lock_that_is_a_link_or_a_pipe_is_not_read(self, cache: HandmadeCache, tmp_path: Path) -> None:
        cache.write_daemon_lock(str(tmp_path / "s"))
        lock = Path(cache.layout.daemon_lock)
        lock.rename(tmp_path / "other")
        lock.symlink_to(tmp_path / "other")
        assert finding.named_socket(cache.root, {}) is None
        lock.unlink()
        os.mkfifo(lock)
        assert finding.named_socket(cache.root, {}) is None

    def test_a_socket_directory_that_others_may_enter_is_refused(self, cache: HandmadeCache) -> None:
        run = Path(cache.root) / "run"
        run.mkdir(mode=0o755)
        with pytest.raises(DaemonUnreachable, match="chmod 0700"):
            connect_to_users(self.place(cache), {})
