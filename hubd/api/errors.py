"""Every way in which a request can fail, as application/problem+json."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, web

from hubclient.contract.errors import (
    PROBLEM_CONTENT_TYPE,
    HubError,
    Internal,
    NotFound,
    RequestInvalid,
    RequestTooLarge,
    TooBusy,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem_answer(error: HubError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after_seconds)} if isinstance(error, TooBusy) else None
    body = json.dumps(error.problem()).encode()
    return web.Response(status=error.status, body=body, content_type=PROBLEM_CONTENT_TYPE, headers=headers)


def no_http() -> RequestInvalid:
    return RequestInvalid("this is no HTTP/1.1 request; GET /v1/openapi.json tells what hubd answers")


def as_hub_error(error: Exception) -> HubError:
    """The error to tell the caller of; what is nobody's fault but ours is logged, and told without its insides."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, web.HTTPNotFound):
        return NotFound("there is no such route here; on the socket, GET /v1/openapi.json lists all")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return RequestTooLarge("the body is too large")
    if isinstance(error, web.HTTPException):
        return RequestInvalid(error.reason)
    log.error("a request failed for a reason of our own", exc_info=error)
    return Internal("hubd failed; its log has the reason")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every exception of a handler into an answer."""
    try:
        if request.version < HttpVersion10:
            raise no_http()  # HTTP/0.9, or a line that looks like it
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        problem = RequestInvalid(f"{request.path} takes {allowed}, not {request.method[:16]}")
        problem.status = error.status
        answer = problem_answer(problem)
        answer.headers["Allow"] = allowed
        return answer
    except Exception as error:
        return problem_answer(as_hub_error(error))
