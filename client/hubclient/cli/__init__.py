"""`hubctl`, the command line of hubd's users.

Law: nothing of the terminal's libraries is imported before it is known that the command needs them. `main` turns
every way to end into an exit code: 0 done, 1 refused or failed, 2 usage, 3 no daemon, 4 not found upstream,
130 interrupted, 141 the reader of stdout went away, 143 terminated.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

EXTRA = ("typer", "rich")


def main() -> int:
    """Run hubctl with the arguments of the process and return the exit code."""
    # A plain `raise` out of the handler lets the live display give the terminal back.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)


def _run(arguments: list[str]) -> int:
    from hubclient.cli.cached import answer_from_cache

    if answer_from_cache(arguments):
        return 0
    try:
        from hubclient.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        print("hubctl: typer and rich are not installed: pip install 'hubclient[cli]'", file=sys.stderr)
        return 2
    app(arguments, prog_name="hubctl")
    return 0


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
