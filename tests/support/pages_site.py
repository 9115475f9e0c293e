"""The pages of a library on a port of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from hubd.publishing.facts import facts_of
from hubd.publishing.library import Library
from hubd.publishing.listing import Entry, Query
from hubd.publishing.pages import Pages
from hubd.publishing.site import response


@asynccontextmanager
async def serve(root: Path) -> AsyncIterator[str]:
    """The URL of the index. `/raw?html=...` sends what it is given, under the pages' policy."""
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    library, pages = Library(root, quiet_seconds=0), Pages(url)
    library.scan()

    async def index(request: web.Request) -> web.Response:
        entries = [Entry(model, facts_of(model.versions[0])) for model in library.models()]
        return response(pages.index(entries, Query.parse(request.query)))

    async def model(request: web.Request) -> web.Response:
        name, _, number = request.match_info["name"].rpartition("/")
        found = library.find(name) if number.isdigit() else library.find(request.match_info["name"])
        version = found and (found.version(int(number)) if number.isdigit() else found.versions[0])
        if not found or not version:
            return response(pages.error(404, "There is no such module here."), 404)
        return response(pages.model(facts_of(version), found))

    async def raw(request: web.Request) -> web.Response:
        return response(request.query["html"])

    app = web.Application()
    app.add_routes([*pages.site.routes(), web.get("/", index), web.get("/raw", raw), web.get("/{name:.+}", model)])
    server = TestServer(app, port=port)
    await server.start_server()
    try:
        yield url
    finally:
        await server.close()
