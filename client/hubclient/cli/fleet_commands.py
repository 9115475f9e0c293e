"""The commands about the fleet's store, as their users see them: arguments, options and help.

Law: this file parses and explains; what a command does is in a file of its own, imported when it is called.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hubclient.cli.grammar import Command, DryRun, Group, Handles, Json, Quiet, Yes, is_to_ask, quantity
from hubclient.cli.output import complaints
from hubclient.contract.quantities import parse_seconds

commands = typer.Typer(
    name="fleet",
    cls=Group,
    no_args_is_help=True,
    help="""Look after the object store by which the machines of a fleet share one download.

    The daemon's setting fleet.store names it. What one machine has fetched, the others get from there.

    Examples:

      hubctl fleet status
      hubctl fleet push https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl fleet prune --older-than 90d --dry-run
    """,
)


@commands.command(name="status", cls=Command)
def _status(as_json: Json = False) -> None:
    """Tell how the store is, and what this machine got from it and gave to it since the daemon started.

    The first line answers the question. While the store is away, modules come from their origins.
    It does not start a daemon: without one the exit code is 3.

    Examples:

      hubctl fleet status
      hubctl fleet status --json | jq -r .state
    """
    with complaints(as_json=as_json):
        from hubclient.cli.fleet import status

        status(os.environ, as_json=as_json)


@commands.command(name="ls", cls=Command)
def _ls(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print handles only.")] = False,
    as_json: Json = False,
) -> None:
    """List what the store has, for administrators.

    Sizes are those of the archives. As of is when a machine put it there, or confirmed it with its origin,
    by the store's own clock. What is missing has a record without an archive: whoever wants it next fetches it anew.

    Examples:

      hubctl fleet ls
      hubctl fleet ls --json | jq '[.modules[].archive_bytes] | add'
      hubctl fleet ls -q | grep /nnlm
    """
    if quiet and as_json:
        raise typer.BadParameter("--quiet and --json exclude each other")
    with complaints(as_json=as_json):
        from hubclient.cli.fleet import ls
        from hubclient.cli.reaching import reach_aloud

        ls(reach_aloud(quiet=quiet or as_json), quiet=quiet, as_json=as_json)


@commands.command(name="push", cls=Command)
def _push(handles: Handles, quiet: Quiet = False, as_json: Json = False) -> None:
    """Have the store hold modules before another machine asks for them; for administrators.

    Each line of stdout is 'uploaded', 'there' or 'failed', and the handle. What the store lacks comes from its
    origin once more, for a machine keeps no archives. What only some users may have never goes there.

    Examples:

      hubctl fleet push https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl ls -q --filter handle~nnlm | xargs -r hubctl fleet push
      hubctl sync --to-store hub.lock
    """
    with complaints(as_json=as_json):
        from hubclient.cli.fleet_push import push
        from hubclient.cli.reaching import reach_aloud

        daemon = reach_aloud(quiet=quiet or as_json)
        raise typer.Exit(push(daemon, handles, quiet=quiet, as_json=as_json))


@commands.command(name="prune", cls=Command)
def _prune(
    older_than: Annotated[
        float,
        typer.Option(
            metavar="TIME",
            help="What nobody fetched or confirmed for so long: 90d, 12h.",
            parser=quantity(parse_seconds),
            show_default=False,
        ),
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove from the store what came there long ago; for administrators.

    The store knows no last use: what is still wanted comes there again by the next machine that asks its origin.
    Records go first, then archives that no record names, and claims that nobody holds any more.
    What hubd did not write is left alone. On a terminal you see the plan and are asked; elsewhere say --yes.

    Examples:

      hubctl fleet prune --older-than 90d --dry-run
      hubctl fleet prune --older-than 90d --yes
    """
    ask = is_to_ask(yes=yes, dry_run=dry_run, as_json=as_json)
    with complaints(as_json=as_json):
        from hubclient.cli.fleet_prune import prune
        from hubclient.cli.reaching import reach_aloud

        raise typer.Exit(prune(reach_aloud(quiet=as_json), older_than, dry_run=dry_run, ask=ask, as_json=as_json))
