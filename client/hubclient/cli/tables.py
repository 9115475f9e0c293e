"""Columns: with rich on a terminal, plain and complete elsewhere.

Law: nothing is hidden. On a narrow terminal the first column folds; in a pipe every value stands whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

Row = Sequence[str]


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout is not None and sys.stdout.isatty()


def drawable() -> bool:
    """Whether stdout is a terminal that knows more than plain lines. Whether it shows colours rich decides."""
    return on_terminal() and os.environ.get("TERM", "") not in ("", "dumb")


def plain_table(header: Row, rows: Sequence[Row], right: frozenset[int] = frozenset()) -> str:
    """Aligned columns, two spaces apart; those in `right` are aligned right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "".join(
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


def terminal_table(
    header: Row, rows: Sequence[Row], right: frozenset[int] = frozenset(), width: int | None = None
) -> str:
    """The same for a terminal: the first column folds where the width demands it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    for column, title in enumerate(header):
        table.add_column(
            title,
            justify="right" if column in right else "left",
            no_wrap=column > 0,
            overflow="fold",
            min_width=None if column == 0 else max(len(title), *(len(row[column]) for row in rows)),
        )
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def table(header: Row, rows: Sequence[Row], right: frozenset[int] = frozenset()) -> str:
    """The table that suits stdout."""
    if drawable():
        return terminal_table(header, rows, right)
    return plain_table(header, rows, right)
