"""Sizes and times as people write them, in the daemon's settings and on hubctl's command line.

Law: a quantity has a unit, and one without is an error that shows what one looks like.
"""

from __future__ import annotations

import re

_SIZE_UNITS = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "TIB": 1024**4,
}
_SHOWN_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", re.ASCII)
_MAX_CHARACTERS = 30  # more than any disk or clock needs, and far from what a float cannot hold


def parse_size(value: object) -> int:
    """Bytes from "200GB" (decimal) or "200GiB" (binary). Raises `ValueError`."""
    amount, unit = _quantity(value, 'a size is a string with a unit, such as "200GB"')
    if unit.upper() not in _SIZE_UNITS:
        raise ValueError(f"unknown unit {unit!r}: use one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB")
    return round(amount * _SIZE_UNITS[unit.upper()])


def parse_seconds(value: object) -> float:
    """Seconds from "30s", "500ms", "15min", "2h" or "7d". Raises `ValueError`."""
    amount, unit = _quantity(value, 'a time is a string with a unit, such as "30s"')
    if unit.lower() not in _TIME_UNITS:
        raise ValueError(f"unknown unit {unit!r}: use one of ms, s, min, h, d")
    return amount * _TIME_UNITS[unit.lower()]


def format_size(size_bytes: float) -> str:
    """`186.0 MB`."""
    value = float(size_bytes)
    unit = 0
    # 999,950 is 1000.0 KB when rounded, so the next unit starts there.
    while value >= 999.95 and unit < len(_SHOWN_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.1f} {_SHOWN_UNITS[unit]}" if unit else f"{value:.0f} B"


def _quantity(value: object, complaint: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_CHARACTERS else None
    if match is None:
        raise ValueError(complaint)
    return float(match[1]), match[2]
