"""Who may enter the cache, as the kernel judges it, and that a root is opened only where hubd had closed it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hubd.config import AccessSettings, ConfigError
from hubd.store import acl, entrance
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root

CAROL = 54303
STAFF, OPERATORS = 54350, 54360
OPEN = AccessSettings(admin_groups=())
CLOSED = AccessSettings(users=(BOB,), groups=(STAFF,), admin_groups=(OPERATORS,))


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def settle(path: str | Path, access: AccessSettings) -> None:
    entrance.settle(str(path), access)


def may_enter(path: str, uid: int, *groups: int) -> bool:
    def attempt() -> bool:
        try:
            os.stat(path + "/inside")
        except PermissionError:
            return False
        return True

    return as_user(uid, attempt, groups)


@needs_root
def test_whom_the_settings_name_may_enter_and_administrators_and_nobody_else() -> None:
    with directory_of(ALICE) as root:
        Path(root, "inside").touch()
        as_user(ALICE, lambda: settle(root, CLOSED))
        assert may_enter(root, ALICE)
        assert may_enter(root, BOB)
        assert may_enter(root, CAROL, 1, STAFF)
        assert may_enter(root, CAROL, OPERATORS)
        assert not may_enter(root, CAROL)
        assert mode(root) == 0o750
        as_user(ALICE, lambda: settle(root, OPEN))
        assert may_enter(root, CAROL)
        assert mode(root) == 0o755
        assert acl.ATTRIBUTE not in os.listxattr(root)


def test_a_root_is_opened_only_where_hubd_had_closed_it(tmp_path: Path) -> None:
    for closed_by_somebody in (0o700, 0o750):
        tmp_path.chmod(closed_by_somebody)
        settle(tmp_path, OPEN)
        assert mode(tmp_path) == closed_by_somebody
    os.setxattr(tmp_path, acl.ATTRIBUTE, theirs := acl.encode({BOB}))
    settle(tmp_path, OPEN)
    assert os.getxattr(tmp_path, acl.ATTRIBUTE) == theirs


@pytest.mark.parametrize("by_systemd", [0o755, 0o750, 0o700])
def test_what_a_service_manager_does_to_its_mode_is_put_right_at_the_next_start(
    tmp_path: Path, by_systemd: int
) -> None:
    settle(tmp_path, CLOSED)
    wanted = os.getxattr(tmp_path, acl.ATTRIBUTE)
    tmp_path.chmod(by_systemd)
    settle(tmp_path, CLOSED)
    assert os.getxattr(tmp_path, acl.ATTRIBUTE) == wanted
    tmp_path.chmod(0o755 if by_systemd == 0o700 else by_systemd)
    settle(tmp_path, OPEN)
    assert (mode(tmp_path), acl.ATTRIBUTE in os.listxattr(tmp_path)) == (0o755, False)


def test_other_names_take_the_place_of_those_before(tmp_path: Path) -> None:
    settle(tmp_path, CLOSED)
    settle(tmp_path, AccessSettings(users=(CAROL,), admin_groups=()))
    assert acl.entrants_of(str(tmp_path)) == (frozenset({CAROL, os.geteuid()}), frozenset(), False)


def test_a_file_system_without_acls_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"access: /proc cannot be closed .* ext4, xfs or btrfs"):
        settle("/proc", CLOSED)
    settle("/proc", OPEN)


def test_what_somebody_changed_since_is_told(tmp_path: Path) -> None:
    root = str(tmp_path)
    settle(root, CLOSED)
    assert entrance.warning(root, CLOSED) is None
    tmp_path.chmod(0o755)
    assert "against [access]" in (entrance.warning(root, CLOSED) or "")
    settle(root, OPEN)
    assert entrance.warning(root, OPEN) is None
    tmp_path.chmod(0o750)
    assert f"chmod o+rx {root}" in (entrance.warning(root, OPEN) or "")
