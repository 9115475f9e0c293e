"""Over which sockets a credential may be sent."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hubclient.connecting import connect, require_confidant
from hubclient.contract import places
from hubclient.contract.errors import AccessDenied
from hubclient.finding import Place
from tests.support.uids import ALICE, BOB, directory_of, needs_root, staying

_listening: list[socket.socket] = []  # of the child that stays


def listen(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    _listening.append(listener)


def test_ones_own_daemon_is_told_wherever_it_listens(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    path = str(tmp_path / "own.sock")
    listen(path)
    with connect(path) as connection:
        require_confidant(connection, Place(path, None, "explicit"))
    _listening.pop().close()


@needs_root
def test_another_users_daemon_is_told_only_where_no_one_else_could_have_put_it() -> None:
    with directory_of(ALICE) as directory:
        path = f"{directory}/hubd.sock"
        place = Place(path, None, "explicit")
        with staying(ALICE, lambda: listen(path)), connect(path) as connection:
            with pytest.raises(AccessDenied, match=f"not sent over {path}: {directory} belongs to uid {ALICE}"):
                require_confidant(connection, place)
            os.chown(directory, 0, 0)
            require_confidant(connection, place)
            # A user's own daemon is its own: another one that answers in its place was only trusted with modules.
            with pytest.raises(AccessDenied, match=f"uid {ALICE} answers there"):
                require_confidant(connection, place._replace(kind="user"))
            for mode in (0o1777, 0o775, 0o757):
                os.chmod(directory, mode)
                with pytest.raises(AccessDenied, match=f"others can write to {directory}"):
                    require_confidant(connection, place)
            os.chmod(directory, 0o755)
            os.chown(os.path.dirname(directory), BOB, BOB)  # who could put another directory in its place
            with pytest.raises(AccessDenied, match=f"belongs to uid {BOB}"):
                require_confidant(connection, place)
            require_confidant(connection, Place(places.SERVICE_SOCKET, None, "service"))
