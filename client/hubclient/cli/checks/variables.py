"""The environment's variables: which mean something, to whom, and whether it is what was meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping

from hubclient import finding
from hubclient.cli.checks import Finding, fail, ok, warn
from hubclient.contract import lock_file, places
from hubclient.contract.errors import HubError
from hubclient.finding import Place

#: For programs that use hubclient, and what it sets for those that it starts.
KNOWN = (
    "HUBD_AUTOSTART",
    "HUBD_CONFIG",
    "HUBD_LOCK",
    "HUBD_OFFLINE",
    "HUBD_PATH",
    "HUBD_SOCKET",
    "HUBD_TIMEOUT",
    "HUBD_TRUST_UID",
)
_PATH_OF_SEVERAL = re.compile(r"HUBD_PATH_[1-9][0-9]*")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def check(environ: Mapping[str, str], place: Place | None) -> Iterator[Finding]:
    """What the variables say. `place`: the daemon that they mean, if that can be told."""
    found = [*_unknown(environ), *_values(environ), *_switches(environ)]
    named = sorted(name for name in environ if name in KNOWN)
    yield from found or [ok("variables", f"{', '.join(named)}: as they should be" if named else "none is set")]
    yield from _cache_directory(environ, place)
    yield from _proxies(environ)


def _unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(environ):
        if not name.startswith("HUBD_") or name in KNOWN or _PATH_OF_SEVERAL.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, KNOWN, 1)
        meant = f"; is {near[0]} meant?" if near else ""
        yield warn("variables", f"{name} means nothing to hubd or hubclient{meant}", f"`unset {name}`")


def _values(environ: Mapping[str, str]) -> Iterator[Finding]:
    readers: tuple[tuple[str, Callable[[], object]], ...] = (
        ("HUBD_TIMEOUT", lambda: finding.timeout_seconds(environ)),
        ("HUBD_TRUST_UID", lambda: finding.trusted_uids(environ, Place("", None, "user"))),
        ("HUBD_LOCK", lambda: lock_file.read(environ["HUBD_LOCK"])),
    )
    for name, read in readers:
        if environ.get(name):
            try:
                read()
            except (HubError, OSError) as error:
                yield fail("variables", str(error), f"mend it, or `unset {name}`")
    autostart = environ.get("HUBD_AUTOSTART", "")
    if autostart not in ("", "0", "1"):
        yield warn(
            "variables", f"HUBD_AUTOSTART is {autostart!r}, which means nothing: it is 0 or 1", "set it to 0 or 1"
        )


def _switches(environ: Mapping[str, str]) -> Iterator[Finding]:
    if environ.get("HUBD_OFFLINE", "0") not in ("", "0"):
        yield warn("variables", "HUBD_OFFLINE is set: only cached modules are answered", "`unset HUBD_OFFLINE`")
    if environ.get("HUBD_AUTOSTART") == "0":
        yield warn("variables", "HUBD_AUTOSTART=0: no daemon of your own is started", "`unset HUBD_AUTOSTART`")


def _cache_directory(environ: Mapping[str, str], place: Place | None) -> Iterator[Finding]:
    named, cache = environ.get("TFHUB_CACHE_DIR"), places.explicit_cache(environ)
    if not named or cache is None:
        return
    means = f"TFHUB_CACHE_DIR means the cache {cache}"
    if place is None or place.kind != "user":
        if place is not None and place.cache is not None and os.path.realpath(place.cache) != os.path.realpath(cache):
            what = f"{means}, but the daemon in use has another one: {place.cache}"
            yield warn("TFHUB_CACHE_DIR", what, "`unset TFHUB_CACHE_DIR`, unless tensorflow_hub is to use that one")
            return
    elif os.path.isdir(places.SERVICE_DIR):
        what = f"{means}, so that you have a daemon of your own beside the machine's service"
        yield warn("TFHUB_CACHE_DIR", what, "`unset TFHUB_CACHE_DIR` to share the machine's cache")
        return
    yield ok("TFHUB_CACHE_DIR", means)


def _proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    if names := [name for name in _PROXIES if environ.get(name)]:
        yield warn(
            "proxy",
            f"{', '.join(names)}: hubd does not read that",
            "if the daemon needs a proxy, its settings name it: [network] proxy",
        )
