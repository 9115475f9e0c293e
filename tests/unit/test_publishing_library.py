"""What a directory of modules is found to hold, and when."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from pathlib import Path

import pytest
import watchfiles

from hubd.publishing import library as module
from hubd.publishing.library import Library
from tests.support.library import AT_ONCE, put, put_archive
from tests.support.uids import ALICE, as_user, directory_of, needs_root


def scanned(root: Path) -> Library:
    library = Library(root, quiet_seconds=AT_ONCE)
    library.scan()
    return library


def names(library: Library) -> list[str]:
    return [version.name for model in library.models() for version in model.versions]


def test_models_are_listed_by_name_and_versions_newest_first(tmp_path: Path) -> None:
    for name in ("lab/nnlm/2", "lab/nnlm/10", "lab/nnlm/0", "kaggle/2024/deep/er/1", "alone/1"):
        put(tmp_path, name)
    put_archive(tmp_path, "lab/nnlm/3")
    library = scanned(tmp_path)
    assert names(library) == ["alone/1", "kaggle/2024/deep/er/1", *(f"lab/nnlm/{n}" for n in (10, 3, 2, 0))]
    model = library.find("lab/nnlm")
    assert model is not None
    assert [version.is_archive for version in model.versions] == [False, True, False, False]
    assert model.version(3) is model.versions[1]
    assert (model.version(4), library.find("lab"), library.find("lab/nnlm/10")) == (None, None, None)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("lab/m/.1", "hidden"),
        ("lab/m/1.part", "not finished"),
        ("lab/m/1.tmp", "not finished"),
        ("lab/.m/1", "hidden"),
        ("lab/m/01", "no version"),
        ("lab/m/v1", "no version"),
        ("lab/m/-1", "no version"),
        ("lab/m/1.0", "no version"),
        ("lab/m/\N{ARABIC-INDIC DIGIT ONE}", "no version"),
        ("lab/m/" + "1" * 19, "no version"),
        ("lab/7/1", "by no number"),
        ("1", "by no number"),
        ("-/m/1", "the host's own"),
        ("api/models/1", "the host's own"),
        ("lab/new\nline/1", "cannot be printed"),
        ("lab/ m/1", "cannot be printed"),
        (b"lab/\xff/1", "not UTF-8"),
        ("/".join("abcdefghijklmnopq") + "/1", "deep"),
    ],
)
def test_what_has_no_proper_name_is_ignored_and_the_log_says_why(
    path: str | bytes, complaint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(tmp_path, "lab/good/1")
    put(tmp_path, os.fsdecode(path))
    library = scanned(tmp_path)
    assert names(library) == ["lab/good/1"]
    library.scan()
    assert len([record for record in caplog.records if complaint in record.getMessage()]) == 1


def test_names_with_spaces_and_of_all_languages_are_names(tmp_path: Path) -> None:
    for name in ("größe/日本 語/1", "<img src=x>/a?b#c%2e/1"):
        put(tmp_path, name)
    assert names(scanned(tmp_path)) == ["<img src=x>/a?b#c%2e/1", "größe/日本 語/1"]


def test_what_is_no_module_is_ignored_and_the_log_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    put(tmp_path, "lab/good/1")
    put(tmp_path, "lab/empty/1", {"notes.txt": b""})
    (tmp_path / "lab/good/README.md").write_text("# For all versions")
    (tmp_path / "lab/good/weights.h5").write_text("")
    (tmp_path / "lab/linked").symlink_to(tmp_path / "lab/good")
    (tmp_path / "lab/good/2").symlink_to(tmp_path / "lab/good/1")
    os.mkfifo(tmp_path / "lab/pipe")
    put(tmp_path, "lab/link/1", {"notes": b""})
    (tmp_path / "lab/link/1/saved_model.pb").symlink_to("/etc/passwd")
    assert names(scanned(tmp_path)) == ["lab/good/1"]
    said = {
        record.getMessage().removeprefix(f"{tmp_path}/").partition(" ")[0]
        for record in caplog.records
        if record.getMessage().startswith(str(tmp_path))
    }
    assert said >= {"lab/empty/1/notes.txt", "lab/good/weights.h5", "lab/linked", "lab/good/2", "lab/pipe"}
    assert said >= {"lab/link/1/saved_model.pb"}


def test_a_directory_goes_before_an_archive_of_the_same_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "lab/m/1")
    put_archive(tmp_path, "lab/m/1")
    model = scanned(tmp_path).find("lab/m")
    assert model is not None
    assert [version.is_archive for version in model.versions] == [False]
    assert "1.tar.gz is ignored: a directory of this version is there" in caplog.text


def test_what_is_still_written_to_is_not_there_yet(tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1")
    library = Library(tmp_path, quiet_seconds=1000)
    assert library.scan(), "another look is due"
    assert library.scan()
    assert names(library) == []


def test_a_clock_that_is_behind_delays_a_version_only(tmp_path: Path) -> None:
    os.utime(put(tmp_path, "lab/m/1"), (0, time.time() + 10_000))
    library = Library(tmp_path, quiet_seconds=AT_ONCE)
    assert library.scan()
    assert names(library) == []
    assert not library.scan(), "it has looked the same for long enough"
    assert names(library) == ["lab/m/1"]


def test_a_version_that_changes_is_away_until_it_is_left_alone(tmp_path: Path) -> None:
    path = put(tmp_path, "lab/m/1")
    library = scanned(tmp_path)
    before = library.models()[0].versions[0]
    library._quiet_seconds = 1000
    (path / "saved_model.pb").write_bytes(b"other")
    library.scan()
    assert library.models() == ()
    library._quiet_seconds = AT_ONCE
    library.scan()
    assert library.models()[0].versions[0].stamp != before.stamp


def test_a_module_of_endless_depth_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "lab/good/1")
    at = put(tmp_path, "lab/deep/1")
    for _ in range(100):
        (at := at / "d").mkdir()
    assert names(scanned(tmp_path)) == ["lab/good/1"]
    assert "nested more than 64 deep" in caplog.text


@needs_root
def test_a_directory_that_may_not_be_read_hides_no_other() -> None:
    with directory_of(ALICE) as directory:
        root = Path(directory)
        put(root, "lab/good/1")
        put(root, "secret/m/1")
        (root / "secret").chmod(0)
        assert as_user(ALICE, lambda: names(scanned(root))) == ["lab/good/1"]


async def _until(library: Library, expected: list[str], scans: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        while names(library) != expected:
            scans.clear()
            await scans.wait()


async def test_versions_come_and_go_while_it_watches(tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1")
    library, scans = scanned(tmp_path), asyncio.Event()
    library._quiet_seconds = 0.2
    watching = asyncio.create_task(library.watch(scans.set))
    await _until(library, ["lab/m/1"], scans)
    (tmp_path / "lab/m/.2.part").mkdir()
    put(tmp_path, "lab/m/2")
    await _until(library, ["lab/m/2", "lab/m/1"], scans)
    shutil.rmtree(tmp_path / "lab/m/1")
    await _until(library, ["lab/m/2"], scans)
    watching.cancel()


async def test_without_a_watch_it_is_looked_at_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(module, "_SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(watchfiles, "awatch", none_left)
    library, scans = scanned(tmp_path), asyncio.Event()
    watching = asyncio.create_task(library.watch(scans.set))
    put(tmp_path, "lab/m/1")
    await _until(library, ["lab/m/1"], scans)
    tmp_path.rename(tmp_path.with_name("moved"))
    scans.clear()
    async with asyncio.timeout(20):
        await scans.wait()
    assert names(library) == ["lab/m/1"], "a root that cannot be read changes nothing"
    tmp_path.with_name("moved").rename(tmp_path)
    watching.cancel()
