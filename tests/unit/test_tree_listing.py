"""What a listing must be so that anything is fetched of it."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import pytest

from hubclient.contract.errors import (
    ArchiveTooLarge,
    ArchiveUnsafe,
    HubError,
    NotAModule,
    UpstreamNotFound,
    UpstreamUnavailable,
)
from hubd.config import LimitSettings
from hubd.network.tree_listing import files_of
from hubd.network.virtual_tar import File
from hubd.objects.urls import ObjectInfo, ObjectUrl

DIRECTORY = ObjectUrl("s3", "bucket", "models/m")
LIMITS = LimitSettings.model_validate({"files": 10, "module": "10KB"})
WHOLE = {"models/m/saved_model.pb": 100, "models/m/variables/variables.index": 7, "models/m/assets/vocab.txt": 0}


def listed(objects: dict[str, int], etag: str | None = '"v"') -> list[ObjectInfo]:
    return [ObjectInfo(path, size, etag, datetime(2026, 1, 1, tzinfo=UTC)) for path, size in objects.items()]


def names(objects: dict[str, int]) -> list[str]:
    return [file.name for file in files_of(listed(objects), DIRECTORY, LIMITS)]


def test_files_are_those_below_the_path_and_no_others() -> None:
    others = {"models/m": 5, "models/m2/saved_model.pb": 5, "models/saved_model.pb": 5, "other": 5}
    expected = ["saved_model.pb", "variables/variables.index", "assets/vocab.txt"]
    assert names(WHOLE | others) == expected


def test_markers_of_directories_are_no_files() -> None:
    markers = {"models/m/": 0, "models/m/variables/": 0, "models/m/variables": 0, "models/m/assets": 0}
    assert names(WHOLE | markers) == names(WHOLE)


@pytest.mark.parametrize("etag", ['"0x8D"', "0x8D"])
def test_an_etag_is_as_in_a_header_whether_the_store_lists_its_quotes_or_not(etag: str) -> None:
    (file,) = files_of(listed({"models/m/saved_model.pb": 1}, etag), DIRECTORY, LIMITS)
    assert file == File("saved_model.pb", 1, '"0x8D"')


@pytest.mark.parametrize(
    ("more", "expected", "detail"),
    [
        ({"models/m/../secret": 1}, ArchiveUnsafe, "segment"),
        ({"models/m/a/./b": 1}, ArchiveUnsafe, "segment"),
        ({"models/m//etc/passwd": 1}, ArchiveUnsafe, "segment"),
        ({"models/m/a//b": 1}, ArchiveUnsafe, "segment"),
        ({"models/m/full/": 1}, ArchiveUnsafe, "segment"),
        ({"models/m/a\\b": 1}, ArchiveUnsafe, "backslash"),
        ({"models/m/a\nb": 1}, ArchiveUnsafe, "control character"),
        ({"models/m/a\0b": 1}, ArchiveUnsafe, "control character"),
        ({"models/m/a\u2028b": 1}, ArchiveUnsafe, "control character"),
        ({"models/m/a\ud800b": 1}, ArchiveUnsafe, "control character"),
        ({"models/m/variables": 1}, ArchiveUnsafe, "both as a file and as a directory"),
        ({f"models/m/{number}": 1 for number in range(6)}, ArchiveTooLarge, "limit of 10 files"),
        ({"models/m/" + "/".join("abcdefgh"): 1}, ArchiveTooLarge, "limit of 10 files"),
        ({"models/m/big": 9_900}, ArchiveTooLarge, "10000 bytes"),
        ({"models/m/" + "d/" * 32 + "f": 1}, ArchiveUnsafe, "limit of 32 levels"),
        ({"models/m/" + "\N{SNOWMAN}" * 334: 1}, ArchiveUnsafe, "limit of 1000 bytes"),
        ({"models/m/" + "\N{SNOWMAN}" * 86: 1}, ArchiveUnsafe, "over 255 bytes"),
    ],
)
def test_what_is_no_tree_within_the_limits_is_refused(
    more: dict[str, int], expected: type[HubError], detail: str
) -> None:
    with pytest.raises(expected, match=detail) as caught:
        names(WHOLE | more)
    assert caught.value.detail.isprintable()


def test_deep_names_do_not_take_memory_for_more_directories_than_there_may_be() -> None:
    deep = {f"models/m/{number}{'n' * 240}/{'d/' * 30}f": 1 for number in range(2000)}
    few = LimitSettings.model_validate({"files": 2001})
    infos = listed(WHOLE | deep)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveTooLarge, match="limit of 2001 files"):
            files_of(infos, DIRECTORY, few)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000  # all of them would take 20 MB
    finally:
        tracemalloc.stop()


def test_what_is_listed_twice_is_refused() -> None:
    with pytest.raises(ArchiveUnsafe, match="twice"):
        files_of(listed(WHOLE) + listed(WHOLE), DIRECTORY, LIMITS)


@pytest.mark.parametrize("objects", [{}, {"models/m2/saved_model.pb": 5}, {"models/m/": 0}])
def test_nothing_below_the_path_is_no_such_directory(objects: dict[str, int]) -> None:
    with pytest.raises(UpstreamNotFound, match="no directory s3://bucket/models/m"):
        names(objects)


@pytest.mark.parametrize("objects", [{"models/m/README": 1}, {"models/m/extra/saved_model.pb": 5}])
def test_a_directory_of_something_else_is_no_module(objects: dict[str, int]) -> None:
    with pytest.raises(NotAModule, match=r"saved_model\.pb"):
        names(objects)


@pytest.mark.parametrize("etag", [None, "", '"', '"a"b"', '"a\nb"', "ä"])
def test_a_file_whose_version_cannot_be_told_is_refused(etag: str | None) -> None:
    with pytest.raises(UpstreamUnavailable, match="ETag"):
        files_of(listed(WHOLE, etag), DIRECTORY, LIMITS)
