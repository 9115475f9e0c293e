"""Adoption: what becomes a cache, what is refused and left as it was, and that a cache has one daemon."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from hubclient.contract import mounts, places
from hubclient.contract.lease import Lease
from hubd.store.adoption import CacheUnusable, adopt
from hubd.store.hold import CacheHold
from hubd.store.layout import StoreLayout

_LAYOUT_NAMES = ["CACHEDIR.TAG", "daemon.lock", "handles", "staging", "tfhub", "trash", "trees"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a" / "cache"


def _adopt(root: Path) -> CacheHold:
    return adopt(str(root), socket="/run/user/1/hubd/s.sock")


def test_a_cache_is_made_with_the_design_s_modes_whatever_the_umask(root: Path) -> None:
    umask = os.umask(0o077)
    try:
        _adopt(root).close()
    finally:
        os.umask(umask)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {
        "CACHEDIR.TAG": 0o644,
        "daemon.lock": 0o644,
        "layout": 0o644,
        "handles": 0o711,
        "trees": 0o711,
        "tfhub": 0o711,
        "staging": 0o700,
        "trash": 0o700,
    }
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, root.parent)] == [0o755, 0o755]
    assert (root / "layout").read_text() == "1\n"
    assert (root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert not any((root / "staging").iterdir())


def test_daemon_lock_names_the_daemon_and_is_locked_while_it_lives(root: Path) -> None:
    with _adopt(root) as hold:
        assert json.loads((root / "daemon.lock").read_text()) == {
            "pid": os.getpid(),
            "boot_id": places.boot_id(),
            "socket": "/run/user/1/hubd/s.sock",
            "clean_point": hold.clean_point,
        }
        with pytest.raises(BlockingIOError):
            Lease.share(hold.layout.daemon_lock)
    Lease.share(hold.layout.daemon_lock).release()


def test_a_second_daemon_is_told_pid_and_socket_of_the_first(root: Path) -> None:
    with _adopt(root):
        before = (root / "daemon.lock").read_text()
        with pytest.raises(CacheUnusable, match=rf"pid {os.getpid()}, socket /run/user/1/hubd/s\.sock"):
            adopt(str(root), socket="/other.sock")
        assert (root / "daemon.lock").read_text() == before
    adopt(str(root), socket="/other.sock").close()


def test_two_daemons_adopting_at_once_end_with_one(root: Path) -> None:
    for round_ in range(10):
        outcomes = _adopt_at_once(root / str(round_), daemons=4)
        holds = [outcome for outcome in outcomes if isinstance(outcome, CacheHold)]
        refusals = [str(outcome) for outcome in outcomes if isinstance(outcome, CacheUnusable)]
        assert (len(holds), len(refusals)) == (1, 3), outcomes
        assert all("another hubd holds" in refusal for refusal in refusals), refusals
        assert not [name for name in os.listdir(root / str(round_)) if name.startswith(".")]
        holds[0].close()


def _adopt_at_once(cache: Path, daemons: int) -> list[CacheHold | Exception]:
    start = threading.Barrier(daemons)
    outcomes: list[CacheHold | Exception] = []

    def daemon() -> None:
        start.wait()
        try:
            outcomes.append(_adopt(cache))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=daemon) for _ in range(daemons)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_daemon_whose_staging_was_deleted_still_holds_its_cache(root: Path) -> None:
    with _adopt(root):
        (root / "staging").rmdir()
        with pytest.raises(CacheUnusable, match="another hubd holds"):
            _adopt(root)


def test_entries_of_tensorflow_hub_and_a_runtime_directory_stay_as_they_are(root: Path) -> None:
    entry = root / ("0" * 40)
    entry.mkdir(parents=True)
    (entry / "saved_model.pb").write_bytes(b"theirs")
    (root / "run").mkdir(mode=0o700)
    before = {path: path.lstat() for path in (entry, entry / "saved_model.pb", root / "run")}
    _adopt(root).close()
    assert {path: path.lstat() for path in before} == before


@pytest.mark.parametrize("name", _LAYOUT_NAMES)
def test_a_directory_with_a_name_of_the_layout_is_refused_and_left_as_it_was(root: Path, name: str) -> None:
    root.mkdir(parents=True)
    (root / name).symlink_to("nowhere")  # a name is in the way whatever it is
    with pytest.raises(CacheUnusable, match=f"in the way: {name}"):
        _adopt(root)
    assert os.listdir(root) == [name]


def test_every_name_of_the_layout_is_known(root: Path) -> None:
    with _adopt(root) as hold:
        assert sorted(hold.layout.names) == _LAYOUT_NAMES
        assert sorted(os.listdir(root)) == sorted([*_LAYOUT_NAMES, "layout"])


@pytest.mark.parametrize("content", ["2\n", "999"])
def test_a_newer_layout_is_refused_and_left_as_it_was(root: Path, content: str) -> None:
    root.mkdir(parents=True)
    (root / "layout").write_text(content)
    with pytest.raises(CacheUnusable, match=f"layout version {int(content)}.*upgrade hubd"):
        _adopt(root)
    assert os.listdir(root) == ["layout"]


@pytest.mark.parametrize("content", ["", "one", "1" * 100_000])
def test_a_damaged_layout_file_is_refused(root: Path, content: str) -> None:
    root.mkdir(parents=True)
    (root / "layout").write_text(content)
    with pytest.raises(CacheUnusable, match="does not hold a layout version"):
        _adopt(root)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_root_that_others_can_write_to_is_refused_with_the_remedy(root: Path, mode: int) -> None:
    root.mkdir(parents=True)
    root.chmod(mode)
    with pytest.raises(CacheUnusable, match=f"chmod go-w {root}"):
        _adopt(root)
    assert os.listdir(root) == []
    assert stat.S_IMODE(root.stat().st_mode) == mode


@pytest.mark.parametrize("name", ["staging", "trees", "handles", "tfhub", "trash"])
def test_a_directory_inside_that_others_can_write_to_or_that_is_a_link_is_refused(root: Path, name: str) -> None:
    _adopt(root).close()
    (root / name).chmod(0o777)
    with pytest.raises(CacheUnusable, match=f"{root / name} can be written to by others"):
        _adopt(root)
    (root / name).rmdir()
    (root / name).symlink_to(root.parent)
    with pytest.raises(CacheUnusable, match=f"{root / name} is not a directory"):
        _adopt(root)


def test_a_file_in_the_place_of_the_root_or_above_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnusable, match="is not a directory"):
        _adopt(tmp_path / "file")
    with pytest.raises(CacheUnusable, match="Not a directory"):
        _adopt(tmp_path / "file" / "cache")


def test_what_a_cleaner_took_away_is_made_again(root: Path) -> None:
    _adopt(root).close()
    for name in ("staging", "trash", "handles", "trees", "tfhub"):
        (root / name).rmdir()
    (root / "CACHEDIR.TAG").unlink()
    (root / "daemon.lock").unlink()
    _adopt(root).close()
    assert sorted(os.listdir(root)) == sorted([*_LAYOUT_NAMES, "layout"])


def test_a_link_to_the_root_is_followed_once(root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    with _adopt(tmp_path / "link") as hold:
        assert hold.layout.root == str(root)
        with pytest.raises(CacheUnusable, match="another hubd holds"):
            _adopt(root)


def test_the_file_system_of_a_directory_is_the_kernel_s_answer(tmp_path: Path) -> None:
    assert mounts.file_system("/proc") == "proc"
    assert not mounts.is_network(mounts.file_system(str(tmp_path)))


@pytest.mark.parametrize(
    ("mount_id", "expected"),
    [(41, "nfs4"), (42, "fuse.sshfs"), (43, "ext4"), (44, "cifs"), (45, "")],
)
def test_a_mount_is_found_by_its_id(mount_id: int, expected: str) -> None:
    mountinfo = (
        "41 28 0:50 / /net/home rw,relatime shared:7 master:2 - nfs4 server:/home rw,vers=4.2\n"
        "42 28 0:51 / /mnt/my\\040disk - fuse.sshfs user@host:/ rw\n"
        "43 28 254:0 / /a rw - ext4 /dev/vda rw\n"
        "44 43 0:52 / /a rw - cifs //server/a rw\n"
    )
    assert mounts.type_of_mount(mountinfo, mount_id) == expected


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.sshfs", "glusterfs", "afs"]
)
def test_network_file_systems_are_known(kind: str) -> None:
    assert mounts.is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.fuse-overlayfs", "fuseblk", ""]
)
def test_local_file_systems_are_not_refused(kind: str) -> None:
    assert not mounts.is_network(kind)


def test_a_network_file_system_is_refused_with_the_remedy_unless_allowed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system cannot be mounted in a test, so the kernel's answer is put in its place."""
    monkeypatch.setattr(mounts, "file_system", lambda directory: "nfs4")
    with pytest.raises(CacheUnusable, match=r"network file system \(nfs4\).*cache\.allow_network_filesystem = true"):
        _adopt(root)
    assert not root.parent.exists()
    adopt(str(root), socket="/s", allow_network_filesystem=True).close()


def test_staging_names_are_never_the_same() -> None:
    layout = StoreLayout("/c")
    assert len({layout.new_staging() for _ in range(1000)} | {layout.new_trash() for _ in range(1000)}) == 2000
