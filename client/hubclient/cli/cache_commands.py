"""The commands about the cache and its daemon, as their users see them: arguments, options and help.

Law: this file parses and explains; what a command does is in a file of its own, imported when it is called.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hubclient.cli.grammar import Command, HandlesOrPaths, Json
from hubclient.cli.listing import Order
from hubclient.cli.output import EXIT_USAGE, complain, complaints
from hubclient.contract.errors import RequestInvalid
from hubclient.contract.layout import is_digest

commands = typer.Typer()


@commands.command(name="get", cls=Command)
def _get(
    handles: HandlesOrPaths,
    digest: Annotated[
        str | None,
        typer.Option(metavar="sha256:HEX", help="Refuse an archive with another digest.", show_default=False),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the host whether the module has changed.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Answer from the cache alone. HUBD_OFFLINE=1 does the same.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Json = False,
) -> None:
    """Print where modules are, and download what is not there yet.

    Each line of stdout is the path of a SavedModel directory, in the order of the handles.
    Progress goes to stderr. What is cached needs no daemon.

    Examples:

      hubctl get https://tfhub.dev/google/nnlm-en-dim50/2
      MODEL=$(hubctl get --quiet https://tfhub.dev/google/nnlm-en-dim50/2)
      hubctl get --refresh https://example.org/models/latest
      hubctl get --digest sha256:9f86... https://example.org/models/3
      hubctl get --json https://example.org/models/3 | jq -r .digest

    With --json one handle gives its answer, several give a list.
    """
    if refresh and offline:
        raise typer.BadParameter("--refresh and --offline exclude each other")
    if digest is not None and not is_digest(digest.removeprefix("sha256:")):
        raise typer.BadParameter("--digest is 64 lower-case hex digits, the sha256 of the archive")
    with complaints(as_json=as_json):
        from hubclient.cli.get import Wish, get, is_offline

        wish = Wish(digest, refresh, offline or is_offline(os.environ))
        raise typer.Exit(get(handles, wish, quiet=quiet, as_json=as_json))


@commands.command(name="prefetch", cls=Command)
def _prefetch(
    handles: Annotated[
        list[str],
        typer.Argument(
            metavar="HANDLE|FILE",
            help="The https:// or s3:// URL of a module, kaggle:OWNER/MODEL/..., or a file that names modules: a "
            "prefetch file (*.toml) or a lock file (*.lock).",
            show_default=False,
        ),
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Stay until all are there, with a bar each.")] = False,
    as_json: Json = False,
) -> None:
    """Have modules downloaded before they are needed.

    The daemon works on after hubctl has ended. Each line of stdout is the fetch, or 'cached', and the handle.
    Without --wait they are asked for as anybody would: what wants your credential needs it. Digests that a
    file demands are compared with --wait. What a prefetch file says of pins and times means nothing here.

    Examples:

      hubctl prefetch https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl prefetch --wait modules.toml hub.lock && ./train.py
    """
    with complaints(as_json=as_json):
        from hubclient.cli.prefetch import prefetch
        from hubclient.cli.reaching import reach_aloud

        raise typer.Exit(prefetch(reach_aloud(quiet=as_json), handles, wait=wait, as_json=as_json))


@commands.command(name="ls", cls=Command)
def _ls(
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            "-f",
            metavar="FILTER",
            help="Only those for which it holds: size>1GB, used>30d, fetched<1h, pinned=true, leased=false, "
            "immutable=true, handle~TEXT. May be repeated; all must hold.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        Order, typer.Option(help="By name, or the largest, the last used or the last fetched first.")
    ] = Order.NAME,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Print only the first N.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print handles only.")] = False,
    as_json: Json = False,
) -> None:
    """List the modules in the cache.

    Sizes are those of the unpacked modules. In a pipe, times are exact and handles are never cut.
    A narrow terminal shows fewer columns.
    FLAGS: P is pinned, L is leased, that is, a program holds it now.

    A filter compares with >, >=, < or <=; used>30d is: used last more than 30 days ago.
    Quote it, for > and < mean something else to the shell.

    Examples:

      hubctl ls
      hubctl ls --sort size --limit 10
      hubctl ls --filter 'size>1GB' --filter 'used>30d'
      hubctl ls -q --filter handle~nnlm
      hubctl ls --json | jq '[.modules[].size_bytes] | add'
    """
    if quiet and as_json:
        raise typer.BadParameter("--quiet and --json exclude each other")
    with complaints(as_json=as_json):
        from hubclient.cli.listing import ls
        from hubclient.cli.reaching import reach_aloud

        daemon = reach_aloud(quiet=quiet or as_json)
        try:
            ls(daemon, filters=filters or (), order=sort, limit=limit, quiet=quiet, as_json=as_json)
        except RequestInvalid as error:  # of all that is asked, only the filters are the user's own words
            complain(error, as_json=as_json)
            raise typer.Exit(EXIT_USAGE) from None
