"""`hubctl lock` writes down what modules are, `hubctl sync` brings just that, and HUBD_LOCK gives nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import tomllib
from pathlib import Path

import pytest

from hubclient.contract.errors import DigestMismatch
from hubclient.resolver import Resolver
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.origin import Answer, Origin

MODULE = {"saved_model.pb": b"\x08\x01\x12\x00", "variables/variables.index": b"index" * 1000}
ARCHIVE = archive(MODULE)
OTHER_ARCHIVE = archive({**MODULE, "assets/vocab.txt": b"the of and"})
REPACKED = gzip.compress(gzip.decompress(ARCHIVE), 1)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "hub.lock"


def locked(lock: Path) -> dict[str, dict[str, object]]:
    return {module["handle"]: module for module in tomllib.loads(lock.read_text())["module"]}


def test_lock_writes_what_the_modules_are_and_keeps_what_else_the_file_has(
    shared_daemon: Daemon, origin: Origin, lock: Path
) -> None:
    one, two = (origin.serve(path, Answer(body)) for path, body in (("/m/1", ARCHIVE), ("/m/2", OTHER_ARCHIVE)))
    done = hubctl(shared_daemon, "lock", two, "-o", str(lock))
    assert (done.returncode, done.stdout) == (0, f"added  {two}\n"), done.stderr
    done = hubctl(shared_daemon, "lock", one + "#top", one, "-o", str(lock))
    assert (done.returncode, done.stdout) == (0, f"added  {one}\n"), done.stderr
    assert list(locked(lock)) == [one, two]
    module = shared_daemon.request("GET", f"/v1/modules/{hashlib.sha256(one.encode()).hexdigest()}")[1]
    assert locked(lock)[one] == {
        "handle": one,
        "digest": "sha256:" + hashlib.sha256(ARCHIVE).hexdigest(),
        "content_digest": "sha256:" + module["content_digest"],
        "size_bytes": sum(map(len, MODULE.values())),
    }
    before = lock.stat()
    again = hubctl(shared_daemon, "lock", "-o", str(lock))
    assert again.stdout == f"same  {one}\nsame  {two}\n"
    assert lock.stat() == before, "what is the same is not written again"
    shown = hubctl(shared_daemon, "lock", one, two, "-o", "-")
    assert shown.stdout.encode() == lock.read_bytes()


def test_a_lock_file_may_be_a_link_and_may_be_empty(shared_daemon: Daemon, origin: Origin, lock: Path) -> None:
    lock.write_text("version = 1\n")
    link = lock.with_name("link.lock")
    link.symlink_to(lock.name)
    assert hubctl(shared_daemon, "lock", "-o", str(link)).stdout == ""
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    assert hubctl(shared_daemon, "lock", handle, "-o", str(link)).returncode == 0
    assert (link.is_symlink(), list(locked(lock))) == (True, [handle])


def test_lock_leaves_the_file_alone_when_a_module_cannot_be_had(
    shared_daemon: Daemon, origin: Origin, lock: Path
) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    assert hubctl(shared_daemon, "lock", handle, "-o", str(lock)).returncode == 0
    before = lock.read_bytes()
    other = origin.serve("/m/2", Answer(ARCHIVE))
    failed = hubctl(shared_daemon, "lock", other, origin.url("/none/1"), "-o", str(lock))
    assert (failed.returncode, failed.stdout) == (4, "")
    assert f"{lock} stays as it is" in failed.stderr
    lock.write_text("no lock file")
    failed = hubctl(shared_daemon, "lock", handle, "-o", str(lock))
    assert (failed.returncode, lock.read_text()) == (1, "no lock file")
    assert "[request-invalid]" in failed.stderr
    lock.write_bytes(before)
    assert hubctl(shared_daemon, "lock", "./m", "-o", str(lock)).returncode == 1
    assert lock.read_bytes() == before


def test_lock_asks_for_changes_when_told_and_says_what_changed(
    shared_daemon: Daemon, origin: Origin, lock: Path
) -> None:
    handle = origin.serve("/m/latest", Answer(ARCHIVE, etag='"1"'))
    hubctl(shared_daemon, "lock", handle, "-o", str(lock))
    origin.serve("/m/latest", Answer(OTHER_ARCHIVE, etag='"2"'))
    assert hubctl(shared_daemon, "lock", handle, "-o", str(lock)).stdout == f"same  {handle}\n"
    done = hubctl(shared_daemon, "lock", "--refresh", "--json", HUBD_LOCK=str(lock))
    told = json.loads(done.stdout)
    assert told["lock"] == str(lock)
    assert [(module["change"], module["digest"]) for module in told["modules"]] == [
        ("changed", hashlib.sha256(OTHER_ARCHIVE).hexdigest())
    ]


def test_sync_fetches_what_is_missing_and_names_each_module_that_is_another(
    shared_daemon: Daemon, daemon: Daemon, origin: Origin, lock: Path
) -> None:
    handles = [origin.serve(f"/m/{number}", Answer(ARCHIVE)) for number in range(3)]
    assert hubctl(shared_daemon, "lock", *handles, "-o", str(lock)).returncode == 0
    origin.serve("/m/1", Answer(OTHER_ARCHIVE))
    failed = hubctl(daemon, "sync", "--lock", str(lock))
    assert failed.returncode == 1
    assert failed.stdout.splitlines() == [f"fetched  {handles[0]}", f"failed   {handles[1]}", f"fetched  {handles[2]}"]
    assert f"the content of {handles[1]} is" in failed.stderr
    assert "[digest-mismatch]" in failed.stderr
    assert "2 of 3 modules" in failed.stderr
    assert hubctl(daemon, "lock", handles[1], "-o", str(lock)).stdout == f"changed  {handles[1]}\n"
    done = hubctl(daemon, "sync", HUBD_LOCK=str(lock))
    assert (done.returncode, done.stdout) == (0, "".join(f"cached  {handle}\n" for handle in handles))
    daemon.kill()
    cached = hubctl(daemon, "get", "--quiet", *handles, HUBD_LOCK=str(lock))
    assert len(cached.stdout.splitlines()) == 3


def test_sync_tells_all_in_json(shared_daemon: Daemon, origin: Origin, lock: Path) -> None:
    one, two = (origin.serve(path, Answer(ARCHIVE)) for path in ("/m/1", "/m/2"))
    hubctl(shared_daemon, "lock", one, two, "-o", str(lock))
    lock.write_text(lock.read_text().replace(two, origin.url("/none/1")))
    done = hubctl(shared_daemon, "sync", "--lock", str(lock), "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert [(module["outcome"], (module["problem"] or {}).get("code")) for module in told["modules"]] == [
        ("cached", None),
        ("failed", "upstream-not-found"),
    ]
    missing = hubctl(shared_daemon, "sync", "--lock", str(lock) + ".none")
    assert (missing.returncode, "[request-invalid]" in missing.stderr) == (1, True)


def test_with_a_lock_file_get_refuses_other_handles_and_other_content(
    daemon: Daemon, origin: Origin, lock: Path
) -> None:
    handle, other = origin.serve("/m/latest", Answer(ARCHIVE)), origin.serve("/n/1", Answer(ARCHIVE))
    hubctl(daemon, "lock", handle, "-o", str(lock))
    hubctl(daemon, "get", other)
    for options in (["--quiet"], ["--refresh", "--json"]):
        refused = hubctl(daemon, "get", *options, other, HUBD_LOCK=str(lock))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "handle-forbidden" in refused.stderr
        assert "allowed_hosts" not in refused.stderr
    both = hubctl(daemon, "get", handle, other, HUBD_LOCK=str(lock))
    assert (both.returncode, len(both.stdout.splitlines())) == (1, 1), "the one that is in it is answered"
    origin.serve("/m/latest", Answer(OTHER_ARCHIVE))
    assert hubctl(daemon, "get", "--refresh", handle).returncode == 0
    moved = hubctl(daemon, "get", handle, HUBD_LOCK=str(lock))
    assert (moved.returncode, moved.stdout) == (1, "")
    assert f"{handle}" in moved.stderr
    assert "[digest-mismatch]" in moved.stderr
    assert "`hubctl lock HANDLE -o FILE`" in moved.stderr


def test_an_archive_that_was_packed_anew_is_what_the_lock_file_means(
    shared_daemon: Daemon, daemon: Daemon, origin: Origin, lock: Path
) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    hubctl(shared_daemon, "lock", handle, "-o", str(lock))
    origin.serve("/m/1", Answer(REPACKED))
    environ = {**daemon.client_environ, "HUBD_LOCK": str(lock)}
    path = Resolver(environ).resolve(handle)
    assert Path(path).parent.name == hashlib.sha256(REPACKED).hexdigest() != hashlib.sha256(ARCHIVE).hexdigest()
    with pytest.raises(DigestMismatch):
        Resolver(daemon.client_environ).resolve(handle, digest=hashlib.sha256(ARCHIVE).hexdigest())
    assert hubctl(daemon, "sync", "--lock", str(lock)).stdout == f"cached  {handle}\n"
    daemon.kill()
    again = Resolver({**environ, "HUBD_TIMEOUT": "0"})
    assert again.resolve(handle) == path, "by its manifest, without the daemon"
