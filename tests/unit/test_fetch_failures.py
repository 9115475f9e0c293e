"""A fetch that fails at its very end leaves nothing that nobody would ever find."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hubclient.contract import handles
from hubclient.contract.errors import Internal
from hubd.fetching.resolver import Ask, Resolver
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store.adoption import adopt
from hubd.store.cleaning import clean
from tests.support.archives import MODULE, archive
from tests.support.means import NETWORK, means_of
from tests.support.origin import Answer, Origin


async def test_a_tree_whose_record_could_not_be_written_is_cleared_away(tmp_path: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(4) as threads:
        async with Session(NETWORK) as session, asyncio.TaskGroup() as group:
            source = HttpSource(session)
            means = means_of(hold.layout, source, threads, spawn=group.create_task)
            os.mkdir(hold.layout.record(handles.key(handle)))
            with pytest.raises(Internal):
                await Resolver(means, group.create_task).fetch(Ask(handle))
            assert len(os.listdir(hold.layout.trees)) == 1
            means.grace.release_all()
            clean(means.trees, means.records, means.orphans)
            assert os.listdir(hold.layout.trees) == []
            assert means.trees.ledger.used_bytes == 0
            means.verifier.close()
