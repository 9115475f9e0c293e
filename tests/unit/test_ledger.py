"""The ledger: what is on the disk and what is set aside, never less than what is there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hubd.store.ledger import Ledger, disk_bytes


def test_disk_bytes_are_those_of_du(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "tree" / "big").write_bytes(os.urandom(100_001))
    (tmp_path / "tree" / "deep" / "small").write_bytes(b"x")
    (tmp_path / "tree" / "empty").touch()
    os.link(tmp_path / "tree" / "big", tmp_path / "tree" / "deep" / "er" / "same")
    (tmp_path / "tree" / "link").symlink_to("/usr")
    with (tmp_path / "tree" / "sparse").open("wb") as file:
        file.truncate(10_000_000)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    du = subprocess.run(["du", "-s", "-B1", tmp_path / "tree"], capture_output=True, text=True, check=True).stdout
    assert disk_bytes(str(tmp_path / "tree")) == int(du.split()[0]) < 1_000_000


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk_bytes(str(tmp_path / "nothing")) == 0


def test_a_file_is_what_it_takes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    os.sync()
    assert disk_bytes(str(tmp_path / "file")) == os.stat(tmp_path / "file").st_blocks * 512


def test_what_a_link_leads_to_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("elsewhere")
    assert disk_bytes(str(tmp_path / "link")) == os.lstat(tmp_path / "link").st_blocks * 512


def test_bytes_are_set_aside_written_and_closed() -> None:
    ledger = Ledger()
    ledger.reserve("/c/staging/a", 100)
    ledger.wrote("/c/staging/a", 30)
    ledger.set("/c/trees/t", 50)
    assert (ledger.used_bytes, ledger.unwritten_bytes) == (150, 70)
    ledger.reserve("/c/staging/a", 200)  # more, and what was written stays written
    assert (ledger.used_bytes, ledger.unwritten_bytes) == (250, 170)
    assert ledger.bytes_below("/c/staging") == 200
    ledger.close("/c/staging/a")
    assert (ledger.used_bytes, ledger.unwritten_bytes) == (50, 0)
    ledger.close("/c/trees/t")
    ledger.close("/c/trees/t")
    assert ledger.used_bytes == 0


def test_what_is_handed_over_is_counted_once() -> None:
    ledger = Ledger()
    ledger.reserve("/c/staging/a", 100)
    ledger.wrote("/c/staging/a", 90)
    ledger.set("/c/trees/t", 7)
    ledger.hand_over("/c/staging/a", "/c/trees/t", 60)
    assert (ledger.used_bytes, ledger.unwritten_bytes) == (100, 10)
    assert (ledger.bytes_of("/c/staging/a"), ledger.bytes_of("/c/trees/t")) == (40, 60)
    ledger.hand_over("/c/staging/a", "/c/trees/u", 50)  # more than was set aside is on the disk all the same
    ledger.hand_over("/c/staging/none", "/c/trees/v", 5)
    assert ledger.used_bytes == 115


steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "reserve", "wrote", "hand over", "close"]), st.sampled_from("abcd"), st.integers(0, 100)
    )
)


@given(steps)
def test_the_sum_is_that_of_the_accounts_whatever_was_done(done: list[tuple[str, str, int]]) -> None:
    ledger = Ledger()
    for what, path, size_bytes in done:
        match what:
            case "set":
                ledger.set(path, size_bytes)
            case "reserve":
                ledger.reserve(path, size_bytes)
            case "wrote":
                ledger.wrote(path, size_bytes)
            case "hand over":
                ledger.hand_over(path, "d", size_bytes)
            case "close":
                ledger.close(path)
    assert ledger.used_bytes == sum(map(ledger.bytes_of, "abcd"))
    assert 0 <= ledger.unwritten_bytes <= ledger.used_bytes
