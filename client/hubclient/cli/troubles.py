"""What is wrong with a daemon by its own words, and what mends it. A pure function of the API's Status.

Law: what an older daemon does not tell of is no trouble; and each trouble is told once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hubclient.cli.wording import count, duration
from hubclient.contract.places import SERVICE_SOCKET

#: What each state of the fleet's store means that is none to be glad of.
STORE_STATES = {"away": "does not answer", "denied": "denies something to this machine", "missing": "is not there"}
_STORE_REMEDIES = {
    "away": "modules come from their origins meanwhile; if it lasts: is the store up, and [[object_store]] right?",
    "denied": 'mend the [[credential]] for it; for a machine that may only read, [fleet] mode = "read-only"',
    "missing": "make the bucket, or mend [fleet] store",
}


class Trouble(NamedTuple):
    """What is wrong, and what to do: a command between backticks, or a sentence. None: `what` says that as well."""

    what: str
    remedy: str | None = None


def troubles(status: dict[str, Any]) -> list[Trouble]:
    """The worst first: what keeps the daemon from its work, then what keeps a setting or a file from counting."""
    by_files = [*_of_config(status), *_of_prefetch(status)]
    # A daemon may warn of the same in its own words.
    told = _told(status)
    warnings = [str(one) for one in status.get("warnings") or () if not any(problem in one for problem in told)]
    store = of_store(status.get("fleet") or {})
    return [*map(Trouble, warnings), *_of_cache(status), *([store] if store is not None else []), *by_files]


def of_store(fleet: dict[str, Any]) -> Trouble | None:
    """What is wrong with the fleet's store, by the API's Fleet; None: nothing, or there is none."""
    state = fleet.get("state")
    if state not in STORE_STATES:
        return None
    why = f": {fleet['trouble']}" if fleet.get("trouble") else ""
    again = f" (asked again in {duration(fleet['retry_in_seconds'])})" if fleet.get("retry_in_seconds") else ""
    return Trouble(f"the fleet's store {fleet.get('store')} {STORE_STATES[state]}{why}{again}", _STORE_REMEDIES[state])


def restart(status: dict[str, Any]) -> str:
    """The command that restarts this daemon."""
    if status.get("socket") == SERVICE_SOCKET:
        return "`systemctl restart hubd`"
    return f"`kill {status.get('pid')}`: the next command that needs it starts it again"


def log(status: dict[str, Any]) -> str:
    """Where this daemon's log is."""
    return "`journalctl -u hubd`" if status.get("socket") == SERVICE_SOCKET else "its log"


def _of_config(status: dict[str, Any]) -> list[Trouble]:
    config = status.get("config") or {}
    found = []
    if config.get("problem"):
        file = config.get("file") or "FILE"
        found.append(
            Trouble(
                f"the configuration has a mistake, and the one from before it holds: {config['problem']}",
                f"`hubd check-config {file}` tells when it is right; saved so, it holds",
            )
        )
    if config.get("restart_needed"):
        what = f"changed, but only a restart makes it hold: {_listed(config['restart_needed'])}"
        found.append(Trouble(what, restart(status)))
    return found


def _of_prefetch(status: dict[str, Any]) -> list[Trouble]:
    found = []
    for file in status.get("prefetch") or ():
        name = file.get("name", "?")
        if file.get("state") == "broken":
            still = ", and what it said before goes on" if file.get("modules") else ""
            # What is wrong with it only administrators are told.
            why = f": {file['problem']}" if file.get("problem") else ""
            what = f"the prefetch file {name} has a mistake{still}{why}"
            found.append(Trouble(what, "mend it or remove it; saving it is enough"))
        elif file.get("failed"):
            failed = f"{file['failed']:,} of {count(int(file.get('modules', 0)), 'module')}"
            why = f": {file['failure']}" if file.get("failure") else ""
            found.append(Trouble(f"of the prefetch file {name}, {failed} did not come{why}", f"{log(status)} has more"))
    return found


def _of_cache(status: dict[str, Any]) -> list[Trouble]:
    found = []
    counters, cache = status.get("counters") or {}, status.get("cache") or {}
    if (damaged := int(counters.get("damaged", 0)) - int(counters.get("repaired", 0))) > 0:
        found.append(
            Trouble(
                f"{count(damaged, 'module')} found damaged and not repaired yet: the next use does it",
                "`hubctl verify --all --repair` does it now",
            )
        )
    if cache.get("watch") == "sweep":
        found.append(
            Trouble(
                "what others remove from the cache is noticed within a minute only, for want of inotify watches",
                "`sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288`, as root",
            )
        )
    return found


def _told(status: dict[str, Any]) -> list[str]:
    """What the troubles of files say, as the daemon's own warnings would have it."""
    config = status.get("config") or {}
    problems = [config.get("problem"), *(file.get("problem") for file in status.get("prefetch") or ())]
    return [*(str(one) for one in problems if one), *filter(None, [_listed(config.get("restart_needed"))])]


def _listed(names: Any) -> str:
    return ", ".join(map(str, names or ()))
