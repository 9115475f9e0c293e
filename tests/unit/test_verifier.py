"""Deep checks under way: shared by those who ask, ended when nobody does, and carried out before anyone hears."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubclient.contract.errors import Internal, ShuttingDown
from hubd.fetching.verifier import GONE, Verifier
from hubd.store.adoption import adopt
from hubd.store.deep_check import DeepCheck
from hubd.store.records import Records
from hubd.store.trees import Trees
from tests.support.modules import FILES, change_silently, digest_of, publish

_DIGEST = digest_of(FILES)


class _Trees(Trees):
    """Counts checks, and holds their beginning up until the gate opens."""

    begun = 0

    def check(self, digest: str, cancelled: threading.Event) -> DeepCheck | None:
        self.begun += 1
        self.cancelled = cancelled
        assert self.gate.wait(20)
        return super().check(digest, cancelled)

    gate: threading.Event


@asynccontextmanager
async def _verifier(tmp_path: Path) -> AsyncIterator[tuple[Verifier, _Trees]]:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        trees = _Trees(hold.layout)
        trees.gate = threading.Event()
        publish(trees)
        async with asyncio.TaskGroup() as group:
            verifier = Verifier(trees, Records(hold.layout), group.create_task)
            yield verifier, trees
            trees.gate.set()
        verifier.close()


async def test_those_who_ask_at_once_share_a_check(tmp_path: Path) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        asking = [asyncio.ensure_future(verifier.check(_DIGEST)) for _ in range(8)]
        await asyncio.sleep(0)
        trees.gate.set()
        findings = await asyncio.gather(*asking)
        assert trees.begun == 1
        assert {finding.damage for finding in findings} == {()}
        assert findings[0].read_bytes == sum(map(len, FILES.values()))


async def test_a_suspect_is_served_again_when_it_is_intact(tmp_path: Path) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        trees.gate.set()
        trees.suspect(_DIGEST)
        assert trees.find(_DIGEST) is None
        assert (await verifier.check(_DIGEST)).damage == ()
        lease = trees.find(_DIGEST)
        assert lease is not None
        lease.release()
        assert trees.health.damaged == 0


@pytest.mark.parametrize("suspected", [False, True])
async def test_what_is_damaged_is_withdrawn_before_anyone_hears(tmp_path: Path, suspected: bool) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        trees.gate.set()
        if suspected:
            trees.suspect(_DIGEST)
        change_silently(Path(trees.layout.module(_DIGEST)) / "saved_model.pb")
        assert (await verifier.check(_DIGEST)).damage == ("saved_model.pb",)
        assert trees.layout.is_withdrawn(_DIGEST)
        assert not trees.is_suspect(_DIGEST)
        trees.evict(_DIGEST)  # and nothing of the check holds it


async def test_the_last_to_leave_ends_the_check(tmp_path: Path) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        asking = [asyncio.ensure_future(verifier.check(_DIGEST)) for _ in range(2)]
        while not trees.begun:
            await asyncio.sleep(0.01)
        for asker in asking:
            asker.cancel()
        await asyncio.wait(asking)
        trees.gate.set()
        assert (await verifier.check(_DIGEST)).damage == (), "who comes later has one of its own"
        assert trees.begun == 2


async def test_a_tree_that_is_not_there_is_gone(tmp_path: Path) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        trees.gate.set()
        assert (await verifier.check("0" * 64)).damage == GONE


async def test_what_cannot_be_read_for_want_of_descriptors_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        trees.gate.set()

        def none_left(_: object) -> None:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(DeepCheck, "work", none_left)
            with pytest.raises(Internal, match="Too many"):
                await verifier.check(_DIGEST)
        assert os.path.exists(trees.layout.listing(_DIGEST))


async def test_a_stop_answers_who_waits(tmp_path: Path) -> None:
    async with _verifier(tmp_path) as (verifier, trees):
        asking = asyncio.ensure_future(verifier.check(_DIGEST))
        await asyncio.sleep(0)
        verifier.stop()
        trees.gate.set()
        with pytest.raises(ShuttingDown):
            await asking
        with pytest.raises(ShuttingDown):
            await verifier.check(_DIGEST)
