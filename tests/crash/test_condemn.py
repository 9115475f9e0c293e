"""Kills at every writing call of a withdrawal and of the repair after it: what is served is right, or not served."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from hubd.store.adoption import adopt
from hubd.store.deep_check import DeepCheck
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout, TreeLayout
from hubd.store.records import Records
from hubd.store.recovery import clear, mend
from hubd.store.trees import Trees
from tests.support.journal import killed
from tests.support.modules import FILES, change_silently, digest_of, fill, record_of

_HANDLE = "https://example.com/m/1"
_DIGEST = digest_of(FILES)
_UNTIL = 2_000_000_000.0


@pytest.fixture
def layout(directory: Path) -> StoreLayout:
    """A cache whose only module was changed so that no quick check can see it."""
    with adopt(str(directory / "cache"), socket="/s") as hold:
        _fetch(hold.layout, Disk())
        change_silently(Path(hold.layout.module(_DIGEST)) / "saved_model.pb")
        return hold.layout


def _fetch(layout: StoreLayout, disk: Disk) -> None:
    trees, records = Trees(layout, disk), Records(layout, disk)
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    with trees.publish(tree, _DIGEST, fill(tree, FILES, disk)):
        records.put(record_of(_HANDLE), direct_until=_UNTIL)
    staging.discard()


def _condemn(layout: StoreLayout, disk: Disk) -> None:
    check = DeepCheck(TreeLayout(layout.tree(_DIGEST)), _DIGEST, threading.Event())
    check.work()
    assert check.damage == ("saved_model.pb",)
    assert Trees(layout, disk).condemn(_DIGEST, check)
    Records(layout, disk).withdraw({_DIGEST})
    check.close()


def _is_served_after_recovery(layout: StoreLayout) -> bool:
    """Whether the next daemon serves the module; with all its views then, else with none."""
    with adopt(layout.root, socket="/s"):
        clear(layout)
        trees, records = Trees(layout), Records(layout)
        mend(trees, records, lambda _: _UNTIL)
        record = records.get(record_of(_HANDLE).key)
        assert record is not None, "the record stays, or nobody would repair it"
        lease = trees.find(_DIGEST)
        served = lease is not None
        views = [layout.handle_link(record.key), *map(layout.tfhub_view, record.spellings)]
        assert [os.path.exists(view) for view in views] == [served] * len(views)
        if lease is not None:
            lease.release()
        return served


def test_a_kill_at_any_call_of_a_withdrawal_leaves_the_module_served_or_withdrawn(
    layout: StoreLayout, directory: Path
) -> None:
    shutil.copytree(layout.root, directory / "before", symlinks=True)
    fatal, served = 1, []
    while killed(fatal, lambda disk: _condemn(layout, disk)):
        served.append(_is_served_after_recovery(layout))
        shutil.rmtree(layout.root)
        shutil.copytree(directory / "before", layout.root, symlinks=True)
        fatal += 1
    assert served == [True] + [False] * (len(served) - 1)
    assert len(served) > 3
    assert not _is_served_after_recovery(layout)


def test_a_kill_at_any_call_of_the_repair_leaves_it_withdrawn_or_right(layout: StoreLayout, directory: Path) -> None:
    _condemn(layout, Disk())
    shutil.copytree(layout.root, directory / "before", symlinks=True)
    fatal, served = 1, []
    while killed(fatal, lambda disk: _fetch(layout, disk)):
        served.append(_is_served_after_recovery(layout))
        assert (Path(layout.module(_DIGEST)) / "saved_model.pb").read_bytes() == FILES["saved_model.pb"] or not served[
            -1
        ]
        shutil.rmtree(layout.root)
        shutil.copytree(directory / "before", layout.root, symlinks=True)
        fatal += 1
    assert (served[0], served[-1]) == (False, True)
    assert _is_served_after_recovery(layout)
