"""`hubctl fleet status` and `ls`: how the fleet's store is, and what it holds.

Law: what is not configured, and what an older daemon does not know, is said as such and not as a failure of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubclient.cli.fleet_words import rows
from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.snapshot import reach_running
from hubclient.cli.tables import on_terminal, table
from hubclient.cli.troubles import of_store
from hubclient.cli.wording import ago, count, printable, size
from hubclient.contract.errors import NotFound, RequestInvalid

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

HEADER = ("HANDLE", "ARCHIVE", "AS OF", "DIGEST")
LABEL_COLUMNS = 12

_OFFLINE = "this daemon asks no network, so it asks no store either: network.offline says so"


def fleet_of(daemon: Daemon) -> dict[str, Any]:
    """The API's Fleet. Raises `RequestInvalid` for a daemon that knows none."""
    try:
        return daemon.get("/v1/fleet")
    except NotFound:  # of the route: it names no module
        version = daemon.get("/v1/status").get("version")
        raise RequestInvalid(
            f"the daemon is hubd {version}, which knows nothing of fleets: upgrade it, and restart it"
        ) from None


def store_of(daemon: Daemon) -> dict[str, Any]:
    """The API's Fleet, where there is one to work with. Raises `RequestInvalid` if no store is configured."""
    fleet = fleet_of(daemon)
    if fleet["state"] != "off":
        return fleet
    if fleet["store"] is not None:
        raise RequestInvalid(_OFFLINE)
    raise RequestInvalid(f"no store is configured: [fleet] store names one, in {_settings(daemon)}")


def status(environ: Mapping[str, str], *, as_json: bool) -> None:
    """Print how the store is. Raises `DaemonUnreachable` when there is no daemon, at once."""
    daemon = reach_running(environ)
    fleet = fleet_of(daemon)
    if as_json:
        emit_json(fleet)
        return
    if fleet["state"] == "off" and fleet["store"] is not None:
        emit(_OFFLINE)
        return
    if fleet["state"] == "off":
        emit("no store is configured: each module comes from its origin")
        say(f"hubctl: [fleet] store names one, in {_settings(daemon)}; `hubctl help fleet` tells more")
        return
    trouble = of_store(fleet)
    lines = [f"the fleet's store {fleet['store']} is well" if trouble is None else f"! {trouble.what}"]
    if trouble is not None and trouble.remedy:
        lines.append(f"  -> {trouble.remedy}")
    lines += [f"{about:<{LABEL_COLUMNS}}{text}" for about, text in rows(fleet)]
    emit("".join(printable(line) + "\n" for line in lines))


def ls(daemon: Daemon, *, quiet: bool, as_json: bool) -> None:
    """Print the modules of the store. Raises the daemon's errors."""
    store = store_of(daemon)["store"]
    by_key: dict[str, dict[str, Any]] = {}

    def heard(event: dict[str, Any]) -> None:
        if "key" in event:
            by_key[event["key"]] = plain(event)

    end = plain(daemon.listen("/v1/fleet/modules", None, heard))
    modules = sorted(by_key.values(), key=lambda module: str(module["handle"]))
    if as_json:
        emit_json({"modules": modules, "summary": end})
        return
    if quiet:
        if modules:
            emit("".join(printable(module["handle"]) + "\n" for module in modules))
        return
    if modules:
        emit(table(HEADER, [_row(module) for module in modules], frozenset({1}), (3, 2)))
    say(f"{_summary(modules, end)} in {store}")


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """The event without what only the stream needs."""
    return {name: value for name, value in event.items() if name not in ("event", "done")}


def age(seconds: float) -> str:
    """How long ago: for a person `3 d ago`, in a pipe exactly."""
    return ago(seconds) if on_terminal() else f"{seconds:.0f} s ago"


def _row(module: dict[str, Any]) -> tuple[str, ...]:
    archive = size(module["archive_bytes"]) if module["has_archive"] else "missing"
    return printable(module["handle"]), archive, age(module["age_seconds"]), module["digest"][:12]


def _summary(modules: list[dict[str, Any]], end: dict[str, Any]) -> str:
    missing = sum(not module["has_archive"] for module in modules)
    parts = [f"{count(len(modules), 'module')}, {size(end['archive_bytes'])}"]
    parts += [f"{missing:,} of them without an archive"] if missing else []
    parts += [count(end["claims"], "claim")] if end["claims"] else []
    parts += [f"{count(end['foreign'], 'object')} that hubd did not write"] if end["foreign"] else []
    return ", ".join(parts)


def _settings(daemon: Daemon) -> str:
    """The file that a setting belongs into."""
    config = daemon.get("/v1/status").get("config") or {}
    return config.get("file") or "the daemon's settings"
