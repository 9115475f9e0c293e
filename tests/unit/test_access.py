"""Who asks is the kernel's word, and every route says what it demands."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

import pytest
from aiohttp import web

from hubd.api.access import Caller, Level, caller_of
from hubd.api.routes import Route


def test_the_caller_is_the_other_end_as_the_kernel_knows_it() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        caller = caller_of(here)
    assert (caller.pid, caller.uid) == (os.getpid(), os.geteuid())
    assert caller.groups == {os.getegid(), *os.getgroups()}


@pytest.mark.parametrize(
    ("uid", "level"), [(0, Level.ADMIN), (1000, Level.ADMIN), (1001, Level.USER), (65534, Level.USER)]
)
def test_root_and_the_daemons_own_user_are_administrators(uid: int, level: Level) -> None:
    assert Caller(1, uid, frozenset()).level(owner_uid=1000) == level


def test_a_route_without_a_level_cannot_be_made() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(TypeError, match="level"):
        cast(Any, Route)(method="GET", path="/x", handler=handler, summary="", answer=None)
