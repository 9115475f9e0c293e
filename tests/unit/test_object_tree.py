"""A directory of a store, read as an archive: any part of one version of it, and many small files at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from hubclient.contract.errors import ArchiveTooLarge, UpstreamUnavailable
from hubd.config import LimitSettings
from hubd.network.conditions import RangeRefused
from hubd.network.connections import Claim
from hubd.network.object_directory import open_directory, without_markers
from hubd.network.object_tree import ObjectTree, Reading
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest
from hubd.network.virtual_tar import Extent, File, VirtualTar
from hubd.objects.endpoints import place
from hubd.objects.store import ObjectStore
from hubd.objects.urls import ObjectInfo, ObjectUrl
from tests.support.means import NETWORK
from tests.support.origin import Answer, Asked, Origin

MOST_CONNECTIONS = 8
ETAG = '"v1"'
FILES = {
    "saved_model.pb": b"graph" * 100,
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 2000,
    "assets/empty": b"",
    **{f"assets/{number:02}": b"%d" % number * (number * 50) for number in range(20)},
}


def serve(origin: Origin, name: str, data: bytes, etag: str = ETAG, before: Callable[[], object] = list) -> None:
    """As stores do: ranges, and 412 for another version."""

    def answer(asked: Asked) -> Answer:
        before()
        if asked.headers.get("If-Match") not in (None, etag):
            return Answer(status=412)
        return Answer(data, etag=etag, ranges=True)

    origin.serve(f"/{name}", answer)


@asynccontextmanager
async def tree_at(
    origin: Origin, files: dict[str, bytes], most_connections: int = MOST_CONNECTIONS
) -> AsyncIterator[ObjectTree]:
    async with Session(NETWORK) as session, Claim(session.connections, lambda: True) as claim:
        await claim.move("127.0.0.1")

        def get(name: str, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.following(URL(origin.url(f"/{name}")), headers)

        tar = VirtualTar(File(name, len(data), ETAG) for name, data in files.items())
        yield ObjectTree(tar, get, most_connections, claim.extra)


async def read(tree: ObjectTree, start: int = 0, end: int | None = None) -> bytes:
    async with asyncio.timeout(20), tree.part(start, end) as part:
        return b"".join([chunk async for chunk in part])


def bytes_of(tree: ObjectTree, files: dict[str, bytes]) -> bytes:
    return b"".join(
        files[piece.file.name] if isinstance(piece, Extent) else piece
        for piece in tree.tar.pieces(0, tree.tar.size_bytes)
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 560_000), min_size=2, max_size=3))
def test_a_part_has_just_its_bytes_of_the_archive(cuts: list[int], origin: Origin) -> None:
    for name, data in FILES.items():
        serve(origin, name, data)

    async def check() -> None:
        async with tree_at(origin, FILES) as tree:
            whole = bytes_of(tree, FILES)
            assert len(whole) == tree.tar.size_bytes
            start, *_, end = sorted(cuts)
            parts = await asyncio.gather(read(tree, 0, start), read(tree, start, end), read(tree, end))
            assert [*parts] == [whole[:start], whole[start:end], whole[end:]]
            assert tree.connections == 0

    asyncio.run(check())


async def test_an_empty_file_is_never_asked_for(origin: Origin) -> None:
    files = {"saved_model.pb": b"graph", "empty": b""}
    serve(origin, "saved_model.pb", b"graph")
    async with tree_at(origin, files) as tree:
        assert await read(tree) == bytes_of(tree, files)
    assert origin.asked("/empty") == []


async def test_small_files_do_not_wait_for_one_another(origin: Origin) -> None:
    files = {f"{number:02}": b"x" * 100 for number in range(3 * MOST_CONNECTIONS)}
    together = threading.Barrier(MOST_CONNECTIONS, timeout=10)  # nobody is answered before so many have asked
    for name, data in files.items():
        serve(origin, name, data, before=together.wait)
    async with tree_at(origin, files) as tree:
        assert await read(tree) == bytes_of(tree, files)


@pytest.mark.parametrize("most_connections", [1, 3, MOST_CONNECTIONS])
async def test_no_more_is_asked_for_at_once_than_a_fetch_may_have_connections(
    most_connections: int, origin: Origin
) -> None:
    running, most, changing = 0, 0, threading.Condition()
    gate = threading.Event()

    def enter() -> None:
        nonlocal running, most
        with changing:
            running += 1
            most = max(most, running)
            changing.notify_all()
            changing.wait_for(lambda: most >= most_connections, 20)  # however busy the machine is
        gate.wait(0.02)  # for one too many
        with changing:
            running -= 1

    files = {f"{number:02}": b"x" * 2000 for number in range(24)}
    for name, data in files.items():
        serve(origin, name, data, before=enter)
    async with tree_at(origin, files, most_connections) as tree:
        assert await read(tree) == bytes_of(tree, files)
    assert most == most_connections


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
async def test_a_file_that_is_another_one_by_then_ends_the_version(name: str, origin: Origin) -> None:
    for other, data in FILES.items():
        serve(origin, other, data)
    serve(origin, name, FILES[name], '"v2"')
    async with tree_at(origin, FILES) as tree:
        with pytest.raises(RangeRefused, match="has changed"):
            await read(tree)
    origin.serve(f"/{name}", Answer(status=404))
    async with tree_at(origin, FILES) as tree:
        with pytest.raises(RangeRefused, match="is gone"):
            await read(tree)


async def test_a_store_that_heeds_no_conditions_is_found_out_by_its_etag(origin: Origin) -> None:
    origin.serve("/saved_model.pb", Answer(b"other", etag='"v2"', ranges=True))
    async with tree_at(origin, {"saved_model.pb": b"graph"}) as tree:
        with pytest.raises(RangeRefused, match="another version"):
            await read(tree)


async def test_a_file_of_another_size_is_refused(origin: Origin) -> None:
    origin.serve("/saved_model.pb", Answer(b"graph of more", ranges=True))
    async with tree_at(origin, {"saved_model.pb": b"graph"}) as tree:
        with pytest.raises(RangeRefused, match="other bytes"):
            await read(tree)


@pytest.mark.parametrize("size_bytes", [1000, 1_000_000], ids=["small", "large"])
async def test_a_cut_gives_what_came_before_it_and_an_error_to_try_again_after(size_bytes: int, origin: Origin) -> None:
    data = b"w" * size_bytes
    files = {"a": b"first", "b": data}
    serve(origin, "a", b"first")
    stated = {"Content-Range": f"bytes 0-{size_bytes - 1}/{size_bytes}"}
    origin.serve("/b", Answer(data, 206, stated, cut_after_bytes=size_bytes // 2, etag=ETAG))
    async with tree_at(origin, files) as tree:
        whole, received = bytes_of(tree, files), b""

        async def receive() -> None:
            nonlocal received
            async with tree.part(0, None) as part:
                async for chunk in part:
                    received += chunk

        with pytest.raises(UpstreamUnavailable, match="cut the transfer"):
            await receive()
        assert whole.startswith(received)
        assert len(received) >= 1024
        assert tree.connections == 0
        serve(origin, "b", data)
        assert received + await read(tree, len(received)) == whole


async def test_what_is_given_up_leaves_no_request_behind(origin: Origin) -> None:
    gate = threading.Event()
    files = {f"{number}": b"x" * 100 for number in range(20)}
    for name, data in files.items():
        serve(origin, name, data, before=lambda: gate.wait(20))
    try:
        async with tree_at(origin, files) as tree:
            reading: Reading = tree.reading(0)
            body = reading.chunks()
            assert len(await anext(body)) == 512  # the first header, while all files are waited for
            assert tree.connections > 1
            reading.close()
            await body.aclose()
            assert tree.connections == 0
    finally:
        gate.set()


async def test_empty_objects_that_the_store_does_not_have_under_their_name_are_markers(origin: Origin) -> None:
    files = [File("assets", 0, ETAG), File("empty", 0, ETAG), File("saved_model.pb", 5, ETAG)]
    serve(origin, "empty", b"")
    async with Session(NETWORK) as session:

        def get(name: str, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.following(URL(origin.url(f"/{name}")), headers)

        assert await without_markers(files, get, 4, lambda: None) == files[1:]
        assert origin.asked("/saved_model.pb") == []
        origin.serve("/empty", Answer(status=503))
        with pytest.raises(UpstreamUnavailable, match="503"):
            await without_markers(files, get, 4, lambda: None)


async def test_markers_are_asked_after_over_no_more_connections_than_the_host_may_have(origin: Origin) -> None:
    files = [File(f"empty/{number}", 0, ETAG) for number in range(20)]
    arrived, gate, at_once = threading.Semaphore(0), threading.Event(), []
    running = set[str]()

    def before(name: str) -> None:
        running.add(name)
        at_once.append(len(running))
        arrived.release()
        gate.wait(20)
        running.discard(name)

    for file in files:
        serve(origin, file.name, b"", before=partial(before, file.name))
    async with (
        Session(NETWORK.model_copy(update={"connections_per_host": 3})) as session,
        Claim(session.connections, lambda: True) as claim,
    ):
        await claim.move("127.0.0.1")

        def get(name: str, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.following(URL(origin.url(f"/{name}")), headers)

        asking = asyncio.create_task(without_markers(files, get, MOST_CONNECTIONS, claim.extra))
        try:
            for _ in range(3):
                assert await asyncio.to_thread(arrived.acquire, timeout=20)
        finally:
            gate.set()
        assert await asking == files
        assert max(at_once) == 3
        places = [claim.extra() for _ in range(3)]
        assert [place is not None for place in places] == [True, True, False]  # all were given back


class LongNames(ObjectStore):
    """Objects without end."""

    listed = 0

    async def listing(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        while True:
            self.listed += 1
            yield ObjectInfo(f"{prefix}/{'n' * 990}{self.listed}", 1, ETAG, datetime(2026, 1, 1, tzinfo=UTC))


async def test_names_that_would_take_much_memory_are_not_kept() -> None:
    url = ObjectUrl("s3", "bucket", "m")
    async with Session(NETWORK) as session:
        store = LongNames(place(url, []), session, NETWORK)

        def get(name: str, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            raise AssertionError("nothing is to be asked for")

        request = ArchiveRequest(str(url))
        with pytest.raises(ArchiveTooLarge, match="characters"):
            async with open_directory(session.connections, store, url, request, get, LimitSettings(), 1):
                pass
    assert store.listed < 20_000  # far from limits.files
