"""`hubctl exec`: a command that runs while it holds its modules.

Law: the command takes the place of this process, with the leases in descriptors that it inherits. So they last as
long as it and its children, however they end, and nothing has to watch them.
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

from hubclient.cli.get import Wish, find, is_offline
from hubclient.cli.output import exit_code_of_all, say
from hubclient.contract.lease import Lease

# What shells answer.
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

_LOWEST_FD = 512
_BRACES = re.compile(r"\{([1-9][0-9]{0,3})?\}")


def execute(handles: Sequence[str], command: Sequence[str], *, quiet: bool, as_json: bool, braces: bool) -> int:
    """Become the command; the exit code if that is not possible."""
    found = find(handles, Wish(offline=is_offline(os.environ)), quiet=quiet, as_json=as_json)
    if found.errors:
        return exit_code_of_all(found.errors.values())
    paths = [str(found.results[handle]["path"]) for handle in handles]
    for lease in found.leases.values():
        _bequeath(lease)
    arguments = with_paths(command, paths) if braces else list(command)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # Python ignores these, and what is ignored stays so in the command, which then never learns of a closed pipe.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(arguments[0], arguments, environment(os.environ, paths))  # noqa: S606 (no shell is meant)
    except (FileNotFoundError, NotADirectoryError):
        say(f"hubctl: {arguments[0]}: command not found")
        return EXIT_NOT_FOUND
    except (OSError, ValueError) as error:
        say(f"hubctl: {arguments[0]}: {getattr(error, 'strerror', None) or error}")
        return EXIT_NOT_EXECUTABLE


def _bequeath(lease: Lease) -> None:
    """Let the command inherit the lease, far from the descriptors that scripts number by themselves (``3<file``)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = _LOWEST_FD if soft == resource.RLIM_INFINITY else min(_LOWEST_FD, soft // 2)
    fcntl.fcntl(lease.fileno(), fcntl.F_DUPFD, lowest)


def with_paths(command: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The command with ``{}`` replaced by the first path and ``{2}`` by the second one.

    A number beyond the last path stays as it is: it is somebody else's. The replaced text is not looked at again.
    """

    def path(match: re.Match[str]) -> str:
        number = int(match[1] or 1)
        return paths[number - 1] if number <= len(paths) else match[0]

    return [_BRACES.sub(path, argument) for argument in command]


def environment(environ: Mapping[str, str], paths: Sequence[str]) -> dict[str, str]:
    """``HUBD_PATH`` is the first path, ``HUBD_PATH_1``, ``HUBD_PATH_2``, ... are all of them.

    Those of a command around this one do not stay.
    """
    kept = {name: value for name, value in environ.items() if not re.fullmatch(r"HUBD_PATH(_[0-9]+)?", name)}
    return kept | {"HUBD_PATH": paths[0]} | {f"HUBD_PATH_{number}": path for number, path in enumerate(paths, 1)}
