"""The OpenAPI document, made from the routes and messages that really serve."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from hubclient.contract.errors import BY_CODE, PROBLEM_CONTENT_TYPE
from hubd import __version__
from hubd.api import messages
from hubd.api.filters import MAX_FILTERS

if TYPE_CHECKING:
    from hubd.api.routes import Route

_KEY = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
# By name: a parameter means the same wherever it stands.
_PARAMETERS: dict[str, dict[str, Any]] = {
    "key": _KEY,
    "after": {"type": "string", "pattern": "^([0-9a-f]{64})?$", "default": ""},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "filter": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_FILTERS},
    "force": {"type": "boolean", "default": False},
}
_REF = "#/components/schemas/{model}"


@lru_cache(maxsize=1)
def encoded(routes: tuple[Route, ...]) -> bytes:
    """The document as JSON, made once: that takes milliseconds, and everybody may ask for it."""
    return json.dumps(document(routes)).encode()


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    models: list[type[BaseModel]] = [messages.Problem]
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        models += [model for model in (route.request, route.answer, *route.events) if model is not None]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    # What a request may leave out, and what an answer always has.
    modes = [(model, _mode(model)) for model in dict.fromkeys(models)]
    _, schemas = models_json_schema(modes, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hubd",
            "version": __version__,
            "description": "HTTP/1.1 over a Unix socket. Error codes: " + ", ".join(sorted(BY_CODE)) + ".",
        },
        "paths": paths,
        "components": {"schemas": schemas.get("$defs", {})},
    }


def _operation(route: Route) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    if route.answer is not None or not route.events:
        is_text = route.content_type.startswith("text/")
        answers[route.content_type] = {"schema": {"type": "string"} if is_text else _ref(route.answer)}
    if route.events:
        answers["application/x-ndjson"] = {"schema": {"oneOf": [_ref(event) for event in route.events]}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "x-access-level": route.level.name.lower(),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _parameter(name)}
            for name in re.findall(r"{(\w+)}", route.path)
        ]
        + [{"name": name, "in": "query", "schema": _parameter(name)} for name in route.query],
        "responses": {
            str(route.status): {"description": "done", "content": answers},
            "default": {
                "description": "a problem",
                "content": {PROBLEM_CONTENT_TYPE: {"schema": _ref(messages.Problem)}},
            },
        },
    }
    if route.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(route.request)}},
        }
    return operation


def _mode(model: type[BaseModel]) -> JsonSchemaMode:
    return "validation" if issubclass(model, messages.Request) else "serialization"


def _parameter(name: str) -> dict[str, Any]:
    return _PARAMETERS.get(name, {"type": "string"})


def _ref(model: type[BaseModel] | None) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)} if model is not None else {"type": "object"}
