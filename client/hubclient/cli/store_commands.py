"""The commands that change what the cache holds, as their users see them: arguments, options and help.

Law: this file parses and explains; what a command does is in a file of its own, imported when it is called.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hubclient.cli.grammar import Command, DryRun, Handles, Json, Quiet, Yes, is_to_ask, quantity
from hubclient.cli.output import complaints
from hubclient.contract.quantities import parse_seconds, parse_size

commands = typer.Typer()


@commands.command(name="rm", cls=Command)
def _rm(
    handles: Handles,
    force: Annotated[bool, typer.Option("--force", help="Remove also what programs are using.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove modules from the cache.

    Each line of stdout is a removed handle and what that freed.
    Content that other handles share stays for them. Pinned modules go too.
    One that is in use stays, unless you say --force, which asks on a terminal.

    Examples:

      hubctl rm https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl rm --force --yes https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl ls -q --filter handle~/old/ | xargs -r hubctl rm
    """
    with complaints(as_json=as_json):
        from hubclient.cli.reaching import reach_aloud
        from hubclient.cli.removing import rm

        raise typer.Exit(rm(reach_aloud(quiet=as_json), handles, force=force, yes=yes, as_json=as_json))


@commands.command(name="pin", cls=Command)
def _pin(handles: Handles, quiet: Quiet = False, as_json: Json = False) -> None:
    """Keep modules in the cache, however long nobody uses them.

    What is not there yet is fetched first. Only `hubctl rm` removes a pinned module.

    Examples:

      hubctl pin https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl ls --filter pinned=true
    """
    with complaints(as_json=as_json):
        from hubclient.cli.pinning import pin
        from hubclient.cli.reaching import reach_aloud

        raise typer.Exit(pin(reach_aloud(quiet=quiet or as_json), handles, quiet=quiet, as_json=as_json))


@commands.command(name="unpin", cls=Command)
def _unpin(handles: Handles, as_json: Json = False) -> None:
    """Let the cache remove modules again.

    They go when room is needed and nobody has used them for the longest time.

    Examples:

      hubctl unpin https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl ls -q --filter pinned=true | xargs -r hubctl unpin
    """
    with complaints(as_json=as_json):
        from hubclient.cli.pinning import unpin
        from hubclient.cli.reaching import reach_aloud

        raise typer.Exit(unpin(reach_aloud(quiet=as_json), handles, as_json=as_json))


@commands.command(name="prune", cls=Command)
def _prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            help="What nobody has used for so long: 30d, 12h.",
            parser=quantity(parse_seconds),
            show_default=False,
        ),
    ] = None,
    to_size: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            help="The least recently used, until the cache takes so much: 50GB, 800MiB.",
            parser=quantity(parse_size),
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove what nobody has used for long, or until the cache is small.

    What is pinned, in use or being fetched stays.
    On a terminal you see the plan and are asked; elsewhere say --yes.

    Examples:

      hubctl prune --older-than 30d --dry-run
      hubctl prune --to-size 50GB
      hubctl prune --older-than 30d --to-size 50GB --yes
    """
    if older_than is None and to_size is None:
        raise typer.BadParameter("say what is to go: --older-than 30d, --to-size 50GB, or both")
    ask = is_to_ask(yes=yes, dry_run=dry_run, as_json=as_json)
    with complaints(as_json=as_json):
        from hubclient.cli.pruning import Bounds, prune
        from hubclient.cli.reaching import reach_aloud

        bounds = Bounds(older_than, to_size)
        raise typer.Exit(prune(reach_aloud(quiet=as_json), bounds, dry_run=dry_run, ask=ask, as_json=as_json))


@commands.command(name="verify", cls=Command)
def _verify(
    handles: Annotated[
        list[str] | None,
        typer.Argument(metavar="HANDLE", help="The https:// or s3:// URL of a module.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All modules in the cache.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch what is damaged again, now.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare every byte of cached modules with what was published.

    Each line of stdout is a damaged module with its files.
    A damaged module is not handed out any more: its next use fetches it again.
    The exit code is 1 if anything is damaged and was not repaired.

    Examples:

      hubctl verify https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl verify --all --repair
      hubctl verify --all --json | jq .summary
    """
    if bool(handles) == every:
        raise typer.BadParameter("name modules, or say --all" + (", but not both" if every else ""))
    with complaints(as_json=as_json):
        from hubclient.cli.reaching import reach_aloud
        from hubclient.cli.verifying import verify

        wanted = None if every else handles
        daemon = reach_aloud(quiet=quiet or as_json)
        raise typer.Exit(verify(daemon, wanted, repair=repair, quiet=quiet, as_json=as_json))
