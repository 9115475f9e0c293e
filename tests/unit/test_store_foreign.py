"""What is not the store's in ``tfhub/`` is counted and named, and stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubd.store import foreign
from hubd.store.layout import StoreLayout, tfhub_target


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    made = StoreLayout(str(tmp_path))
    os.mkdir(made.tfhub)
    os.symlink(tfhub_target("a" * 64), made.tfhub_view("https://example.org/m/1"))
    return made


def test_views_are_not_foreign_whether_or_not_they_lead_anywhere(layout: StoreLayout) -> None:
    assert foreign.warning(layout) is None


def test_what_tensorflow_hub_leaves_is_counted_and_at_most_five_are_named(layout: StoreLayout) -> None:
    for number in range(6):
        os.mkdir(layout.tfhub_entry(f"{number}-directory"))
    os.symlink("/elsewhere", layout.tfhub_entry("7-link"))
    Path(layout.tfhub_entry("6-file.descriptor.txt")).touch()
    before = sorted(os.listdir(layout.tfhub))
    warning = foreign.warning(layout)
    assert warning is not None
    assert warning.startswith(f"{layout.tfhub} holds what is not hubd's and is left alone (8 in all): ")
    assert "0-directory, 1-directory, 2-directory, 3-directory, 4-directory and 3 more;" in warning
    assert sorted(os.listdir(layout.tfhub)) == before
