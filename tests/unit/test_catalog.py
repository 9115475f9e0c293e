"""What is known of each version: facts and archives, of real directories, packed by real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubclient.contract.errors import HubError
from hubd.publishing.catalog import Catalog
from hubd.publishing.library import Library, Model
from hubd.publishing.packer import pack
from hubd.publishing.shelf import Shelf
from tests.support.archives import MODULE, archive
from tests.support.library import AT_ONCE, put, put_archive


@asynccontextmanager
async def catalog_of(root: Path) -> AsyncIterator[tuple[Library, Catalog]]:
    """A catalog that finds out nothing ahead."""
    library, shelf = Library(root / "library", quiet_seconds=AT_ONCE), Shelf(str(root / "shelf"))
    shelf.prepare()
    library.scan()
    async with asyncio.TaskGroup() as group:
        catalog = Catalog(library, shelf, group.create_task)
        yield library, catalog
        catalog.stop()


def model_of(library: Library) -> Model:
    (model,) = library.models()
    return model


async def test_facts_have_the_digest_once_it_is_packed(tmp_path: Path) -> None:
    put(tmp_path / "library", "lab/m/1")
    async with catalog_of(tmp_path) as (library, catalog):
        (version,) = model_of(library).versions
        assert catalog.known(version) is None
        assert (await catalog.facts(version)).digest is None
        packed = await catalog.archive(version)
        facts = catalog.known(version)
        assert facts is not None
        assert (facts.digest, facts.archive_bytes) == (f"sha256:{packed.digest}", packed.size_bytes)


async def test_a_damaged_version_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "library", "lab/m/1")
    put_archive(tmp_path / "library", "lab/m/2", archive()[:-10])
    async with catalog_of(tmp_path) as (library, catalog):
        model = model_of(library)
        assert catalog.sound(model) == model
        for _ in range(2):
            with pytest.raises(HubError) as raised:
                await catalog.archive(model.versions[0])
            assert raised.value.code == "not-a-module"
        sound = catalog.sound(model)
        assert sound is not None
        assert [version.number for version in sound.versions] == [1]
        assert caplog.text.count("lab/m/2 is not served") == 1


async def test_a_directory_with_a_link_cannot_be_packed_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (put(tmp_path / "library", "lab/m/1") / "link").symlink_to("/etc/passwd")
    async with catalog_of(tmp_path) as (library, catalog):
        (version,) = model_of(library).versions
        with pytest.raises(HubError, match="symbolic link") as raised:
            await catalog.archive(version)
        assert raised.value.code == "not-a-module"
        assert "lab/m/1 cannot be packed" in caplog.text
        assert catalog.sound(model_of(library)) is None


async def test_files_that_changed_since_the_scan_are_not_served_as_the_old_ones(tmp_path: Path) -> None:
    path = put(tmp_path / "library", "lab/m/1")
    put_archive(tmp_path / "library", "lab/m/2")
    async with catalog_of(tmp_path) as (library, catalog):
        placed, directory = model_of(library).versions
        (path / "README.md").write_text("new")
        put_archive(tmp_path / "library", "lab/m/2", archive({**MODULE, "more": b""}))
        for version in (placed, directory):
            with pytest.raises(HubError) as raised:
                await catalog.archive(version)
            assert raised.value.code == "too-busy"


async def test_the_readme_of_a_model_may_change(tmp_path: Path) -> None:
    put(tmp_path / "library", "lab/m/1")
    readme = tmp_path / "library/lab/m/README.md"
    readme.write_text("# Old")
    async with catalog_of(tmp_path) as (library, catalog):
        assert (await catalog.facts(model_of(library).versions[0])).card.title == "Old"
        readme.write_text("# Newer")
        library.scan()
        assert (await catalog.facts(model_of(library).versions[0])).card.title == "Newer"


async def test_what_is_found_out_ahead_survives_what_is_broken(tmp_path: Path) -> None:
    put(tmp_path / "library", "lab/a/1", {"saved_model.pb": b"\xff"})
    put(tmp_path / "library", "lab/b/1")
    async with catalog_of(tmp_path) as (library, catalog):
        (version,) = library.models()[1].versions
        ahead = asyncio.create_task(catalog.run())
        async with asyncio.timeout(20):
            while (facts := catalog.known(version)) is None or facts.digest is None:
                await asyncio.sleep(0.01)
        ahead.cancel()
        await asyncio.wait({ahead})


async def test_a_pack_that_nobody_wants_any_more_leaves_nothing(tmp_path: Path) -> None:
    big = put(tmp_path, "big", {**MODULE, "big": os.urandom(50_000_000)})
    (tmp_path / "out").mkdir()
    packing = asyncio.create_task(pack(str(big), str(tmp_path / "out" / "x.tar.gz")))
    async with asyncio.timeout(20):
        while not os.listdir(tmp_path / "out"):
            await asyncio.sleep(0.01)
    packing.cancel()
    await asyncio.wait({packing})
    assert os.listdir(tmp_path / "out") == []


def test_the_daemon_does_without_it() -> None:
    program = (
        "import hubd.service, sys; print({'jinja2', 'markdown_it', 'nh3', 'hubd.publishing.host'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
