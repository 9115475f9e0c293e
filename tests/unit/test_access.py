"""Who asks is the kernel's word, and every route says what it demands."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

import pytest
from aiohttp import web

from hubclient.contract.errors import AccessDenied
from hubd.api.access import Caller, Gate, Level, Policy, caller_of
from hubd.api.routes import Route
from hubd.config import AccessSettings


def test_the_caller_is_the_other_end_as_the_kernel_knows_it() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        caller = caller_of(here)
    assert (caller.pid, caller.uid) == (os.getpid(), os.geteuid())
    assert caller.groups == {os.getegid(), *os.getgroups()}


OWNER = 1000
STAFF, OPERATORS = 50, 60


def level(access: AccessSettings, uid: int, *groups: int, is_private: bool = False) -> Level | None:
    return Policy(access, OWNER, is_private).level(Caller(1, uid, frozenset(groups)))


def access_of(**named: tuple[int, ...]) -> AccessSettings:
    return AccessSettings.model_validate({"admin_groups": (), **named})


@pytest.mark.parametrize(
    "access", [access_of(), access_of(users=(7,)), access_of(admin_users=(7,))], ids=["open", "restricted", "named"]
)
def test_root_and_the_daemons_own_user_are_always_administrators(access: AccessSettings) -> None:
    assert level(access, 0) == level(access, OWNER) == Level.ADMIN


def test_everybody_may_ask_while_nobody_is_named() -> None:
    assert level(access_of(), 1001) == level(access_of(), 65534) == Level.USER
    assert level(access_of(admin_users=(7,), admin_groups=(OPERATORS,)), 1001) == Level.USER


def test_where_some_are_named_nobody_else_may_do_anything() -> None:
    access = access_of(users=(1001,), groups=(STAFF,))
    assert level(access, 1001) == level(access, 1002, 9, STAFF) == Level.USER
    assert level(access, 1002, 9) is None
    assert level(access, STAFF) is None, "a uid of a group's number is another thing"


def test_administrators_need_not_be_named_twice() -> None:
    access = access_of(users=(1001,), admin_users=(1002,), admin_groups=(OPERATORS,))
    assert level(access, 1002) == level(access, 1003, OPERATORS) == Level.ADMIN


def test_a_users_own_daemon_is_for_that_user_and_root_alone() -> None:
    access = access_of(admin_groups=(OPERATORS,))
    assert level(access, 1001, is_private=True) is None
    assert level(access, 1001, OPERATORS, is_private=True) is None
    assert level(access, 0, is_private=True) == level(access, OWNER, is_private=True) == Level.ADMIN


def test_each_request_is_judged_by_the_policy_that_holds_then(caplog: pytest.LogCaptureFixture) -> None:
    caller = Caller(1, 1001, frozenset((STAFF,)))
    access = [AccessSettings(groups=(STAFF,))]
    gate = Gate(lambda: Policy(access[0], OWNER, is_private=False))
    assert gate.admit(caller, Level.USER) == Level.USER
    with pytest.raises(AccessDenied, match="for administrators"):
        gate.admit(caller, Level.ADMIN)
    access[0] = AccessSettings(groups=(OPERATORS,))
    for _ in range(3):
        with pytest.raises(AccessDenied, match=r"uid 1001 may not use this hubd.*ask an administrator"):
            gate.admit(caller, Level.USER)
    assert len(caplog.records) == 1, "it is logged once"
    access[0] = AccessSettings(admin_users=(1001,))
    assert gate.admit(caller, Level.ADMIN) == Level.ADMIN


def test_a_route_without_a_level_cannot_be_made() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(TypeError, match="level"):
        cast(Any, Route)(method="GET", path="/x", handler=handler, summary="", answer=None)
