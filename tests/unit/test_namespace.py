"""A service says when the kernel cannot tell it who its users are."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.api import namespace


@pytest.mark.parametrize(
    ("uid_map", "is_warned"),
    [
        ("         0          0 4294967295\n", False),
        ("0 0 2147483648\n2147483648 2147483648 2147483647\n", False),
        ("0 100000 65536\n", True),
        ("0 1000 1\n1 100000 65536\n", True),
        ("", True),
    ],
)
def test_only_a_map_of_all_users_tells_them_apart(tmp_path: Path, uid_map: str, is_warned: bool) -> None:
    (tmp_path / "uid_map").write_text(uid_map)
    assert (namespace.warning(str(tmp_path / "uid_map")) is not None) == is_warned
    assert namespace.warning(str(tmp_path / "absent")) is None
