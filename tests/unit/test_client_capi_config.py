"""The ConfigProto says what was asked for, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from hubclient.capi.config import config

SOFT_PLACEMENT = b"\x38\x01"


def test_nothing_asked_for_writes_soft_placement_alone() -> None:
    assert config(gpu_memory_growth=False) == SOFT_PLACEMENT


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({"intra_op_threads": 300}, b"\x10\xac\x02"),
        ({"inter_op_threads": -1}, b"\x28" + b"\xff" * 9 + b"\x01"),
        ({"gpu_memory_growth": True}, b"\x32\x02\x20\x01"),
        ({"gpu": False}, b"\x0a\x07\x0a\x03GPU\x10\x00"),
        ({"grappler": False}, b"\x52\x05\x52\x03\x98\x01\x01"),
    ],
)
def test_each_setting_is_its_field_of_config_proto(settings: dict[str, Any], written: bytes) -> None:
    assert config(**{"gpu_memory_growth": False, **settings}) == SOFT_PLACEMENT + written
