"""`hubctl`, the command line of hubd's users.

Law: nothing of the terminal's libraries is imported before it is known that the command needs them. `main` turns
every way to end into an exit code: 0 done, 1 refused or failed, 2 usage, 3 no daemon, 4 not found upstream,
130 interrupted, 141 the reader of stdout went away, 143 terminated.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from hubclient.cli import output

EXTRA = ("typer", "rich")


def main() -> int:
    """Run hubctl with the arguments of the process and return the exit code."""
    # A plain `raise` out of the handler lets the live display give the terminal back.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        try:
            code = _run(sys.argv[1:])
        except SystemExit as exit_:
            if isinstance(exit_.__context__, BrokenPipeError):  # rich ends the process so, with 1
                raise exit_.__context__ from None
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        if sys.stdout is not None:
            sys.stdout.flush()  # what fails now would fail at Python's end, with a traceback
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        output.give_up_stdout()
        return output.EXIT_BROKEN_PIPE
    except (OSError, ValueError) as error:  # the working directory is gone, the disk behind stdout is full, ...
        output.give_up_stdout()
        output.say(f"hubctl: {error}")
        return output.EXIT_FAILED


def _run(arguments: list[str]) -> int:
    from hubclient.cli.cached import answer_from_cache

    if answer_from_cache(arguments):
        return 0
    if arguments[:1] == ["__complete"]:
        from hubclient.cli.completing import answer

        answer(arguments[1:], os.environ)
        return 0
    try:
        from hubclient.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        output.say("hubctl: typer and rich are not installed: pip install 'hubclient[cli]'")
        return 2
    app(arguments, prog_name="hubctl")
    return 0


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
