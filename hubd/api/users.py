"""Who may use the daemon and who does, what each user has under way and was answered: for the status.

Law: a user sees its own line; only administrators see who else there is.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict

from hubd.api import messages
from hubd.fetching.fetch import Fetch
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.fetching.tallies import Tally
from hubd.store import entrance

_MOST_USERS = 1000  # in one answer; those who have most under way come first


def access_status(means: Means, viewer: int | None) -> messages.AccessStatus:
    """The asker's level; `viewer`: a uid, or None for an administrator."""
    restricted = means.settings.access.is_restricted
    return messages.AccessStatus(level="admin" if viewer is None else "user", restricted=restricted)


def entrance_warnings(means: Means, socket: str) -> list[str]:
    """Of a cache that the wrong ones may enter, where the daemon's socket is for more than one user. Blocks."""
    try:
        is_for_others = stat.S_IMODE(os.stat(socket).st_mode) & 0o006
        warning = entrance.warning(means.trees.layout.root, means.settings.access) if is_for_others else None
    except OSError:
        return []  # the socket or the root is gone, which others tell of
    return [warning] if warning is not None else []


def user_statuses(means: Means, resolver: Resolver, viewer: int | None) -> list[messages.UserStatus]:
    """A line for each user that has something under way or was answered; for a viewer its own one."""
    started: defaultdict[int, list[Fetch]] = defaultdict(list)
    for flight in resolver.fetches():
        if (uid := flight.work.starter_uid) is not None:
            started[uid].append(flight.work)
    tallies = means.tallies.all()
    uids = {*started, *tallies} if viewer is None else {viewer}
    none = Tally()
    lines = [
        messages.UserStatus(
            uid=uid,
            fetches=len(fetches := started.get(uid, [])),
            queued=sum(fetch.progress.state == "queued" for fetch in fetches),
            in_flight_bytes=sum(fetch.reserved_bytes for fetch in fetches),
            hits=(tally := tallies.get(uid, none)).hits,
            answers=tally.answers,
        )
        for uid in uids
    ]
    return sorted(lines, key=lambda line: (-line.fetches, -line.answers, line.uid))[:_MOST_USERS]
