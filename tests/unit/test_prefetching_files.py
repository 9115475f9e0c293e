"""The directory of prefetch files: who may have written them, what a broken one means, and links in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient.contract.lock_file import Locked, dump
from hubd.prefetching import files
from hubd.prefetching.files import Listing, is_prefetch_file, read_directory
from tests.support.uids import ALICE, needs_root

ONE, TWO = "https://h.example/one/1", "https://h.example/two/1"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "prefetch.d"
    path.mkdir(mode=0o755)
    return path


def write(directory: Path, name: str, text: str = f'handles = ["{ONE}"]') -> Path:
    """As whoever knows how does it: by a rename."""
    staged = directory / f".{name}"
    staged.write_text(text)
    staged.chmod(0o644)
    return staged.rename(directory / name)


def read(directory: Path, before: Listing | None = None) -> Listing:
    return read_directory(str(directory), before or Listing())


def problem(directory: Path, name: str = "a.toml") -> str:
    told = read(directory).files[name].problem
    assert told is not None
    return told


def handles(listing: Listing, name: str = "a.toml") -> list[str]:
    plan = listing.files[name].plan
    return [one.handle for one in plan.modules] if plan is not None else []


def test_what_is_no_prefetch_file_is_left_alone(directory: Path) -> None:
    for name in ("a.toml", ".a.toml.swp", ".hidden.toml", "#a.toml#", ".#a.toml", "a.toml~", "4913", "hub.lock"):
        (directory / name).write_text("nonsense")
    assert list(read(directory).files) == ["a.toml"]
    assert not is_prefetch_file("\udcff.toml")


def test_a_file_is_read_again_only_when_it_has_changed(directory: Path) -> None:
    write(directory, "a.toml")
    write(directory, "b.toml")
    first = read(directory)
    write(directory, "a.toml", f'handles = ["{TWO}"]')
    second = read(directory, first)
    assert second.files["b.toml"] is first.files["b.toml"]
    assert (handles(first), handles(second)) == ([ONE], [TWO])
    assert read(directory, second) == second


def test_a_broken_file_keeps_its_meaning_until_it_is_mended_or_gone(directory: Path) -> None:
    write(directory, "a.toml")
    before = read(directory)
    write(directory, "a.toml", "handles = [")
    broken = read(directory, before)
    assert "no TOML" in (broken.files["a.toml"].problem or "")
    assert handles(broken) == [ONE]
    write(directory, "a.toml", f'handles = ["{TWO}"]')
    mended = read(directory, broken)
    assert (mended.files["a.toml"].problem, handles(mended)) == (None, [TWO])
    (directory / "a.toml").unlink()
    assert read(directory, mended).files == {}


def test_one_that_never_was_right_means_nothing_and_spoils_no_other(directory: Path) -> None:
    write(directory, "a.toml", f'handels = ["{ONE}"]')
    write(directory, "b.toml")
    listing = read(directory)
    assert listing.files["a.toml"].plan is None
    assert 'did you mean "handles"?' in problem(directory)
    assert handles(listing, "b.toml") == [ONE]


def test_a_lock_file_beside_it_belongs_to_it(directory: Path) -> None:
    write(directory, "a.toml", 'lock = "hub.lock"')
    assert "its lock file hub.lock cannot be read: No such file" in problem(directory)
    before = read(directory)
    write(directory, "hub.lock", dump([Locked(TWO, "1" * 64, "2" * 64, 3)]).decode())
    found = read(directory, before)
    assert handles(found) == [TWO]
    assert found.files["a.toml"].plan is not None
    assert found.files["a.toml"].plan.modules[0][2:] == ("1" * 64, "2" * 64)
    write(directory, "hub.lock", "version = 7")
    assert "its lock file hub.lock: its version is 7" in (read(directory, found).files["a.toml"].problem or "")


def test_what_is_too_large_is_not_even_read(directory: Path) -> None:
    write(directory, "a.toml", 'lock = "hub.lock"')
    os.truncate(write(directory, "hub.lock", ""), 5 << 20)
    assert problem(directory) == "its lock file hub.lock: it has more than 4194304 bytes"
    os.truncate(directory / "a.toml", 1 << 40)
    assert problem(directory) == "it has more than 1048576 bytes"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_what_others_can_write_is_refused(directory: Path, mode: int) -> None:
    write(directory, "a.toml").chmod(mode)
    assert f"it can be written by others (mode {mode:04o}): chmod go-w this file" in problem(directory)


@needs_root
def test_what_belongs_to_somebody_else_is_refused(directory: Path) -> None:
    os.chown(write(directory, "a.toml"), ALICE, ALICE)
    assert f"it belongs to uid {ALICE}: chown this file" in problem(directory)


@pytest.mark.parametrize("what", ["out", "dangling", "directory", "fifo"])
def test_what_is_no_file_of_the_directory_is_refused(directory: Path, tmp_path: Path, what: str) -> None:
    path = directory / "a.toml"
    match what:
        case "out":
            (tmp_path / "elsewhere").write_text(f'handles = ["{ONE}"]')
            path.symlink_to(tmp_path / "elsewhere")
        case "dangling":
            path.symlink_to("nowhere")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    expected = {"out": "leads out of the directory", "dangling": "No such file"}.get(what, "no regular file")
    assert expected in problem(directory)


def test_links_within_the_directory_are_how_kubernetes_puts_files_there(directory: Path) -> None:
    for version, handle in (("..1", ONE), ("..2", TWO)):
        (directory / version).mkdir(mode=0o755)
        (directory / version / "a.toml").write_text(f'handles = ["{handle}"]')
    (directory / "..data").symlink_to("..1")
    (directory / "a.toml").symlink_to("..data/a.toml")
    first = read(directory)
    (directory / "..next").symlink_to("..2")
    (directory / "..next").rename(directory / "..data")
    assert (handles(first), handles(read(directory, first))) == ([ONE], [TWO])


def test_a_file_that_is_renamed_under_the_eyes_of_a_look_is_not_missed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = write(directory, "b.toml")
    before = read(directory)

    def then_it_is_renamed(path: str, listdir: Callable[[str], list[str]] = os.listdir) -> list[str]:
        names = listdir(path)
        if renamed.exists():
            renamed.rename(directory / "a.toml")
        return names

    monkeypatch.setattr(os, "listdir", then_it_is_renamed)
    assert handles(read(directory, before)) == [ONE]


def test_a_directory_that_others_can_write_means_no_more_than_before(directory: Path) -> None:
    write(directory, "a.toml")
    before = read(directory)
    directory.chmod(0o777)
    write(directory, "b.toml", f'handles = ["{TWO}"]')
    after = read(directory, before)
    assert after.files == before.files
    assert "can be written by others (mode 0777): chmod go-w this directory" in (after.problem or "")
    directory.chmod(0o755)
    assert read(directory, after).problem is None


_READ_ONLY = """
set -e
mount -t tmpfs -o mode=755 none "$1"
mkdir -m 777 -p "$1/$4"
chmod 777 "$1/$4"
printf 'handles = ["https://h.example/one/1"]' > "$1/$4/a.toml"
chmod 644 "$1/$4/a.toml"
mount -o remount,ro "$1"
exec "$2" -P -c "$3" "$1/$4"
"""
_PROGRAM = """
import sys
from hubd.prefetching.files import Listing, read_directory
listing = read_directory(sys.argv[1], Listing())
print(list(listing.files), listing.problem)
"""


@pytest.mark.parametrize(("below", "told"), [(".", "['a.toml'] None"), ("sub", "can be written by others (mode 0777)")])
def test_nobody_writes_to_a_mount_of_its_own_that_is_read_only(directory: Path, below: str, told: str) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here, in which to mount something")
    command = [*unshare, "sh", "-c", _READ_ONLY, "-", str(directory), sys.executable, _PROGRAM, below]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert told in done.stdout


def test_a_directory_that_is_gone_has_no_files(directory: Path) -> None:
    gone = read_directory(f"{directory}/gone", read(directory))
    assert (gone.files, "is no directory" in (gone.problem or "")) == ({}, True)
    assert read_directory(f"{directory}/gone", Listing(), must_exist=False) == Listing()


def test_there_are_not_more_files_than_can_be_kept(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 2)
    for name in ("a.toml", "b.toml", "c.toml"):
        write(directory, name)
    listing = read(directory)
    assert list(listing.files) == ["a.toml", "b.toml"]
    assert "more than 2 files" in (listing.problem or "")
