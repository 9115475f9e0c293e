"""What counts as a change of the configuration, and what becomes of one that cannot be used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from hubd.config import ConfigError, Settings
from hubd.reload import ConfigState, Reloader, Source, changed_keys, needs_restart, stamp


class Applied:
    """Takes settings, or refuses them; `states` are what was told of the attempts."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.refusal: Exception | None = None
        self.states: asyncio.Queue[ConfigState] = asyncio.Queue()

    async def apply(self, settings: Settings) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.settings.append(settings)

    async def next(self) -> ConfigState:
        async with asyncio.timeout(10):
            return await self.states.get()


def source_of(file: Path, *, is_named: bool = True, **options: str) -> Source:
    return Source(str(file), is_named=is_named, user=True, environ={"HOME": "/nowhere"}, **options)


@asynccontextmanager
async def reloading(source: Source, applied: Applied) -> AsyncIterator[Reloader]:
    settings, place = source.load()
    reloader = Reloader(source, settings, place, applied.apply, applied.states.put_nowait, look_seconds=0.01)
    running = asyncio.create_task(reloader.run())
    yield reloader
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[log]\nlevel = "info"\n')
    return path


def replace(file: Path, text: str) -> None:
    """As editors do: written beside, then renamed."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.rename(file)


async def test_a_saved_file_is_taken(file: Path) -> None:
    applied = Applied()
    async with reloading(source_of(file), applied):
        file.write_text('[log]\nlevel = "debug"\n')
        assert (await applied.next()).problem is None
        replace(file, '[log]\nlevel = "error"\n')
        state = await applied.next()
    assert [settings.log.level for settings in applied.settings] == ["debug", "error"]
    assert (state.reloads, state.failures, state.restart_needed) == (2, 0, ())


async def test_a_file_that_is_saved_while_the_daemon_starts_is_taken_too(file: Path) -> None:
    source, applied = source_of(file), Applied()
    settings, place = source.load()
    replace(file, '[log]\nlevel = "error"\n')
    reloader = Reloader(source, settings, place, applied.apply, applied.states.put_nowait, look_seconds=0.01)
    running = asyncio.create_task(reloader.run())
    assert (await applied.next()).problem is None
    running.cancel()
    assert applied.settings[0].log.level == "error"


async def test_a_link_that_leads_elsewhere_is_a_changed_file(tmp_path: Path, file: Path) -> None:
    link, other = tmp_path / "link.toml", tmp_path / "other.toml"
    link.symlink_to(file)
    other.write_text('[log]\nlevel = "error"\n')
    applied = Applied()
    async with reloading(source_of(link), applied):
        (tmp_path / "new").symlink_to(other)
        (tmp_path / "new").rename(link)
        await applied.next()
    assert applied.settings[0].log.level == "error"


async def test_a_bad_file_keeps_the_old_settings_until_it_is_mended(file: Path) -> None:
    applied = Applied()
    async with reloading(source_of(file), applied) as reloader:
        loaded_at = reloader.state.loaded_at
        replace(file, "[log]\nlevl = 1\n")
        bad = await applied.next()
        assert bad.problem is not None
        assert 'unknown key "log.levl"; did you mean "log.level"?' in bad.problem
        assert bad.warnings() == [
            f"the configuration was not taken, and the one of {loaded_at:%F %T} UTC holds: {bad.problem}"
        ]
        assert applied.settings == []
        replace(file, '[log]\nlevel = "error"\n')
        assert (await applied.next()).warnings() == []
    assert reloader.state.failures == 1


async def test_what_cannot_be_applied_keeps_the_old_settings_too(file: Path) -> None:
    applied = Applied()
    applied.refusal = ConfigError("network.ca_bundle: gone")
    async with reloading(source_of(file), applied) as reloader:
        reloader.ask()
        assert (await applied.next()).problem == "network.ca_bundle: gone"
        applied.refusal = ZeroDivisionError("a bug of our own")
        reloader.ask()
        problem = (await applied.next()).problem
        assert problem is not None
        assert "ZeroDivisionError" in problem
        applied.refusal = None
        reloader.ask()
        assert (await applied.next()).problem is None


async def test_a_file_that_goes_keeps_what_it_said(file: Path) -> None:
    applied = Applied()
    async with reloading(source_of(file, is_named=False), applied):
        file.unlink()
        problem = (await applied.next()).problem
        assert problem is not None
        assert "is gone" in problem
    assert applied.settings == []


async def test_a_file_that_comes_is_taken(tmp_path: Path) -> None:
    applied, file = Applied(), tmp_path / "later" / "config.toml"
    async with reloading(source_of(file, is_named=False), applied) as reloader:
        assert reloader.state.file is None
        file.parent.mkdir()
        file.write_text('[log]\nlevel = "error"\n')
        assert (await applied.next()).file == str(file)
    assert applied.settings[0].log.level == "error"


async def test_what_takes_a_restart_is_named_until_it_is_as_it_was(file: Path) -> None:
    applied = Applied()
    async with reloading(source_of(file), applied):
        replace(file, '[cache]\ndir = "/elsewhere"\nallow_network_filesystem = true\n[api]\nsocket = "/s"\n')
        state = await applied.next()
        assert state.restart_needed == ("api.socket", "cache.allow_network_filesystem", "cache.dir")
        assert state.warnings() == [f"changed in {file}, but takes a restart: {', '.join(state.restart_needed)}"]
        replace(file, "")
        assert (await applied.next()).restart_needed == ()


def test_what_the_command_line_says_needs_no_restart_by_the_file(file: Path) -> None:
    source = source_of(file, cache_dir="/here", socket="/there")
    started, place = source.load()
    file.write_text('[cache]\ndir = "/elsewhere"\n[api]\nsocket = "/elsewhere.sock"\n')
    assert needs_restart(started, source.load()[0], place, source.load()[1]) == ()


def test_changes_are_named_by_their_keys() -> None:
    before, after = Settings(), Settings.model_validate({"log": {"level": "debug"}, "host": [{"name": "h"}]})
    assert changed_keys(before, after) == ["log.level", "host"]
    assert changed_keys(before, before) == []


def test_who_may_write_a_file_is_part_of_what_it_is(file: Path) -> None:
    before = stamp(str(file))
    file.chmod(0o666)
    assert stamp(str(file)) != before
    os.unlink(file)
    assert stamp(str(file)) is None
