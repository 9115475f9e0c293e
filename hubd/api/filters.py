"""Filters of listings: ``size>1GB``, ``used<30d``, ``pinned=true``, ``handle~text``.

Law: what is no filter is an error that shows one; a filter never asks the disk.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence

from hubclient.contract.errors import RequestInvalid
from hubclient.contract.quantities import parse_seconds, parse_size
from hubd.api.messages import Module

Filter = Callable[[Module, float], bool]

MAX_FILTERS = 16
_FORM = re.compile(r"([a-z]+)(>=|<=|>|<|=|~)(.*)", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_AMOUNTS: dict[str, tuple[Callable[[object], object], Callable[[Module, float], float]]] = {
    "size": (parse_size, lambda module, _: module.size_bytes),
    "used": (parse_seconds, lambda module, now: now - module.last_used_at.timestamp()),
    "fetched": (parse_seconds, lambda module, now: now - module.fetched_at.timestamp()),
}
_FLAGS: dict[str, Callable[[Module], bool]] = {
    "pinned": lambda module: module.pinned,
    "leased": lambda module: module.leased,
    "immutable": lambda module: module.immutable,
}
_HELP = "a filter is like size>1GB, used>30d, fetched<1h, pinned=true, leased=false, immutable=true or handle~text"


def parse_all(texts: Sequence[str]) -> Callable[[Module, float], bool]:
    """All of the filters as one, of a module and the present time in unix seconds. Raises `RequestInvalid`."""
    if len(texts) > MAX_FILTERS:
        raise RequestInvalid(f"at most {MAX_FILTERS} filters at a time")
    filters = [_parse(text) for text in texts]
    return lambda module, now: all(holds(module, now) for holds in filters)


def _parse(text: str) -> Filter:
    match = _FORM.fullmatch(text)
    if match is None:
        raise RequestInvalid(f"{text[:80]!r} is no filter: {_HELP}")
    name, symbol, value = match.groups()
    if name in _AMOUNTS and symbol in _ORDERS:
        return _amount(text, name, _ORDERS[symbol], value)
    if name in _FLAGS and symbol == "=" and value in ("true", "false"):
        flag, wanted = _FLAGS[name], value == "true"
        return lambda module, _: flag(module) == wanted
    if name == "handle" and symbol == "~" and value:
        return lambda module, _: value in module.handle
    raise RequestInvalid(f"{text[:80]!r} is no filter: {_HELP}")


def _amount(text: str, name: str, holds: Callable[[float, float], bool], value: str) -> Filter:
    parse, amount = _AMOUNTS[name]
    try:
        limit = parse(value)
    except ValueError as error:
        raise RequestInvalid(f"{text[:80]!r} is no filter: {error}") from None
    assert isinstance(limit, int | float)
    return lambda module, now: holds(amount(module, now), limit)
