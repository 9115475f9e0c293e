"""Columns: with rich on a terminal, plain and complete elsewhere.

Law: the first column is never cut. On a narrow terminal it folds, after the columns that can be spared have gone;
in a pipe every value stands whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

Row = Sequence[str]

FOLDED_MIN_COLUMNS = 20
_APART_COLUMNS = 2


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
    header: Row,
    rows: Sequence[Row],
    right: frozenset[int] = frozenset(),
    spare: Sequence[int] = (),
    width: int | None = None,
) -> str:
    """The same for a terminal: the first column folds where the width demands it.

    Where that leaves it fewer than `FOLDED_MIN_COLUMNS`, the columns in `spare` go, the first of them first; and if
    that is not enough the table is plain, for the terminal to fold.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, width=width, highlight=False)
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    shown = list(range(len(header)))

    def fits() -> bool:
        others = sum(_APART_COLUMNS + widths[column] for column in shown[1:])
        return min(widths[0], FOLDED_MIN_COLUMNS) + others <= console.width

    for column in spare:
        if not fits():
            shown.remove(column)
    if not fits():
        return plain_table(header, rows, right)
    table = Table(box=None, pad_edge=False, padding=(0, _APART_COLUMNS, 0, 0), header_style="bold", expand=False)
    for column in shown:
        table.add_column(
            header[column],
            justify="right" if column in right else "left",
            no_wrap=column > 0,
            overflow="fold",
            min_width=None if column == 0 else widths[column],
        )
    for row in rows:
        table.add_row(*(Text(row[column]) for column in shown))
    with console.capture() as captured:
        console.print(table)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def table(header: Row, rows: Sequence[Row], right: frozenset[int] = frozenset(), spare: Sequence[int] = ()) -> str:
    """The table that suits stdout."""
    if drawable():
        return terminal_table(header, rows, right, spare)
    return plain_table(header, rows, right)
