"""Values in the configuration: sizes, times, rates and shares with their units, paths, and what every section keeps to.

Law: a value without its unit is an error, and an unknown key is one.
"""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hubclient.contract.quantities import parse_seconds, parse_size

KB, MB, GB = 1000, 1000**2, 1000**3

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_percent(value: object) -> object:
    """A share from 0 to 1, from "95%"."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError('a share is a string such as "95%", from 0% to 100%')
    return float(match[1]) / 100


def parse_rate(value: object) -> object:
    """Bytes per second, from "1MB" or "1MB/s"."""
    try:
        return parse_size(value.strip().removesuffix("/s") if isinstance(value, str) else value)
    except ValueError:
        raise ValueError('a rate is a size per second, such as "50MB/s"') from None


def _absolute(value: object) -> object:
    path = os.path.expanduser(value) if isinstance(value, str) else ""
    if not os.path.isabs(path):
        raise ValueError("a path must be absolute")
    return os.path.normpath(path)


Size = Annotated[int, BeforeValidator(parse_size)]
Rate = Annotated[int, BeforeValidator(parse_rate)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
Timeout = Annotated[Seconds, Field(gt=0)]
Share = Annotated[float, BeforeValidator(parse_percent)]
AbsolutePath = Annotated[str, BeforeValidator(_absolute)]
