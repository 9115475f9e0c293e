"""`hubd host`: puts the host together, owns its tasks, and knows the order of starting and stopping.

Law: it listens once it knows its library; and a stop lets no process behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from hubclient.contract import places
from hubd import systemd
from hubd.api.connection import Patience
from hubd.api.server import ApiServer, raise_file_limit
from hubd.config_urls import listen_address
from hubd.publishing.catalog import Catalog
from hubd.publishing.host import Host
from hubd.publishing.library import Library
from hubd.publishing.pages import Pages
from hubd.publishing.shelf import Shelf
from hubd.unpacking.kernel import take_turns

log = logging.getLogger(__name__)

DEFAULT_LISTEN = "127.0.0.1:8501"
_CONNECTIONS = 1024
_OTHER_FILES = 256
_BACKLOG = 1024
_TURN_SECONDS = 0.0005  # sockets that wait are served before those who compute
_FINISH_SECONDS = 10.0  # for downloads that are under way


class HostUnusable(Exception):
    """It cannot be started; the text says why and what to do."""


class Terms(NamedTuple):
    """What the command line said."""

    root: str
    cache_dir: str
    listen: str = DEFAULT_LISTEN
    base_url: str | None = None


class _Bound:
    """A bound TCP socket."""

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        self.socket = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
        self.socket.setblocking(False)


def usual_cache_dir(root: str, environ: Mapping[str, str]) -> str:
    """Where the archives of a library are kept if nothing else is said."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return f"{os.path.dirname(places.user_cache(environ))}/hubd-host/{name}"


def checked(terms: Terms) -> Terms:
    """The same in full. Raises `HostUnusable`."""
    if not os.path.isdir(terms.root):
        raise HostUnusable(f"{terms.root} is no directory: name the one that holds <publisher>/<model>/<version>")
    root, cache_dir = os.path.realpath(terms.root), os.path.abspath(terms.cache_dir)
    if os.path.realpath(cache_dir).startswith(f"{root}/"):
        raise HostUnusable(f"{cache_dir} lies in the library itself: name another --cache-dir")
    try:
        listen = str(listen_address(terms.listen))
    except ValueError as error:
        raise HostUnusable(f"--listen {error}") from None
    base_url = (terms.base_url or _own_url(listen)).rstrip("/")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in base_url:
        raise HostUnusable(
            f"--base-url is where clients reach this host, as https://models.example.org, not {base_url}"
        )
    return Terms(root, cache_dir, listen, base_url)


async def serve(terms: Terms) -> None:
    """Until SIGTERM or Ctrl-C. Raises `HostUnusable`."""
    take_turns(_TURN_SECONDS)
    library, shelf = Library(terms.root), Shelf(terms.cache_dir)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    try:
        await asyncio.to_thread(shelf.prepare)
        await asyncio.to_thread(library.scan)
        bound = _Bound(terms.listen)
    except OSError as error:
        named = error.filename or f"{terms.listen}: cannot listen there"
        raise HostUnusable(f"{named}: {error.strerror}") from error
    most = raise_file_limit(2 * _CONNECTIONS + _OTHER_FILES)
    async with asyncio.TaskGroup() as group:
        catalog = Catalog(library, shelf, group.create_task)
        app = Host(library, catalog, Pages(terms.base_url or "")).app()
        server = ApiServer(
            app,
            bound,
            max_connections=min(_CONNECTIONS, (most - _OTHER_FILES) // 2),
            patience=Patience(),
            shutdown_seconds=_FINISH_SECONDS,
            refusal="this host has all the connections that it can have",
        )
        tasks = [group.create_task(catalog.run()), group.create_task(library.watch(catalog.look))]
        await server.start()
        _tell(terms, library)
        systemd.notify("READY=1")
        await over.wait()
        log.info("stopping")
        systemd.notify("STOPPING=1")
        for number in (signal.SIGTERM, signal.SIGINT):  # who is impatient asks again
            asyncio.get_running_loop().remove_signal_handler(number)
        await server.stop()
        catalog.stop()
        for task in tasks:
            task.cancel()


def _tell(terms: Terms, library: Library) -> None:
    models = library.models()
    fields = {"models": len(models), "versions": sum(len(model.versions) for model in models), "url": terms.base_url}
    log.info("hosting %s on http://%s", terms.root, terms.listen, extra={"fields": fields})
    if not ip_address(terms.listen.rpartition(":")[0].strip("[]")).is_loopback:
        log.warning(
            "%s is open to whoever reaches it: every module can be read there, without TLS; docs/hosting.md has the "
            "way to put a proxy in front",
            terms.listen,
        )


def _own_url(listen: str) -> str:
    """Where it is reached, as far as one can tell from here."""
    host, _, port = listen.rpartition(":")
    return f"http://{socket.gethostname() if ip_address(host.strip('[]')).is_unspecified else host}:{port}"
