"""What is known of each version of a library: its facts, and its archive. Found out ahead, or when somebody asks.

Law: each is found out once for the files that it is about. What fails is told in the log once, and spoils no other.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from hubclient.contract.errors import ArchiveCorrupt, DiskFull, HubError, Internal, NotAModule, TooBusy
from hubd.publishing.facts import Facts, facts_of
from hubd.publishing.library import Library, Model, Version
from hubd.publishing.once import Once, Spawn
from hubd.publishing.packer import pack
from hubd.publishing.scanning import tree_stamp
from hubd.publishing.shelf import Archive, Shelf

log = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0
_READING_AT_ONCE = 2  # of archives that takes seconds, and who downloads must not wait for a thread
_PACKING_AT_ONCE = 2  # one of them ahead, so that who asks waits for nobody


class Catalog:
    """For the event loop. `run` finds out ahead, the newest versions first."""

    def __init__(self, library: Library, shelf: Shelf, spawn: Spawn, retry_seconds: float = _RETRY_SECONDS) -> None:
        """`spawn` starts a task in the group that owns all work."""
        self._library = library
        self._shelf = shelf
        self._facts: Once[Facts] = Once(spawn, retry_seconds)
        self._archives: Once[Archive] = Once(spawn, retry_seconds)
        self._places = asyncio.Semaphore(_PACKING_AT_ONCE)
        self._readers = ThreadPoolExecutor(_READING_AT_ONCE, thread_name_prefix="reader")
        self._changed = asyncio.Event()
        self._is_over = threading.Event()

    def look(self) -> None:
        """The library was scanned."""
        self._changed.set()

    def stop(self) -> None:
        """Nobody waits any more for what is being found out."""
        self._is_over.set()  # for the threads that read
        self._readers.shutdown(wait=False, cancel_futures=True)
        for task in (*self._facts.tasks, *self._archives.tasks):
            task.cancel()

    def known(self, version: Version) -> Facts | None:
        """Its facts, if they were read; with the digest, if it is packed."""
        facts = self._facts.made(_readable(version))
        return self._with_archive(facts) if facts is not None else None

    def sound(self, model: Model) -> Model | None:
        """The model with those of its versions that are not known to be broken; None if it has no others."""
        versions = tuple(
            one
            for one in model.versions
            if self._facts.failure(_readable(one)) is None and self._archives.failure(_key(one)) is None
        )
        return Model(model.name, versions) if versions else None

    async def facts(self, version: Version) -> Facts:
        """Raises as `facts_of`."""
        return self._with_archive(await self._facts.get(_readable(version), lambda: self._read(version)))

    async def archive(self, version: Version) -> Archive:
        """Packs it, if it was not packed yet.

        Raises `NotAModule` and its like for what is none or cannot be packed, `DiskFull`, `Internal`, and `TooBusy`
        when the files change meanwhile.
        """
        return await self._archives.get(_key(version), lambda: self._find(version))

    def forget_archive(self, version: Version) -> None:
        """It is not there any more, though it was."""
        self._archives.forget(_key(version))

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            self._changed.clear()
            ranked = [(rank, one) for model in self._library.models() for rank, one in enumerate(model.versions)]
            versions = [version for _, version in sorted(ranked, key=lambda one: one[0])]
            self._facts.keep_only(set(map(_readable, versions)))
            self._archives.keep_only(set(map(_key, versions)))
            await self._clean({version.stamp for version in versions})
            for work in (self.facts, self.archive):
                for version in versions:
                    if self._changed.is_set():
                        break
                    with suppress(HubError):  # told where it failed
                        await work(version)
            await self._changed.wait()

    async def _clean(self, stamps: set[str]) -> None:
        try:
            for digest in await asyncio.to_thread(self._shelf.clean, stamps):
                log.info("the archive %s is removed: no version has needed it for a week", digest)
        except OSError as error:
            log.warning("%s could not be cleaned: %s", self._shelf.root, error.strerror)

    def _with_archive(self, facts: Facts) -> Facts:
        archive = self._archives.made(_key(facts.version))
        if archive is None or facts.digest is not None:
            return facts
        return replace(facts, digest=f"sha256:{archive.digest}", archive_bytes=archive.size_bytes)

    async def _read(self, version: Version) -> Facts:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._readers, facts_of, version, self._is_over.is_set)
        except HubError as error:
            if not self._is_over.is_set():
                log.warning("%s is not served: %s", version.name, error)
            if isinstance(error, ArchiveCorrupt):  # who fetches may try again; here it is what was put there
                raise NotAModule(f"{version.name}: {error}") from error
            raise

    async def _find(self, version: Version) -> Archive:
        try:
            known = await asyncio.to_thread(self._shelf.archive, version.stamp)
            if known is not None and not version.is_archive:
                return known
            return await (self._placed if version.is_archive else self._packed)(version)
        except OSError as error:
            text = f"{version.name} cannot be packed: {error.strerror}"
            log.error("%s: %s", self._shelf.root, text)
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (DiskFull(text) if is_full else Internal(text)) from error

    async def _placed(self, version: Version) -> Archive:
        """The archive that the publisher put there."""
        digest = await asyncio.to_thread(self._shelf.digest, version.stamp)
        if digest is None:
            digest = ((await self.facts(version)).digest or "").removeprefix("sha256:")
            await self._size_bytes(version)
            await asyncio.to_thread(self._shelf.note, version.stamp, digest)
        return Archive(version.path, digest, await self._size_bytes(version))

    async def _packed(self, version: Version) -> Archive:
        await self.facts(version)  # of what is no module there is no archive
        async with self._places:
            try:
                digest = await pack(version.path, staged := self._shelf.staged())
            except HubError as error:
                log.warning("%s cannot be packed: %s", version.name, error)
                raise _told(version, error) from error
            await self._size_bytes(version)
            archive = await asyncio.to_thread(self._shelf.put, version.stamp, staged, digest)
        fields = {"digest": archive.digest, "bytes": archive.size_bytes}
        log.info("%s is packed", version.name, extra={"fields": fields})
        return archive

    async def _size_bytes(self, version: Version) -> int:
        """Of its files, which are still those that it was found with; raises `TooBusy` if not."""
        try:
            stamp, size_bytes = await asyncio.to_thread(tree_stamp, version.path)
        except OSError as error:
            raise TooBusy(f"{version.name} cannot be read: {error.strerror}") from error
        if stamp != version.stamp:
            raise TooBusy(f"{version.name} has changed while it was read: ask again")
        return size_bytes


def _told(version: Version, error: HubError) -> HubError:
    """Why it cannot be packed, as clients are told."""
    if isinstance(error, DiskFull):
        return DiskFull(f"the disk became full while {version.name} was packed")
    if error.status < 500:  # what was asked of the packer is what was put there
        return NotAModule(f"{version.name} cannot be packed: {error}")
    return Internal(f"{version.name} cannot be packed; the log has the reason")


def _key(version: Version) -> str:
    """What an archive is made of."""
    return f"{version.stamp} {version.path}"


def _readable(version: Version) -> str:
    """What facts are read from."""
    return f"{_key(version)} {version.readme_stamp}"
