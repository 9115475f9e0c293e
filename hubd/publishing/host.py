"""What `hubd host` answers: the TF Hub protocol, and pages about the same modules at the same URLs.

Law: a URL's path is only ever compared with names that the library knows; whatever else it is, there is nothing there.

The protocol (tensorflow.org/hub/hosting): a GET of ``<publisher...>/<model>/<version>`` with ``tf-hub-format`` in its
query, a comma separated list of the formats that the client takes. This host has one, ``compressed``: the ``.tar.gz``.
Without a version the newest one is meant, and the answer a redirect to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO
from urllib.parse import quote, unquote

from aiohttp import web

from hubclient.contract.errors import HubError, NotFound, RequestInvalid, TooBusy
from hubd.api.errors import Handler, as_hub_error, problem_answer
from hubd.publishing import site
from hubd.publishing.catalog import Catalog
from hubd.publishing.delivery import Representation, send
from hubd.publishing.library import Library, Model, Version
from hubd.publishing.listing import Entry, Query, listed, search
from hubd.publishing.pages import Pages
from hubd.publishing.shelf import Archive

log = logging.getLogger(__name__)

FORMAT = "tf-hub-format"
_KNOWN_FORMATS = ("compressed",)
_FOR_GOOD = "public, max-age=31536000, immutable"
_FOR_NOW = "public, max-age=60"
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
_MOST_SHOWN = 200
_TRIES = 3
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NoSuchFormat(RequestInvalid):
    status = 406


def segments(raw_path: str) -> tuple[str, ...] | None:
    """The names in a URL's path, each decoded on its own, so that an encoded slash is no separator; None for what
    names nothing."""
    if raw_path in ("", "/"):
        return ()
    try:
        names = tuple(unquote(segment, errors="strict") for segment in raw_path.removeprefix("/").split("/"))
    except UnicodeDecodeError:
        return None
    return None if any(not name or "/" in name or name.startswith(".") for name in names) else names


class Host:
    """The routes of one library."""

    def __init__(self, library: Library, catalog: Catalog, pages: Pages) -> None:
        self._library = library
        self._catalog = catalog
        self._pages = pages

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._answered])
        app.add_routes(self._pages.site.routes())
        app.add_routes([web.get("/{path:.*}", self._answer)])
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        names = segments(path.removesuffix("/"))
        if names is None:
            raise NotFound("there is nothing here")
        if not names:
            return self._index(request)
        if path.endswith("/"):
            return self._redirect(301, names, request)
        if names[0] == "api":
            return self._listing(request, names)
        model, version = self._find(names)
        if FORMAT in request.query:
            _check_formats(request)
            if version is None:
                return self._newest(request, model)
            return await self._archive(request, version)
        return await self._page(model, version)

    def _find(self, names: tuple[str, ...]) -> tuple[Model, Version | None]:
        """The model, and the version if one is named. Raises `NotFound`."""
        *parents, last = names
        if _NUMBER.fullmatch(last):
            model = self._library.find("/".join(parents))
            version = model.version(int(last)) if model is not None else None
            if model is not None and version is not None:
                return model, version
            others = ", ".join(str(one.number) for one in model.versions[:10]) if model is not None else ""
            raise NotFound("there is no such version" + (f", but {others}" if others else ""))
        found = self._library.find("/".join(names))
        sound = self._catalog.sound(found) if found is not None else None
        if sound is None:
            raise NotFound("there is no such model")
        return sound, None

    def _newest(self, request: web.Request, model: Model) -> web.Response:
        return self._redirect(302, model.versions[0].name.split("/"), request)

    async def _archive(self, request: web.Request, version: Version) -> web.StreamResponse:
        archive, file = await self._open(version)
        name = f"{version.model.rpartition('/')[2]}-{version.number}.tar.gz"
        headers = {"Cache-Control": _FOR_GOOD, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
        with file:
            found = Representation(archive.digest, archive.size_bytes, version.modified_at)
            return await send(request, file, found, headers)

    async def _open(self, version: Version) -> tuple[Archive, BinaryIO]:
        for _ in range(_TRIES):
            archive = await self._catalog.archive(version)
            try:
                return archive, await asyncio.to_thread(_opened, archive)
            except OSError:  # somebody has removed it: it is to be made anew
                self._catalog.forget_archive(version)
        raise TooBusy(f"the archive of {version.name} vanishes again and again")

    async def _page(self, model: Model, version: Version | None) -> web.Response:
        facts = await self._catalog.facts(version or model.versions[0])
        sound = self._catalog.sound(model) or model
        page = await asyncio.to_thread(self._pages.model, facts, sound)
        return _html(page)

    def _index(self, request: web.Request) -> web.Response:
        return _html(self._pages.index(self._entries(), Query.parse(request.query)))

    def _listing(self, request: web.Request, names: tuple[str, ...]) -> web.Response:
        if names != ("api", "models"):
            raise NotFound("there is nothing here but /api/models")
        found = listed(search(self._entries(), Query.parse(request.query)), self._pages.base_url)
        headers = {"Cache-Control": _FOR_NOW, "X-Content-Type-Options": "nosniff"}
        return web.Response(text=found.model_dump_json(), content_type="application/json", headers=headers)

    def _entries(self) -> list[Entry]:
        models = [model for each in self._library.models() if (model := self._catalog.sound(each)) is not None]
        return [Entry(model, self._catalog.known(model.versions[0])) for model in models]

    def _redirect(self, status: int, names: Sequence[str], request: web.Request) -> web.Response:
        """To the page of these names where clients see it, with the query that came."""
        query = request.rel_url.raw_query_string
        location = "/".join([self._pages.site.root, *(quote(name, safe="") for name in names)])
        headers = {"Location": f"{location}?{query}" if query else location, "Cache-Control": _FOR_NOW}
        return web.Response(status=status, headers=headers)

    @web.middleware
    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers, errors too, and tells the log of it when all is sent."""
        started, status = time.monotonic(), "left"
        try:
            try:
                response = await handler(request)
            except (HubError, web.HTTPException) as error:
                response = self._refusal(request, error)
            if not response.prepared:
                response.headers["Server"] = "hubd"
                await response.prepare(request)
                await response.write_eof()
            status = str(response.status)
            return response
        finally:
            fields = {"peer": request.remote, "status": status, "seconds": time.monotonic() - started}
            log.info("%s %s", request.method, request.raw_path[:_MOST_SHOWN], extra={"fields": fields})

    def _refusal(self, request: web.Request, error: HubError | web.HTTPException) -> web.Response:
        problem = self._without_paths(as_hub_error(error))
        headers: Mapping[str, str] = {"Vary": "Accept", "Cache-Control": "no-store"}
        if isinstance(error, web.HTTPMethodNotAllowed):
            problem = RequestInvalid(f"this takes GET and HEAD, not {request.method[:16]}")
            problem.status, headers = 405, {**headers, "Allow": "GET, HEAD"}
        if "text/html" in request.headers.get("Accept", ""):
            response = site.response(self._pages.error(problem.status, problem.detail), problem.status)
        else:
            response = problem_answer(problem)
        response.headers.update(headers)
        return response

    def _without_paths(self, error: HubError) -> HubError:
        """The same without what is nobody's business: where on this machine the library lies."""
        error.detail = error.detail.replace(f"{self._library.root}/", "")
        return error


def _check_formats(request: web.Request) -> None:
    wanted = [name.strip() for stated in request.query.getall(FORMAT) for name in stated.split(",")]
    if not set(wanted) & set(_KNOWN_FORMATS):
        raise NoSuchFormat(f"this host has modules in the format {', '.join(_KNOWN_FORMATS)} alone ({FORMAT})")


def _opened(archive: Archive) -> BinaryIO:
    """The file, if it is the one that was packed. Raises `OSError`."""
    file = open(os.open(archive.path, _FILE), "rb", buffering=0)  # noqa: SIM115
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size != archive.size_bytes:
        file.close()
        raise FileNotFoundError(archive.path)
    return file


def _html(page: str) -> web.Response:
    response = site.response(page)
    response.headers["Cache-Control"] = _FOR_NOW
    return response
