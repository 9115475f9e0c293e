"""The API's own OpenAPI document, played against the daemon that it came from: schemathesis over a Unix socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import jsonschema_rs
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from hubclient.contract.errors import RequestTooLarge
from tests.support.daemon import UnixConnection, ask

_REQUEST = {"method", "url", "headers", "data", "json", "params", "cookies"}
_BASE = "http://hubd"
_LINES = "application/x-ndjson"
_PROBLEM = "application/problem+json"
_ANSWER_SECONDS = 20.0
_STREAM_SECONDS = 0.3  # an endless one is left when nothing came for so long
_STREAM_LINES = 50
_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]

Seen = Callable[[str, int, Any], None]


def play(socket_path: Path, seen: Seen, *, examples: int, known: Mapping[str, Callable[[], str]]) -> None:
    """Sends requests of every operation, valid and invalid ones alike.

    `known` has values of path parameters that exist: every other valid request uses one. `seen` is told of each answer:
    the operation, the status and the code, if it is a problem. Fails on an answer that the document does not allow.
    """
    document = ask(socket_path, "GET", "/v1/openapi.json")[1]
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            there = known if mode is GenerationMode.POSITIVE else {}
            send = _sender(socket_path, seen, there, _lines_of(document, operation.definition.raw))
            run = settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(operation.as_strategy(generation_mode=mode))(send))
            try:
                run()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, operation.label  # nothing about it can be wrong


def _sender(socket_path: Path, seen: Seen, known: Mapping[str, Callable[[], str]], lines: Any) -> Callable[[Any], None]:
    """What sends a case and compares the answer with the document. `lines` validates a line of a stream."""
    turns = count()

    def send(case: Any) -> None:
        if next(turns) % 2:
            for name in set(known) & set(case.path_parameters or {}):
                case.path_parameters[name] = known[name]()
        answer = _send(socket_path, case)
        kind = answer.headers["content-type"][0].partition(";")[0]
        checks = _CHECKS + [response_schema_conformance] * (kind != _LINES)
        checks += [negative_data_rejection] * (answer.status_code != RequestTooLarge.status)  # it does not know 413
        case.validate_response(answer, checks=checks)
        if kind == _LINES:
            for line in answer.content.splitlines():
                lines.validate(json.loads(line))
        seen(case.operation.label, answer.status_code, json.loads(answer.content)["code"] if kind == _PROBLEM else None)

    return send


def _lines_of(document: Any, operation: Any) -> Any:
    """What validates a line of its stream; None for an operation without one."""
    for answer in operation["responses"].values():
        if _LINES in answer["content"]:
            return jsonschema_rs.validator_for(
                {**answer["content"][_LINES]["schema"], "components": document["components"]}
            )
    return None


def _send(socket_path: Path, case: Any) -> Response:
    """The answer to one case; of a stream that does not end, its beginning."""
    said = case.as_transport_kwargs(base_url=_BASE)
    asked = requests.Request(**{name: value for name, value in said.items() if name in _REQUEST}).prepare()
    with closing(UnixConnection(str(socket_path), _ANSWER_SECONDS)) as connection:
        assert asked.method is not None
        assert asked.body is None or isinstance(asked.body, str | bytes)
        connection.request(asked.method, asked.path_url, asked.body, dict(asked.headers))
        came = connection.getresponse()
        streamed = came.headers["Content-Type"].startswith(_LINES)
        content = b"".join(_beginning(connection, came)) if streamed else came.read()
        headers = {name: [value] for name, value in came.headers.items()}
    return Response(came.status, headers, content, asked, elapsed=0.0, verify=True)


def _beginning(connection: UnixConnection, came: Iterator[bytes]) -> Iterator[bytes]:
    connection.sock.settimeout(_STREAM_SECONDS)
    try:
        for number, line in enumerate(came, 1):
            yield line
            if number >= _STREAM_LINES:
                return
    except TimeoutError:
        return


def relay(path: Path, to: Path) -> Path:
    """Makes a socket at `path` whose connections lead to another one, in threads of this process: whoever asks there
    asks as this process's user. Returns `path`."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()

    def accept() -> None:
        while True:
            near, _ = listening.accept()
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            far.connect(str(to))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return path


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while piece := one.recv(65536):
            other.sendall(piece)
    except OSError:
        pass  # the other end has left
    for end in (one, other):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # it was ended by the thread of the other direction
