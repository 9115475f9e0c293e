"""The crowd of `benchmarks.load`: it asks as many clients would, and times what they would see."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.crowd import Crowd, Unanswered, parse, request, resolve

HIT = b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"outcome":"hit"}'
LEAVING = b'HTTP/1.1 503 x\r\nContent-Length: 24\r\n\r\n{"code":"shutting-down"}'


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that hands each connection to `answer` in turn."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def ever(said: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        while connection.recv(4096):
            connection.sendall(said)

    return answer


def test_an_answer_is_one_when_all_of_it_is_there() -> None:
    assert parse(HIT) == (200, "hit")
    assert [parse(HIT[:length]) for length in range(len(HIT))] == [None] * len(HIT)
    stream = b'HTTP/1.1 200 OK\r\n\r\n11\r\n{"event":"waiting"}\r\n1b\r\n{"outcome":"fetched"}\r\n0\r\n\r\n'
    assert parse(stream) == (200, "fetched")
    assert parse(stream[:-5]) is None
    assert parse(b"HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n") == (204, "")


def test_requests_say_what_they_are() -> None:
    assert b"\r\nConnection: close\r\n" in request("GET", "/v1/status", stays=False)
    assert resolve("https://example.org/m/1", streams=True).startswith(b"POST /v1/resolve HTTP/1.1\r\n")
    assert b"x-ndjson" in resolve("https://example.org/m/1", streams=True)


def test_requests_go_out_when_they_are_due_and_count_from_then(tmp_path: Path) -> None:
    def slow(connection: socket.socket) -> None:
        while connection.recv(4096):
            threading.Event().wait(0.05)
            connection.sendall(HIT)

    with answering(tmp_path / "s", slow), Crowd(str(tmp_path / "s")) as crowd:
        crowd.join(1)
        begun = time.monotonic()
        answers = crowd.pace([resolve("https://example.org/m/1")], per_second=100, seconds=0.1)
        assert len(answers) == 10
        assert {answer.what for answer in answers} == {"hit"}
        # One client gets an answer every 50 ms. The last request was due after 90 ms, and waited for nine others.
        assert answers[-1].seconds >= 0.35
        assert answers[-1].ended_at - begun >= 0.5


@pytest.mark.parametrize("end", [b"", HIT[:20], LEAVING], ids=["before", "in the middle", "shutting down"])
def test_a_request_whose_daemon_goes_is_asked_again(tmp_path: Path, end: bytes) -> None:
    seen = []

    def answer(connection: socket.socket) -> None:
        seen.append(connection.recv(4096))
        connection.sendall(end if len(seen) == 1 else HIT)

    with answering(tmp_path / "s", answer), Crowd(str(tmp_path / "s")) as crowd:
        crowd.join(1)
        crowd.ask(resolve("https://example.org/m/1"))
        (answered,) = crowd.gather(1, 10)
        assert (answered.status, answered.what, crowd.asked_again) == (200, "hit", 1)


def test_what_is_never_answered_is_a_failure(tmp_path: Path) -> None:
    with answering(tmp_path / "s", lambda connection: None), Crowd(str(tmp_path / "s")) as crowd:
        crowd.join(1)

        def ask() -> None:
            crowd.ask(resolve("https://example.org/m/1"))
            crowd.gather(1, 10)

        with pytest.raises(Unanswered, match="lost"):  # by whoever notices first
            ask()
    with Crowd(str(tmp_path / "nobody")) as crowd, pytest.raises(Unanswered, match="refused"):
        crowd.join(1)


def test_idle_connections_that_the_daemon_ends_are_counted(tmp_path: Path) -> None:
    with answering(tmp_path / "s", lambda connection: None), Crowd(str(tmp_path / "s")) as crowd:
        crowd.join(3)
        while crowd.connected:
            assert list(crowd.answers(10)) == []
        assert crowd.hung_up == 3
    with answering(tmp_path / "t", ever(HIT)), Crowd(str(tmp_path / "t")) as crowd:
        crowd.join(2)
        crowd.leave()
        assert (crowd.connected, crowd.idle, crowd.hung_up) == (0, 0, 0)
