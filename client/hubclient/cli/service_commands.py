"""The commands that look after the daemon, as their users see them: arguments, options and help.

Law: this file parses and explains; what a command does is in a file of its own, imported when it is called.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from hubclient.cli.grammar import Command, Json, quantity
from hubclient.cli.output import complaints, emit
from hubclient.contract.quantities import parse_seconds

commands = typer.Typer()


@commands.command(name="status", cls=Command)
def _status(as_json: Json = False) -> None:
    """Tell whether the daemon is well, what is wrong, and what it does.

    The first line answers the question. A line with ! is something wrong, and the line below it what mends it.
    It does not start a daemon: without one the exit code is 3, and `hubctl doctor` looks for the reason.

    Examples:

      hubctl status
      hubctl status --json | jq .status.cache.free_bytes
    """
    with complaints(as_json=as_json):
        from hubclient.cli.status import status

        status(os.environ, as_json=as_json)


@commands.command(name="top", cls=Command)
def _top(
    interval: Annotated[
        float,
        typer.Option("--interval", "-n", metavar="TIME", help="Between two looks: 2s.", parser=quantity(parse_seconds)),
    ] = "2s",  # type: ignore[assignment]  # what the parser reads
    once: Annotated[bool, typer.Option("--once", help="Look once, and print plain lines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each look.")] = False,
) -> None:
    """Show what the daemon does, while it does it.

    Fetches with their bars, rates, the part of all answers that came from the cache, and users, of whom
    only administrators see others. q quits, space looks at once.
    In a pipe each look is a few plain lines. The rates are those since the look before.

    Examples:

      hubctl top
      hubctl top --once
      hubctl top --json --interval 10s | jq .rates
    """
    if interval <= 0:
        raise typer.BadParameter("--interval must be more than nothing")
    with complaints(as_json=as_json):
        from hubclient.cli.top import top

        top(os.environ, interval_seconds=interval, once=once, as_json=as_json)


@commands.command(name="doctor", cls=Command)
def _doctor(as_json: Json = False) -> None:
    """Look for what keeps modules from coming or from being used, and say what mends it.

    The socket, the service, the daemon's answer, the cache, locks, disk, clock, limits, TensorFlow, and the
    variables of this environment, as this user sees them from here. It changes nothing and starts nothing.
    The exit code is 1 if something fails; warnings alone give 0.

    Examples:

      hubctl doctor
      sudo -u alice hubctl doctor
      hubctl doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    with complaints(as_json=as_json):
        from hubclient.cli.doctor import doctor

        raise typer.Exit(doctor(os.environ, as_json=as_json))


class Shell(StrEnum):
    """The shells that `completion` knows."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@commands.command(name="completion", cls=Command)
def _completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print the script by which a shell completes hubctl's commands, options and cached handles.

    It asks hubctl itself, so it need not be renewed after an upgrade. It never starts a daemon.

    Examples:

      hubctl completion bash | sudo tee /etc/bash_completion.d/hubctl
      hubctl completion fish > ~/.config/fish/completions/hubctl.fish
      eval "$(hubctl completion zsh)"   # in ~/.zshrc, after compinit
    """
    from hubclient.cli.completing import script

    emit(script(shell.value))


@commands.command(name="help", cls=Command)
def _help(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="A topic, or a command.", show_default=False)
    ] = None,
    man: Annotated[bool, typer.Option("--man", help="Print all of it as the manual page hubctl(1).")] = False,
) -> None:
    """Explain a topic: handles, the cache, the service, variables, errors and more.

    Without a topic it lists them. The help of a command comes the same way.

    Examples:

      hubctl help
      hubctl help environment
      hubctl help prefetch
      hubctl help ls
      hubctl help --man | sudo tee /usr/local/share/man/man1/hubctl.1 > /dev/null
    """
    if man and topic is not None:
        raise typer.BadParameter("--man is the whole page: leave out the topic")
    from hubclient.cli import helping

    group = context.find_root().command
    names = sorted(getattr(group, "commands", {}))
    if man:
        from hubclient.cli.man import page

        emit(page())
    elif topic is None:
        helping.show(helping.contents())
    elif topic in helping.topics():
        helping.show(helping.text_of(topic))
        if topic in names:
            emit(f"\nOf the command of that name: hubctl {topic} --help")
    elif topic in names:
        group.main([topic, "--help"], prog_name="hubctl")
    else:
        near = helping.nearest(topic, names)
        meant = f"is {near!r} meant? " if near is not None else ""
        raise typer.BadParameter(f"there is neither a topic nor a command {topic!r}; {meant}`hubctl help` lists them")
