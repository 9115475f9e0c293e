"""What hubclient packs, hubd unpacks."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

from hubclient.packing import pack
from hubd.unpacking.gzip_stream import inflate
from hubd.unpacking.names import ArchiveLimits
from hubd.unpacking.tar_reader import TarReader
from tests.support import unpacking
from tests.support.archives import MODULE


def write(directory: Path) -> Path:
    for name, data in MODULE.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def test_the_strict_reader_takes_it(tmp_path: Path) -> None:
    module = write(tmp_path / "module")
    deep = module / "assets" / ("d" * 120) / ("f" * 140)
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"long names")
    (module / "assets" / "größe.txt").write_bytes(b"")
    pack(module, tmp_path / "m.tar.gz")
    archive = io.BytesIO((tmp_path / "m.tar.gz").read_bytes())
    reader = TarReader(inflate(partial(archive.read, 65536), 10_000_000), ArchiveLimits(10_000_000, 100, 8, 300))
    content = {}
    for member in reader.members():
        content[member.path] = None if member.is_directory else b"".join(map(bytes, reader.content()))
    directories = {"": None, "assets": None, f"assets/{'d' * 120}": None, "variables": None}
    more = {f"assets/{'d' * 120}/{'f' * 140}": b"long names", "assets/größe.txt": b""}
    assert content == {**directories, **MODULE, **more}


async def test_the_unpacking_child_gives_the_module_back(tmp_path: Path) -> None:
    pack(write(tmp_path / "module"), tmp_path / "m.tar.gz")
    (tmp_path / "work").mkdir()
    outcome = await unpacking.run(tmp_path / "work", (tmp_path / "m.tar.gz").read_bytes())
    assert outcome.error is None
    assert unpacking.contents(tmp_path / "work" / "tree-1" / "module") == dict(MODULE)
