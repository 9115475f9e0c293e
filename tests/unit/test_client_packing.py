"""`pack`: one directory, always the same archive, and nothing in it that an archive should not hold."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import hubclient
from hubclient.packing import pack
from tests.support.archives import MODULE

LISTING = """\
./
./saved_model.pb
./variables/
./variables/variables.data-00000-of-00001
./variables/variables.index
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return write(tmp_path / "module")


def write(directory: Path) -> Path:
    for name, data in MODULE.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_tar_lists_it_as_in_the_guide(module: Path, tmp_path: Path) -> None:
    packed = pack(module, tmp_path / "m.tar.gz")
    assert packed.path == str(tmp_path / "m.tar.gz")
    listed = subprocess.run(["tar", "-tf", packed.path], check=True, capture_output=True, text=True).stdout
    assert listed == LISTING
    by_guide = str(tmp_path / "guide.tar.gz")
    subprocess.run(["tar", "-cz", "-f", by_guide, "--owner=0", "--group=0", "-C", str(module), "."], check=True)
    guide = subprocess.run(["tar", "-tf", by_guide], check=True, capture_output=True, text=True).stdout
    assert sorted(guide.splitlines()) == sorted(listed.splitlines())


def test_the_digest_and_sizes_are_the_archives(module: Path, tmp_path: Path) -> None:
    packed = pack(str(module), str(tmp_path / "m.tar.gz"))
    data = (tmp_path / "m.tar.gz").read_bytes()
    assert packed.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert packed.size_bytes == len(data)
    assert packed.content_bytes == sum(map(len, MODULE.values()))


def test_the_same_content_gives_the_same_bytes(module: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name, data in sorted(MODULE.items(), reverse=True):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(data)
        (other / name).chmod(0o400)
        os.utime(other / name, (1, 1))
    (other / "variables").chmod(0o700)
    assert pack(module, tmp_path / "1.gz").digest == pack(other, tmp_path / "2.gz").digest


def test_nothing_of_this_machine_is_in_it(module: Path, tmp_path: Path) -> None:
    pack(module, tmp_path / "m.tar.gz")
    header = (tmp_path / "m.tar.gz").read_bytes()[:10]
    assert header[3] == 0  # no name
    assert header[4:8] == bytes(4)  # no time
    with tarfile.open(tmp_path / "m.tar.gz") as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
            assert member.mode == (0o755 if member.isdir() else 0o644)


def test_a_module_of_tensorflow_1_and_one_in_text_are_modules_too(tmp_path: Path) -> None:
    tf1 = write(tmp_path / "tf1")
    (tf1 / "tfhub_module.pb").write_bytes(b"\x08\x03")
    pack(tf1, tmp_path / "1.gz")
    assert "./tfhub_module.pb" in names(tmp_path / "1.gz")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    pack(tmp_path / "text", tmp_path / "2.gz")
    assert names(tmp_path / "2.gz") == [".", "./saved_model.pbtxt"]


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(hubclient.NotFound):
        pack(tmp_path / "nowhere", tmp_path / "m.gz")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(hubclient.NotAModule, match=r"saved_model\.pb"):
        pack(empty, tmp_path / "m.gz")
    (empty / "tfhub_module.pb").write_bytes(b"\x08\x03")
    with pytest.raises(hubclient.NotAModule, match=r"no saved_model\.pb"):
        pack(empty, tmp_path / "m.gz")
    (empty / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(hubclient.NotAModule, match="cannot be read"):
        pack(empty, tmp_path / "m.gz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("kind", ["link", "link to a directory", "FIFO", "socket"])
def test_links_and_special_files_are_refused_by_name(module: Path, tmp_path: Path, kind: str) -> None:
    odd = module / "variables" / "odd"
    if kind == "FIFO":
        os.mkfifo(odd)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(odd))
    else:
        odd.symlink_to(tmp_path if kind.endswith("directory") else "variables.index")
    with pytest.raises(hubclient.ExportInvalid, match=r"variables/odd is (a symbolic link|neither)"):
        pack(module, tmp_path / "m.gz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["module"]


@pytest.mark.parametrize("name", [b"line\nbreak", b"\xff\xfe", b"bell\x07"])
def test_names_that_readers_refuse_are_refused(module: Path, tmp_path: Path, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(module) + b"/" + name))).write_bytes(b"")
    with pytest.raises(hubclient.ExportInvalid, match="rename it"):
        pack(module, tmp_path / "m.gz")


def test_what_file_managers_and_git_leave_behind_is_left_out_and_told(module: Path, tmp_path: Path) -> None:
    clean = pack(module, tmp_path / "clean.gz")
    (module / ".git" / "objects").mkdir(parents=True)
    (module / ".git" / "objects" / "link").symlink_to("nowhere")
    (module / ".DS_Store").write_bytes(b"junk")
    (module / "variables" / "._variables.index").write_bytes(b"junk")
    packed = pack(module, tmp_path / "m.gz")
    assert packed.digest == clean.digest
    assert packed.left_out == (".DS_Store", ".git", "variables/._variables.index")


def test_hidden_files_that_are_no_junk_are_packed(module: Path, tmp_path: Path) -> None:
    (module / "assets").mkdir()
    (module / "assets" / ".vocabulary").write_bytes(b"x")
    assert pack(module, tmp_path / "m.gz").left_out == ()
    assert "./assets/.vocabulary" in names(tmp_path / "m.gz")


def test_an_archive_that_is_there_is_replaced_by_force_only(module: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.gz"
    out.write_bytes(b"mine")
    with pytest.raises(hubclient.PathExists):
        pack(module, out)
    assert out.read_bytes() == b"mine"
    pack(module, out, force=True)
    assert gzip.decompress(out.read_bytes())
    (tmp_path / "directory").mkdir()
    with pytest.raises(hubclient.PathExists):
        pack(module, tmp_path / "directory", force=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "m.gz", "module"]


def test_an_archive_inside_the_module_is_refused(module: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(module / "variables")
    for out in (module / "m.gz", module / "new" / "m.gz", tmp_path / "link" / "m.gz"):
        with pytest.raises(hubclient.ExportInvalid, match="cannot hold itself"):
            pack(module, out)


def test_progress_goes_up_to_the_whole(module: Path, tmp_path: Path) -> None:
    (module / "big").write_bytes(bytes(3_000_000))
    seen: list[tuple[int, int]] = []
    packed = pack(module, tmp_path / "m.gz", progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) > 4
    assert seen[-1] == (packed.content_bytes, packed.content_bytes)


@pytest.mark.parametrize("change", ["grew", "shrank"])
def test_a_file_that_changes_meanwhile_is_told(module: Path, tmp_path: Path, change: str) -> None:
    big = module / "big"  # the first file: while it is packed, another one can still change
    big.write_bytes(bytes(3_000_000))
    index = module / "variables" / "variables.index"

    def meddle(done_bytes: int, total_bytes: int) -> None:
        index.write_bytes(b"index and more" if change == "grew" else b"")

    with pytest.raises(hubclient.ExportInvalid, match=r"variables\.index changed"):
        pack(module, tmp_path / "m.gz", progress=meddle)
    assert [entry.name for entry in tmp_path.iterdir()] == ["module"]


@pytest.mark.parametrize("change", ["written", "came", "went"])
def test_a_directory_that_changes_meanwhile_is_told(module: Path, tmp_path: Path, change: str) -> None:
    index = module / "variables" / "variables.index"
    content = index.read_bytes()
    os.utime(index, (1, 1))

    def meddle(done_bytes: int, total_bytes: int) -> None:
        if done_bytes == total_bytes and change == "written":
            index.write_bytes(content[::-1])
        elif change == "came":
            (module / "late").touch()
        elif change == "went":
            index.unlink(missing_ok=True)

    with pytest.raises(hubclient.ExportInvalid, match=r"(variables\.index|late) changed while it was packed"):
        pack(module, tmp_path / "m.gz", progress=meddle)
    assert [entry.name for entry in tmp_path.iterdir()] == ["module"]


def test_force_replaces_no_device(module: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(hubclient.PathExists):
        pack(module, tmp_path / "pipe", force=True)
    assert (tmp_path / "pipe").is_fifo()


def test_the_url_of_a_published_module_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(hubclient.ExportInvalid, match="hubctl get"):
        pack("https://example.org/m/1", tmp_path / "m.gz")


def test_an_interruption_leaves_nothing_behind(module: Path, tmp_path: Path) -> None:
    def interrupt(done_bytes: int, total_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(module, tmp_path / "m.gz", progress=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["module"]


def test_a_disk_that_is_full_leaves_the_old_archive(module: Path, tmp_path: Path) -> None:
    """A file-size limit of the process stands for the disk."""
    (module / "noise").write_bytes(random.Random(1).randbytes(1_000_000))
    (tmp_path / "m.gz").write_bytes(b"mine")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        with pytest.raises(hubclient.ExportInvalid, match="cannot write"):
            pack(module, tmp_path / "m.gz", force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "m.gz").read_bytes() == b"mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.gz", "module"]


def test_memory_does_not_grow_with_the_module(module: Path, tmp_path: Path) -> None:
    with (module / "sparse").open("wb") as file:
        file.truncate(200_000_000)
    code = "import resource, sys\nfrom hubclient.packing import pack\nimport hashlib\n"
    code += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\npack(sys.argv[1], sys.argv[2])\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    command = [sys.executable, "-c", code, str(module), str(tmp_path / "m.gz")]
    grown_kb = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert grown_kb < 20_000
