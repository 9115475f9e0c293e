"""A bar that is full to some part.

Law: it tells without colours too: what is full has another stroke than what is empty.
"""

from __future__ import annotations

from rich.text import Text

ALARMING = 0.95


def gauge(part: float, width: int, *, ascii_only: bool = False, style: str = "cyan") -> Text:
    """`part`, 0 to 1, of `width` columns."""
    full = int(max(0.0, min(1.0, part)) * width)
    thick, thin = "=-" if ascii_only else "━─"
    return Text(thick * full, style=style).append(thin * (width - full), style="bright_black")
