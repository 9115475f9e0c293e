"""What answers are worth: a part of an archive is never taken for all the rest of it."""

from __future__ import annotations

import pytest

from hubclient.contract.errors import UpstreamUnavailable
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, Delivery, HttpSource
from tests.support.means import NETWORK
from tests.support.origin import Answer, Asked, Origin

BODY = bytes(range(256))


async def test_a_part_that_ends_before_the_archive_whose_size_was_not_told_is_no_end(origin: Origin) -> None:
    whole = Answer(BODY, chunked=True, etag='"v"')
    short = Answer(BODY[16:100], 206, {"Content-Range": "bytes 16-99/256"}, etag='"v"')
    rest = Answer(BODY[100:], 206, {"Content-Range": "bytes 100-255/256"}, etag='"v"')

    def answer(asked: Asked) -> Answer:
        return {None: whole, "bytes=16-": short, "bytes=100-": rest}[asked.headers.get("Range")]

    request = ArchiveRequest(origin.serve("/m/1", answer))
    received: list[bytes] = []

    async def read(delivery: Delivery, start: int) -> None:
        assert delivery.part is not None
        async with delivery.part(start, None) as part:
            async for piece in part:
                received.append(piece)

    async with Session(NETWORK) as session, HttpSource(session).open(request) as delivery:
        with pytest.raises(UpstreamUnavailable, match="sent a part of what was asked for"):
            await read(delivery, 16)
        await read(delivery, 100)
    assert b"".join(received) == BODY[16:]
