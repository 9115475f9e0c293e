"""The commands about lock files, as their users see them: arguments, options and help.

Law: this file parses and explains; what a command does is in a file of its own, imported when it is called.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hubclient.cli.grammar import Command, Json, Quiet
from hubclient.cli.output import complaints

commands = typer.Typer()

DEFAULT_FILE = "hub.lock"


@commands.command(name="lock", cls=Command)
def _lock(
    handles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HANDLE",
            help="The https:// or s3:// URL of a module, or kaggle:OWNER/MODEL/....",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The lock file; '-' for stdout. Else HUBD_LOCK, or hub.lock.",
            show_default=False,
        ),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the hosts whether the modules have changed.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write down which content modules have now.

    What is not cached is fetched first. The named modules are added to the file, or renewed in it,
    and the others stay; without names, all that it has are renewed.
    Each line of stdout is 'added', 'changed' or 'same', and the handle.
    If one of them cannot be had, the file stays as it is.

    Examples:

      hubctl lock https://tfhub.dev/google/nnlm-en-dim50/2 -o hub.lock
      hubctl lock --refresh
      HUBD_LOCK=hub.lock ./train.py
    """
    file = output or _usual_file()
    if not handles and (file == "-" or not os.path.lexists(file)):
        raise typer.BadParameter("name modules: there is no lock file whose modules could be renewed")
    with complaints(as_json=as_json):
        from hubclient.cli.locking import lock
        from hubclient.cli.reaching import reach_aloud

        daemon = reach_aloud(quiet=quiet or as_json)
        raise typer.Exit(lock(daemon, handles or (), file, refresh=refresh, quiet=quiet, as_json=as_json))


@commands.command(name="sync", cls=Command)
def _sync(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The lock file, as with --lock.", show_default=False)
    ] = None,
    lock: Annotated[
        str | None,
        typer.Option("--lock", metavar="FILE", help="The lock file. Else HUBD_LOCK, or hub.lock.", show_default=False),
    ] = None,
    to_store: Annotated[
        bool, typer.Option("--to-store", help="Have the fleet's store hold them too; for administrators.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch all modules of a lock file, and check that they are what it says.

    Each line of stdout is 'cached', 'fetched' or 'failed', and the handle.
    The exit code is 1 if a module has other content by now.

    With --to-store each line is 'uploaded', 'there' or 'failed', and the handle: what is as the file says goes
    to the store of the fleet, so that no other machine asks the origin. What is in an object store stays there.

    Examples:

      hubctl sync
      hubctl sync --lock hub.lock && HUBD_LOCK=hub.lock ./train.py
      hubctl sync --to-store hub.lock
    """
    if file is not None and lock is not None:
        raise typer.BadParameter("the lock file is named twice: leave out --lock")
    named = file or lock or _usual_file()
    with complaints(as_json=as_json):
        from hubclient.cli.reaching import reach_aloud
        from hubclient.cli.syncing import sync

        raise typer.Exit(
            sync(lambda: reach_aloud(quiet=quiet or as_json), named, to_store=to_store, quiet=quiet, as_json=as_json)
        )


def _usual_file() -> str:
    return os.environ.get("HUBD_LOCK") or DEFAULT_FILE
