"""Hostile and damaged archives, one by one, through the real unpacking child: refused, named, and in little memory."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubclient.contract.errors import (
    ArchiveCorrupt,
    ArchiveTooLarge,
    ArchiveUnsafe,
    DiskFull,
    HubError,
    Internal,
    NotAModule,
)
from hubd.unpacking.names import ArchiveLimits, Namespace
from hubd.unpacking.supervisor import Unpacker
from tests.support.archives import (
    END,
    MODULE,
    archive,
    compressed,
    directory,
    extended,
    field,
    file,
    header,
    members,
    padded,
    pax,
    saved_model,
    with_extra,
)
from tests.support.unpacking import LIMITS, contents, prepare, run

MAX_PEAK_RSS_BYTES = 48 * 1024 * 1024  # the interpreter itself takes about 20 MB

ESCAPED = "escaped"  # no file of this name may ever appear


def deep(levels: int) -> str:
    return "/".join("d" * levels)


UNSAFE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent directory": (lambda: with_extra(file(f"../{ESCAPED}")), "'..'"),
    "parent directory inside": (lambda: with_extra(file(f"a/../../{ESCAPED}")), "'..'"),
    "parent directory at the end": (lambda: with_extra(directory("a/..")), "'..'"),
    "parent directory in a GNU name": (
        lambda: with_extra(extended(b"L", f"../{ESCAPED}\0".encode()), file("x")),
        "'..'",
    ),
    "parent directory in a pax path": (lambda: with_extra(pax(path=f"../{ESCAPED}"), file("x")), "'..'"),
    "parent directory in the prefix": (lambda: with_extra(header(ESCAPED, prefix=b"..")), "'..'"),
    "absolute path": (lambda: with_extra(file(f"/tmp/{ESCAPED}")), "absolute"),
    "absolute path in a pax path": (lambda: with_extra(pax(path=f"/tmp/{ESCAPED}"), file("x")), "absolute"),
    "absolute path behind a dot": (lambda: with_extra(file(f".//{ESCAPED}")), "the segment ''"),
    "dot inside": (lambda: with_extra(file("a/./b")), "'.'"),
    "empty segment": (lambda: with_extra(file("a//b")), "the segment ''"),
    "empty name": (lambda: with_extra(file("")), "no name"),
    "empty name in a pax path": (lambda: with_extra(pax(path=""), file("x")), "no name"),
    "empty GNU name": (lambda: with_extra(extended(b"L", b"\0"), file("x")), "no name"),
    "root as a file": (lambda: with_extra(file("./")), "no name for a file"),
    "file with a slash behind it": (lambda: with_extra(file("a/")), "no name for a file"),
    "NUL in a name": (lambda: with_extra(file(b"good\0evil")), "NUL"),
    "NUL in a GNU name": (lambda: with_extra(extended(b"L", b"good\0evil\0"), file("x")), "NUL"),
    "NUL in a pax path": (lambda: with_extra(pax(path=b"good\0evil"), file("x")), "control"),
    "newline in a name": (lambda: with_extra(file("a\nb")), "control"),
    "escape sequence in a name": (lambda: with_extra(file("a\x1b[2Jb")), "control"),
    "C1 control in a name": (lambda: with_extra(file("a\x9bb")), "control"),
    "name that is not UTF-8": (lambda: with_extra(file(b"\xff\xfe")), "not UTF-8"),
    "surrogate in a name": (lambda: with_extra(file(b"\xed\xa0\x80")), "not UTF-8"),
    "overlong slash in a name": (lambda: with_extra(file(b"..\xc0\xaf" + ESCAPED.encode())), "not UTF-8"),
    "symbolic link": (lambda: with_extra(header("l", kind=b"2", link=b"/etc/passwd")), "'l' is a symbolic link"),
    "symbolic link to write through": (
        lambda: with_extra(header("l", kind=b"2", link=b".."), file(f"l/{ESCAPED}")),
        "a symbolic link",
    ),
    "hard link": (lambda: with_extra(header("l", kind=b"1", link=b"/etc/passwd")), "a hard link"),
    "hard link with content": (lambda: with_extra(header("l", 3, b"1", link=b"x"), padded(b"abc")), "a hard link"),
    "character device": (lambda: with_extra(header("d", kind=b"3")), "a character device"),
    "block device": (lambda: with_extra(header("d", kind=b"4")), "a block device"),
    "FIFO": (lambda: with_extra(header("d", kind=b"6")), "a FIFO"),
    "GNU long link": (lambda: with_extra(extended(b"K", b"/etc/passwd\0"), file("x")), "long name"),
    "GNU sparse file": (lambda: with_extra(header("s", kind=b"S")), "a sparse file"),
    "pax sparse file": (
        lambda: with_extra(pax(GNU__sparse__major="1", GNU__sparse__name="x"), file("x")),
        "a sparse file",
    ),
    "pax link path": (lambda: with_extra(pax(linkpath="/etc/passwd"), file("x")), "a link"),
    "unknown type": (lambda: with_extra(header("u", kind=b"Z")), "unknown type"),
    "multi-volume archive": (lambda: with_extra(header("u", kind=b"M")), "unknown type"),
    "directory with content": (lambda: with_extra(header("d", 5, b"5"), padded(b"12345")), "has content"),
    "file twice": (lambda: with_extra(file("saved_model.pb")), "twice"),
    "file twice in two spellings": (lambda: with_extra(file("./saved_model.pb")), "twice"),
    "directory twice": (lambda: with_extra(directory("d"), directory("./d/")), "twice"),
    "directory where a file is": (lambda: with_extra(directory("saved_model.pb")), "both as a file and as a directory"),
    "file where a directory is": (lambda: with_extra(file("variables")), "both as a file and as a directory"),
    "file below a file": (lambda: with_extra(file("saved_model.pb/x")), "both as a file and as a directory"),
    "two names for one member": (
        lambda: with_extra(extended(b"L", b"a\0"), pax(path="b"), file("c")),
        "two extended headers",
    ),
    "pax header of 300 MiB": (
        lambda: with_extra(header("p", 300 << 20, b"x"), bytes(1 << 20)),
        "65536",
    ),
    "GNU name of 300 MiB": (lambda: with_extra(header("p", 300 << 20, b"L"), b"x" * (1 << 20)), "65536"),
    "path too deep": (lambda: with_extra(file(deep(9))), "deeper than the limit of 8 levels"),
    "directory too deep": (lambda: with_extra(directory(deep(9))), "deeper than the limit of 8 levels"),
    "path too long": (
        lambda: with_extra(pax(path="/".join(["n" * 100] * 4)), file("x")),
        "longer than the limit of 300 bytes",
    ),
    "segment too long": (lambda: with_extra(pax(path="n" * 256), file("x")), "255 bytes"),
}

TOO_LARGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb in a file": (lambda: with_extra(file("bomb", bytes(11_000_000))), "10000000"),
    "bomb in many files": (
        lambda: with_extra(*(file(f"bomb{number}", bytes(1_000_000)) for number in range(11))),
        "10000000",
    ),
    "bomb in the padding": (lambda: compressed(members(MODULE) + bytes(20_000_000)), "inflates"),
    "bomb of global headers": (
        lambda: with_extra(*[extended(b"g", b"x" * 60_000)] * 200),
        "inflates",
    ),
    "bomb in two layers": (lambda: gzip.compress(compressed(members(MODULE) + bytes(20_000_000))), "inflates"),
    "size of petabytes": (
        lambda: with_extra(header("x", size_field=b"\x80" + (1 << 60).to_bytes(11, "big"))),
        "10000000",
    ),
    "too many files": (lambda: with_extra(*(file(f"f{number}") for number in range(100))), "100 files and dir"),
    "too many directories": (lambda: with_extra(*(directory(f"d{number}") for number in range(100))), "100 files"),
    "too many implied directories": (lambda: with_extra(*(file(f"d{n}/e/f/g") for n in range(30))), "100 files"),
}

CORRUPT: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty answer": (lambda: b"", "empty"),
    "HTML page": (lambda: b"<!doctype html><title>secret</title>", "it looks like HTML"),
    "text that is no tar": (lambda: gzip.compress(b"secret" * 1000), "no tar archive"),
    "nothing in the gzip": (lambda: gzip.compress(b""), "cut off"),
    "gzip cut off": (lambda: archive()[:-20], "cut off"),
    "tar cut off in a file": (lambda: compressed(members(MODULE)[:-2000]), "cut off"),
    "tar cut off between files": (lambda: compressed(members(MODULE)), "end-of-archive"),
    "tar cut off after a long name": (lambda: with_extra(extended(b"L", b"name\0")), "after an extended header"),
    "wrong length": (lambda: archive()[:-1] + b"\x01", "checksum"),
    "bytes overwritten in the middle": (
        lambda: archive()[:200] + b"overwritten" + archive()[211:],
        "gzip data are damaged",
    ),
    "wrong CRC": (lambda: archive()[:-8] + b"\0\0\0\0" + archive()[-4:], "checksum"),
    "garbage behind the gzip": (lambda: archive() + b"garbage", "do not belong"),
    "garbage behind the tar": (lambda: compressed(members(MODULE) + END + b"garbage"), "goes on"),
    "second tar behind the first": (lambda: compressed((members(MODULE) + END) * 2), "goes on"),
    "three layers of gzip": (lambda: gzip.compress(gzip.compress(archive())), "no tar archive"),
    "size that is no number": (lambda: with_extra(header("x", size_field=b"nonsense")), "size"),
    "negative size": (lambda: with_extra(header("x", size_field=b"\xff" * 12)), "size"),
    "damaged pax header": (lambda: with_extra(extended(b"x", b"12 path=x\n"), file("x")), "pax"),
}

NO_MODULE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty archive": (lambda: compressed(END), "empty"),
    "only a root": (lambda: compressed(directory("./") + END), "empty"),
    "something else": (
        lambda: archive(dict.fromkeys(("README", "a", "b", "c", "d/e", "f"), b"")),
        "but 'README', 'a', 'b', 'c', 'd/', ...",
    ),
    "extra top directory": (
        lambda: archive({f"model/{name}": data for name, data in MODULE.items()}),
        "extra top directory 'model/'",
    ),
    "saved_model.pb as a directory": (lambda: archive({"saved_model.pb/x": b""}), "'saved_model.pb/'"),
    "other case": (lambda: archive({"Saved_Model.pb": b""}), "'Saved_Model.pb'"),
    "damaged saved_model.pb": (lambda: archive({"saved_model.pb": b"\xff" * 50}), "saved_model.pb is damaged"),
    "empty saved_model.pb": (lambda: archive({"saved_model.pb": b""}), "no graph"),
    "saved_model.pb cut off": (lambda: archive({"saved_model.pb": saved_model()[:-3]}), "cut off"),
    "saved_model.pb of a million fields": (
        lambda: archive({"saved_model.pb": field(2, field(5, field(2, field(9, 1) * 1_000_000)))}),
        "200000 fields",
    ),
}

ALL = [
    pytest.param(make, expected, detail, id=f"{expected.code}: {name}")
    for expected, cases in (
        (ArchiveUnsafe, UNSAFE),
        (ArchiveTooLarge, TOO_LARGE),
        (ArchiveCorrupt, CORRUPT),
        (NotAModule, NO_MODULE),
    )
    for name, (make, detail) in cases.items()
]


@pytest.mark.parametrize(("make", "expected", "detail"), ALL)
async def test_it_is_refused(make: Callable[[], bytes], expected: type[HubError], detail: str, tmp_path: Path) -> None:
    outcome = await run(tmp_path, make())
    assert type(outcome.error) is expected, outcome
    assert detail in outcome.error.detail
    assert len(outcome.error.detail) < 500
    assert outcome.error.detail.isprintable()
    assert "secret" not in outcome.error.detail
    assert 0 < outcome.peak_rss_bytes < MAX_PEAK_RSS_BYTES
    assert sorted(os.listdir(tmp_path)) == ["archive.part", "tree-1"]
    assert set(os.listdir(tmp_path / "tree-1")) <= {"module"}
    assert not list(tmp_path.rglob(ESCAPED))
    assert not os.path.lexists(f"/tmp/{ESCAPED}")
    assert all(stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR) for path in tmp_path.rglob("*"))


PLAIN: dict[str, tuple[Callable[[], bytes], type[HubError], str]] = {
    **{
        name: (lambda make=make: gzip.decompress(make()), ArchiveUnsafe, detail)  # type: ignore[misc]
        for name, (make, detail) in UNSAFE.items()
        if name in ("parent directory in a GNU name", "symbolic link to write through", "file below a file")
    },
    "size of petabytes": (
        lambda: members(MODULE) + header("x", size_field=b"\x80" + (1 << 60).to_bytes(11, "big")),
        ArchiveTooLarge,
        "10000000",
    ),
    "nothing": (lambda: b"", ArchiveCorrupt, "cut off"),
    "cut off in a file": (lambda: members(MODULE)[:-2000], ArchiveCorrupt, "cut off"),
    "garbage behind it": (lambda: members(MODULE) + END + b"garbage", ArchiveCorrupt, "goes on"),
    "gzip": (archive, ArchiveCorrupt, "no tar archive"),
    "something else": (lambda: members({"README": b""}) + END, NotAModule, "'README'"),
}


@pytest.mark.parametrize(("make", "expected", "detail"), PLAIN.values(), ids=PLAIN)
async def test_what_is_not_gzipped_is_read_as_strictly(
    make: Callable[[], bytes], expected: type[HubError], detail: str, tmp_path: Path
) -> None:
    outcome = await run(tmp_path, make(), is_plain=True)
    assert type(outcome.error) is expected, outcome
    assert detail in outcome.error.detail
    assert 0 < outcome.peak_rss_bytes < MAX_PEAK_RSS_BYTES
    assert not list(tmp_path.rglob(ESCAPED))


async def test_a_tar_that_is_not_gzipped_is_taken_only_where_the_daemon_says_so(tmp_path: Path) -> None:
    for name in ("said", "not said"):
        (tmp_path / name).mkdir()
    said = await run(tmp_path / "said", members(MODULE) + END, is_plain=True)
    assert said.error is None
    assert contents(tmp_path / "said" / "tree-1" / "module") == MODULE
    guessed = await run(tmp_path / "not said", members(MODULE) + END)
    assert isinstance(guessed.error, ArchiveCorrupt)
    assert "uncompressed tar" in guessed.error.detail


async def test_a_good_archive_gives_its_files_and_nothing_else_of_it(tmp_path: Path) -> None:
    outcome = await run(tmp_path, with_extra(directory("assets/"), file("assets/vocab.txt", b"a\nb\n"), file("empty")))
    expected = {**MODULE, "assets/vocab.txt": b"a\nb\n", "empty": b""}
    assert outcome.report is not None, outcome.error
    assert contents(tmp_path / "tree-1" / "module") == expected
    assert {file.path: (file.size_bytes, file.sha256) for file in outcome.report.files} == {
        path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in expected.items()
    }
    assert outcome.report.size_bytes == sum(map(len, expected.values()))
    assert outcome.report.format == "saved_model"
    (graph,) = outcome.report.meta_graphs
    assert graph["tags"] == ["serve"]
    assert graph["signatures"]["serving_default"]["inputs"]["x"]["shape"] == [None, 3]
    for path in (tmp_path / "tree-1").rglob("*"):
        status = path.lstat()
        assert stat.S_IMODE(status.st_mode) == (0o755 if path.is_dir() else 0o644)
        assert status.st_uid == os.geteuid()
        assert status.st_mtime > 1_000_000_000  # not the archive's


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: archive({f"./{name}": data for name, data in MODULE.items()}), id="everything below ./"),
        pytest.param(
            lambda: compressed(directory("./") + directory("./variables/") + members(MODULE) + END), id="directories"
        ),
        pytest.param(
            lambda: compressed(members(MODULE) + directory("variables") + END), id="directory behind its files"
        ),
        pytest.param(lambda: archive() + bytes(5000), id="zeros behind it"),
        pytest.param(lambda: gzip.compress(archive()), id="labelled Content-Encoding: gzip"),
        pytest.param(lambda: gzip.compress(members(MODULE)) + gzip.compress(END), id="several gzip members"),
    ],
)
async def test_every_honest_way_of_packing_gives_the_same_module(make: Callable[[], bytes], tmp_path: Path) -> None:
    outcome = await run(tmp_path, make())
    assert outcome.error is None
    assert contents(tmp_path / "tree-1" / "module") == MODULE


@pytest.mark.parametrize(
    ("names", "module_format", "graphs"),
    [
        (["saved_model.pb"], "saved_model", 1),
        (["saved_model.pbtxt"], "saved_model", 0),
        (["tfhub_module.pb", "saved_model.pb"], "tf1", 1),
        (["tfhub_module.pb"], "tf1", 0),
    ],
)
async def test_the_format_is_known(names: list[str], module_format: str, graphs: int, tmp_path: Path) -> None:
    files = {name: saved_model() if name == "saved_model.pb" else b"\x08\x03" for name in names}
    report = (await run(tmp_path, archive(files))).report
    assert report is not None
    assert report.format == module_format
    assert len(report.meta_graphs) == graphs


async def test_what_someone_planted_in_the_tree_is_never_written_through(tmp_path: Path) -> None:
    spool, tree = prepare(tmp_path, archive())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.symlink(elsewhere, f"{tree}/module")
    async with Unpacker(spool, tree, LIMITS) as unpacker:
        unpacker.finish(len(archive()))
        with pytest.raises(Internal):
            await unpacker.result()
    assert not os.listdir(elsewhere)


def test_paths_that_would_take_much_memory_are_refused_long_before_their_number() -> None:
    names = Namespace(ArchiveLimits(module_bytes=1, files=100_000, depth=32, path_bytes=1000))
    paths = (f"{'n' * 200}/{number}/{'n' * 200}" for number in range(100_000))
    with pytest.raises(ArchiveTooLarge, match="characters together"):
        list(map(names.add_file, paths))
    assert len(names.directories) < 50_000


async def test_more_memory_than_the_limit_is_a_refusal_that_names_it(tmp_path: Path) -> None:
    below = "/".join(["\N{GRINNING FACE}" + "d" * 246] * 12)  # one such letter, and each takes four bytes
    many_names = with_extra(*(pax(path=f"{below}/{number}") + file("x") for number in range(5_000)))
    limits = dataclasses.replace(LIMITS, files=20_000, depth=20, path_bytes=4000, memory_bytes=48 * 1024 * 1024)
    outcome = await run(tmp_path, many_names, limits)
    assert isinstance(outcome.error, ArchiveUnsafe), outcome.error
    assert "memory" in outcome.error.detail
    assert str(limits.memory_bytes) in outcome.error.detail


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    mount_point = tmp_path / "tiny"
    mount_point.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount_point)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield mount_point
    subprocess.run(["umount", str(mount_point)], check=True)


@pytest.mark.parametrize(("count", "size_bytes"), [(20, 100_000), (1, 3_000_000)], ids=["small files", "a big file"])
async def test_a_full_disk_is_its_own_error(count: int, size_bytes: int, tiny_disk: Path, tmp_path: Path) -> None:
    data = archive({**MODULE, **{f"weights{number}": os.urandom(size_bytes) for number in range(count)}})
    spool, _ = prepare(tmp_path, data)
    async with Unpacker(spool, str(tiny_disk), LIMITS) as unpacker:
        unpacker.finish(len(data))
        with pytest.raises(DiskFull):
            await unpacker.result()
