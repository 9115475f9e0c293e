"""daemon.lock: it tells a clean stop from an unclean one, and since when there is something to check."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.lease import Lease
from hubd.store.adoption import CacheUnusable, adopt
from hubd.store.disk import Disk
from hubd.store.hold import CacheHold, unchecked_since
from hubd.store.records import Records
from hubd.store.suspects import withdraw_suspects
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, publish, record_of

_DAY = 86400.0
_DIGEST = digest_of(FILES)


def _adopt(tmp_path: Path) -> CacheHold:
    return adopt(str(tmp_path / "cache"), socket="/s")


def _said(hold: CacheHold) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(Path(hold.layout.daemon_lock).read_text())
    return said


def test_after_an_orderly_stop_nothing_is_unchecked(tmp_path: Path) -> None:
    with _adopt(tmp_path) as hold:
        hold.move_clean_point(hold.since)
        hold.stop()
        assert _said(hold)["stopped"] is True
    with _adopt(tmp_path) as again:
        assert again.unchecked_since is None
        assert "stopped" not in _said(again)


def test_without_one_all_since_the_clean_point_is(tmp_path: Path) -> None:
    with _adopt(tmp_path) as hold:
        hold.move_clean_point(1234567890.5)
    with _adopt(tmp_path) as again:
        assert again.unchecked_since == 1234567890.5


def test_what_was_not_checked_is_not_called_clean_by_a_stop(tmp_path: Path) -> None:
    with _adopt(tmp_path) as hold:
        hold.move_clean_point(1234567890.5)
    for _ in range(2):
        with _adopt(tmp_path) as hold:
            hold.stop()
            assert hold.clean_point == 1234567890.5
    with _adopt(tmp_path) as again:
        assert again.unchecked_since == 1234567890.5


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"clean_point": "x"}', '{"clean_point": NaN}', '{"clean_point": 1e18}', '{"stopped": 1}'],
)
def test_a_file_that_does_not_say_counts_for_a_day(tmp_path: Path, text: str) -> None:
    _adopt(tmp_path).close()
    with _adopt(tmp_path) as hold:
        Path(hold.layout.daemon_lock).write_text(text)
        now = time.time()
        assert unchecked_since(hold.layout, now) == now - _DAY


def test_the_cache_is_held_while_the_file_changes_and_its_fields_stay(tmp_path: Path) -> None:
    with _adopt(tmp_path) as hold:
        before = _said(hold)
        for point in (1.0, 2.0):
            hold.move_clean_point(point)
            assert _said(hold) == {**before, "clean_point": point}
            with pytest.raises(BlockingIOError):
                Lease.share(hold.layout.daemon_lock)
            with pytest.raises(CacheUnusable, match="another hubd"):
                _adopt(tmp_path)
        assert os.stat(hold.layout.daemon_lock).st_mode & 0o777 == 0o644
        assert os.listdir(hold.layout.staging) == []
    Lease.share(hold.layout.daemon_lock).release()


def _put(trees: Trees, records: Records) -> None:
    publish(trees)
    records.put(record_of("https://example.com/m/1"), direct_until=2e9)


@pytest.mark.parametrize(
    ("published_ago", "clean_point_ago", "suspected"),
    [(0.0, 1000.0, True), (1100.0, 1000.0, False), (1030.0, 1000.0, True), (-5000.0, 1000.0, True)],
)
def test_suspects_are_what_came_since_or_from_the_future(
    tmp_path: Path, published_ago: float, clean_point_ago: float, suspected: bool
) -> None:
    now = time.time()
    with _adopt(tmp_path) as hold:
        trees, records = Trees(hold.layout), Records(hold.layout)
        _put(trees, records)
        os.utime(hold.layout.manifest(_DIGEST), (now - published_ago,) * 2)
        hold.move_clean_point(now - clean_point_ago)
    with _adopt(tmp_path) as hold:
        trees, records = Trees(hold.layout), Records(hold.layout)
        assert withdraw_suspects(hold, trees, records) == [_DIGEST] * suspected
        assert trees.is_suspect(_DIGEST) == suspected
        views = [*os.listdir(hold.layout.tfhub), *records.linked_keys()]
        assert len(views) == (0 if suspected else 2)
        record = record_of("https://example.com/m/1")
        assert not records.mend_views(record, direct_until=2e9), "nor do they come back before the check"
        lease = trees.find(_DIGEST)
        assert (lease is None) == suspected
        if lease is not None:
            lease.release()
        assert trees.health.damaged == 0


class _Looking(Disk):
    look: Callable[[], None]

    def rename(self, source: str, target: str) -> None:
        if os.path.dirname(target).endswith("/trees"):
            self.look()
        super().rename(source, target)


def test_a_publish_under_way_keeps_the_clean_point_where_it_is(tmp_path: Path) -> None:
    seen: list[float | None] = []
    with _adopt(tmp_path) as hold:
        trees = Trees(hold.layout, disk := _Looking())
        disk.look = lambda: seen.append(trees.quiet_since())
        publish(trees)
        assert seen
        assert set(seen) == {None}
        quiet = trees.quiet_since()
        assert quiet is not None
        assert trees.published_at <= quiet
