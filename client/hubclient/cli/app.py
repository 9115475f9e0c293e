"""hubctl as a whole: its commands under one name, with its help.

Law: the order of the commands in the help is the order in which people need them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hubclient import __version__
from hubclient.cli import (
    cache_commands,
    fleet_commands,
    lock_commands,
    module_commands,
    service_commands,
    store_commands,
)
from hubclient.cli.grammar import Group
from hubclient.cli.output import emit

app = typer.Typer(
    name="hubctl",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,  # `hubctl completion` is the one way
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cache_commands.commands)
app.add_typer(service_commands.commands)
app.add_typer(module_commands.commands)
app.add_typer(store_commands.commands)
app.add_typer(lock_commands.commands)
app.add_typer(fleet_commands.commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"hubctl {__version__}")
        raise typer.Exit


@app.callback()
def hubctl(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """TensorFlow Hub modules from the machine's shared cache.

    hubd, a daemon, downloads each module once for all programs and users of this machine.
    hubctl asks it. Where no hubd is installed as a service, one is started for you.

    Examples:

      hubctl get https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl prefetch --wait HANDLE HANDLE
      hubctl ls
      hubctl status
      hubctl pack my-module

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no daemon, 4 not found upstream, 130 interrupted.
    """
