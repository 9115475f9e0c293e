"""The deep check: it finds every change of a tree, blames no tree for its own troubles, and stops when told."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hubd.store.deep_check import DeepCheck
from hubd.store.layout import TreeLayout
from hubd.store.manifest import Manifest
from tests.support.modules import FILES, change_silently, digest_of, publish_at

_DIGEST = digest_of(FILES)
_WEIGHTS = "variables/variables.data-00000-of-00001"


@pytest.fixture
def tree(tmp_path: Path) -> TreeLayout:
    return publish_at(tmp_path / "cache")


def _check(tree: TreeLayout, digest: str = _DIGEST, threads: int = 2) -> tuple[str, ...]:
    check = DeepCheck(tree, digest, threading.Event())
    try:
        workers = [threading.Thread(target=check.work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if not check.damage:
            assert check.done_bytes == check.total_bytes == sum(map(len, FILES.values()))
        return check.damage
    finally:
        check.close()


def test_a_tree_as_published_is_intact(tree: TreeLayout) -> None:
    assert _check(tree) == ()


def _first_line(file: Path) -> bytes:
    return file.read_bytes().splitlines(keepends=True)[0]


DAMAGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "changed": (lambda tree: change_silently(tree / "module" / _WEIGHTS), {_WEIGHTS}),
    "touched": (lambda tree: os.utime(tree / "module" / "saved_model.pb"), {"saved_model.pb"}),
    "cut": (lambda tree: os.truncate(tree / "module" / "saved_model.pb", 1), {"saved_model.pb"}),
    "gone": (lambda tree: (tree / "module" / "saved_model.pb").unlink(), {"saved_model.pb"}),
    "extra": (lambda tree: (tree / "module" / "assets.txt").touch(), {"assets.txt"}),
    "extra-link": (lambda tree: (tree / "module" / "a").symlink_to("saved_model.pb"), {"a"}),
    "extra-fifo": (lambda tree: os.mkfifo(tree / "module" / "a"), {"a"}),
    "module-gone": (lambda tree: (tree / "module").rename(tree / "x"), {"module", *FILES}),
    "listing-gone": (lambda tree: (tree / "files").unlink(), {"files"}),
    "listing-cut": (lambda tree: os.truncate(tree / "files", 5), {"files"}),
    "listing-short": (lambda tree: (tree / "files").write_bytes(_first_line(tree / "files")), {"files"}),
    "manifest-gone": (lambda tree: (tree / "manifest.json").unlink(), {"manifest.json"}),
    "manifest-cut": (lambda tree: os.truncate(tree / "manifest.json", 9), {"manifest.json"}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_change_is_found(tree: TreeLayout, name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(Path(tree.path))
    assert set(_check(tree)) == expected


def test_a_directory_behind_a_link_is_damage_and_is_not_entered(tree: TreeLayout, tmp_path: Path) -> None:
    variables = Path(tree.module) / "variables"
    variables.rename(tmp_path / "elsewhere")
    variables.symlink_to(tmp_path / "elsewhere")
    assert set(_check(tree)) == {"variables", *(path for path in FILES if path.startswith("variables/"))}


def test_the_manifest_of_another_tree_is_damage(tree: TreeLayout) -> None:
    assert _check(tree, "0" * 64) == ("manifest.json",)


def test_a_manifest_whose_digest_of_the_content_is_wrong_is_damage(tree: TreeLayout) -> None:
    manifest = Manifest.model_validate_json(Path(tree.manifest).read_bytes())
    wrong = manifest.model_copy(update={"content_digest": "0" * 64})
    Path(tree.manifest).write_text(wrong.model_dump_json())
    assert _check(tree) == ("manifest.json",)


def test_what_takes_the_name_of_the_tree_meanwhile_is_not_looked_at(tree: TreeLayout, tmp_path: Path) -> None:
    check = DeepCheck(tree, _DIGEST, threading.Event())
    os.rename(tree.path, tmp_path / "trash")
    os.mkdir(tree.path)
    check.work()
    assert check.damage == ()
    assert os.fstat(check.directory).st_ino == os.stat(tmp_path / "trash").st_ino
    check.close()


def test_a_shortage_of_this_process_is_no_damage(tree: TreeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    check = DeepCheck(tree, _DIGEST, threading.Event())

    def none_left(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", none_left)
        with pytest.raises(OSError, match="Too many"):
            check.work()
    assert check.damage == ()
    check.close()


def test_a_cancelled_check_reads_nothing_more(tree: TreeLayout) -> None:
    cancelled = threading.Event()
    check = DeepCheck(tree, _DIGEST, cancelled)
    cancelled.set()
    check.work()
    assert (check.done_bytes, check.damage) == (0, ())
    check.close()


def test_no_tree_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DeepCheck(TreeLayout(str(tmp_path / "none")), _DIGEST, threading.Event())
