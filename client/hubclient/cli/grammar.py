"""How the commands of hubctl take arguments: what typer is told for all of them.

Law: an option that several commands have means the same in each, and is written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core

from hubclient.cli.confirming import can_ask

_COMMAND = "hubclient.command"


def _plain_flags(options: list[Any]) -> list[Any]:
    """The same options, where those without a value show no type: typer calls its own ones `<bool>`."""
    for option in options:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    return options


def _flowing(text: str | None) -> str | None:
    """The same help, where the terminal breaks the lines: each paragraph is one, but for those that are indented."""
    if text is None:
        return None
    paragraphs = re.split(r"\n\s*\n(?=\S)", text)
    return "\n\n".join(part if re.search(r"^\s", part, re.M) else part.replace("\n", " ") for part in paragraphs)


class Group(typer.core.TyperGroup):
    def __init__(self, *, help: str | None = None, **more: Any) -> None:
        super().__init__(help=_flowing(help), **more)

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


class Command(typer.core.TyperCommand):
    def __init__(self, *arguments: Any, help: str | None = None, **more: Any) -> None:
        super().__init__(*arguments, help=_flowing(help), **more)

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


class CommandWithCommand(Command):
    """Takes what stands behind the first ``--`` for the command that it runs, whatever that contains."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own, command = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        ctx.meta[_COMMAND] = command
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "COMMAND", "[ARG]..."]


def command_behind(ctx: typer.Context) -> list[str]:
    """What stood behind ``--``; wrong usage if there was nothing."""
    if not ctx.meta[_COMMAND]:
        raise typer.BadParameter("the command is missing: hubctl exec HANDLE -- COMMAND ARG")
    return list(ctx.meta[_COMMAND])


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; errors are JSON on stderr.")]
Handles = Annotated[
    list[str],
    typer.Argument(
        metavar="HANDLE", help="The https:// or s3:// URL of a module, or kaggle:OWNER/MODEL/....", show_default=False
    ),
]
_HANDLE_OR_PATH = typer.Argument(
    metavar="HANDLE",
    help="The https:// or s3:// URL of a module, kaggle:OWNER/MODEL/..., or the path or file:// URL of a directory.",
    show_default=False,
)
Handle = Annotated[str, _HANDLE_OR_PATH]
HandlesOrPaths = Annotated[list[str], _HANDLE_OR_PATH]
Tags = Annotated[
    str | None,
    typer.Option("--tags", metavar="TAG,TAG", help="The variant with these tags; '' for none.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be removed.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def tags_of(text: str | None) -> list[str] | None:
    """The tags that `Tags` names; None for no choice."""
    return None if text is None else [tag for tag in text.split(",") if tag]


def is_to_ask(*, yes: bool, dry_run: bool, as_json: bool) -> bool:
    """Whether the user is to be asked before anything is removed; wrong usage where nobody can be."""
    ask = not (yes or dry_run)
    if ask and (as_json or not can_ask()):
        raise typer.BadParameter("nobody can be asked here: say --yes to remove, or --dry-run to look")
    return ask


def quantity(parse: Callable[[str], float]) -> Callable[[str], float]:
    """The parser of an option that is a quantity: what is none is wrong usage."""

    def parser(text: str) -> float:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parser
