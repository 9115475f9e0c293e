"""One delivery into its place: received into the spool, and unpacked beside that.

Law: whichever of the two fails first ends the other: a bad first megabyte saves the rest of the transfer.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from hubd.fetching.keeping import Keeping
from hubd.fetching.means import Means
from hubd.fetching.progress import Progress
from hubd.fetching.room import Reservation
from hubd.network.patience import Patience
from hubd.network.segments import Ranges
from hubd.network.sources import Delivery
from hubd.network.terms import Hooks, Received, Terms
from hubd.network.transfer import Transfer
from hubd.unpacking.supervisor import Unpacker, UnpackReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Receiving:
    """What one fetch receives with. `is_urgent`: whether a client waits for it, at this moment; `on_moved` is told how
    many bytes of the archive are there, of how many."""

    means: Means
    progress: Progress
    patience: Patience
    is_urgent: Callable[[], bool]
    on_moved: Callable[[int, int | None], None] | None = None

    async def run(
        self, delivery: Delivery, archive: str, tree: str, keeping: Keeping, reservation: Reservation
    ) -> tuple[Received, UnpackReport]:
        """Into the spool `archive` and the directory `tree`. Raises what a transfer raises, and `Unpacker.result`."""
        means, progress = self.means, self.progress
        progress.enter("transferring")
        progress.total_bytes = delivery.total_bytes
        progress.resumed_bytes = progress.received_bytes = delivery.from_bytes
        if delivery.from_bytes:
            means.counters.resumed += 1
            log.info("%s: goes on from byte %d of %s", progress.loggable, delivery.from_bytes, delivery.total_bytes)
        async with Unpacker(
            archive, tree, means.unpack_limits, reservation.tree, is_plain=delivery.is_tree
        ) as unpacker:
            progress.unpacker = unpacker
            if means.pace.gives_way:
                unpacker.be_nice()

            before_bytes = progress.transferred_bytes

            def count() -> None:
                """Counts what came since the last time: a rate of it is to be right while a fetch goes on."""
                new_bytes = before_bytes + transfer.received_bytes - progress.transferred_bytes
                means.counters.received(new_bytes, delivery.tier)
                progress.transferred_bytes += new_bytes

            def on_written(written: Ranges) -> None:
                count()
                progress.on_received(written.size_bytes)
                reservation.wrote(written.size_bytes + unpacker.unpacked_bytes)
                unpacker.feed(written.frontier_bytes)
                keeping.on_frontier(written.frontier_bytes)
                if self.on_moved is not None:
                    self.on_moved(written.size_bytes, delivery.total_bytes)

            hooks = Hooks(
                on_written,
                make_room=reservation.spool,
                is_starving=lambda: unpacker.is_idle,
                before_holes=functools.partial(means.to_its_end, keeping.before_holes),
                pace=functools.partial(self._pace, delivery),
                on_pause=progress.on_pause,
            )
            transfer = Transfer(delivery, archive, self._terms, hooks, self.patience, means.threads)

            async def receive() -> Received:
                received = await transfer.run()
                progress.enter("unpacking")
                unpacker.finish(received.size_bytes)
                return received

            try:
                async with asyncio.TaskGroup() as group:
                    receiving = group.create_task(receive())
                    unpacking = group.create_task(unpacker.result())
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            finally:
                count()
                progress.connections = max(progress.connections, transfer.most_connections)
            return receiving.result(), unpacking.result()

    @property
    def _terms(self) -> Terms:
        network = self.means.settings.network
        return Terms(
            self.means.settings.limits.archive,
            connections=network.connections_per_fetch,
            min_rate=network.min_rate,
            window_seconds=network.stall_timeout,
        )

    async def _pace(self, delivery: Delivery, size_bytes: int) -> float:
        if delivery.is_local:
            return 0.0
        return await self.means.pace.take(size_bytes, prefetch=lambda: not self.is_urgent())


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell of: a group's first, looking into groups within."""
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
