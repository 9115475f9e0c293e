"""What is known of each version of a library: its facts, and its archive. Found out ahead, or when somebody asks.

Law: each is found out once for the files that it is about. What fails is told in the log once, and spoils no other.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from contextlib import suppress
from dataclasses import replace

from hubclient.contract.errors import DiskFull, HubError, Internal, TooBusy
from hubd.publishing.facts import Facts, facts_of
from hubd.publishing.library import Library, Model, Version
from hubd.publishing.once import Once, Spawn
from hubd.publishing.packer import pack
from hubd.publishing.scanning import tree_stamp
from hubd.publishing.shelf import Archive, Shelf

log = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0
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
        self._changed = asyncio.Event()
        self._is_over = threading.Event()

    def look(self) -> None:
        """The library was scanned."""
        self._changed.set()

    def stop(self) -> None:
        """Nobody waits any more for what is being found out."""
        self._is_over.set()  # for the threads that read
        for task in (*self._facts.tasks, *self._archives.tasks):
            task.cancel()

    def known(self, version: Version) -> Facts | None:
        """Its facts, if they were read; with the digest, if it is packed."""
        facts = self._facts.made(_key(version))
        return self._with_archive(facts) if facts is not None else None

    def sound(self, model: Model) -> Model | None:
        """The model with those of its versions that are not known to be broken; None if it has no others."""
        versions = tuple(one for one in model.versions if self._facts.failure(_key(one)) is None)
        return Model(model.name, versions) if versions else None

    async def facts(self, version: Version) -> Facts:
        """Raises as `facts_of`."""
        return self._with_archive(await self._facts.get(_key(version), lambda: self._read(version)))

    async def archive(self, version: Version) -> Archive:
        """Packs it, if it was not packed yet.

        Raises as `facts_of` for what is no module, what `hubctl pack` fails with, `DiskFull`, and `TooBusy` when the
        files change meanwhile.
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
            keys = {_key(version) for version in versions}
            self._facts.keep_only(keys)
            self._archives.keep_only(keys)
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
        try:
            return await asyncio.to_thread(facts_of, version, self._is_over.is_set)
        except HubError as error:
            if not self._is_over.is_set():
                log.warning("%s is not served: %s", version.name, error)
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
                packed = await pack(version.path, staged := self._shelf.staged())
            except HubError as error:
                log.warning("%s cannot be packed: %s", version.name, error)
                raise
            await self._size_bytes(version)
            archive = await asyncio.to_thread(self._shelf.put, version.stamp, staged, packed.digest)
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


def _key(version: Version) -> str:
    return f"{version.stamp} {version.path}"
