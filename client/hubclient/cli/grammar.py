"""How the commands of hubctl take arguments: what typer is told for all of them.

Law: an option that several commands have means the same in each, and is written here.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core


def _plain_flags(options: list[Any]) -> list[Any]:
    """The same options, where those without a value show no type: typer calls its own ones `<bool>`."""
    for option in options:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    return options


class Group(typer.core.TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


class Command(typer.core.TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; errors are JSON on stderr.")]
Handles = Annotated[
    list[str], typer.Argument(metavar="HANDLE", help="The https:// URL of a module.", show_default=False)
]
Handle = Annotated[
    str,
    typer.Argument(
        metavar="HANDLE",
        help="The https:// URL of a module, or the path or file:// URL of a directory.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]
