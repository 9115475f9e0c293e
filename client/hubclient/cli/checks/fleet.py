"""The object store that the machines of a fleet share: how the daemon finds it, by its own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hubclient.cli.checks import Finding, ok, warn
from hubclient.cli.snapshot import reach_running
from hubclient.cli.troubles import of_store
from hubclient.contract.errors import NotFound


def check(environ: Mapping[str, str]) -> Iterator[Finding]:
    """How the store is. Nothing that is wrong with it keeps modules from coming: they come from their origins."""
    with reach_running(environ) as daemon:
        try:
            fleet = daemon.get("/v1/fleet")
        except NotFound:  # of the route: an older daemon, which the check of versions tells
            return
    if fleet["state"] == "off":
        why = "none is configured" if fleet["store"] is None else "network.offline holds"
        yield ok("fleet", f"{why}: no store is asked")
    elif (trouble := of_store(fleet)) is not None:
        yield warn("fleet", *trouble)
    else:
        yield ok("fleet", f"{fleet['store']} answers, {fleet['mode']}")
