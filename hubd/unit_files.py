"""The files of the machine's service, and where they go.

Law: what is installed is what the project's ``systemd/`` holds, but for the program that the unit starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubd import config

UNITS = ("hubd.socket", "hubd.service")  #: In the order in which they start.

_EXEC_START = re.compile(r"^ExecStart=.*$", re.MULTILINE)
_PLAIN = re.compile(r"[\w@+=:,./-]+")
_SETTING = re.compile(r"^(?=[^#\s\[])", re.MULTILINE)


@dataclass(frozen=True)
class Destination:
    """The directories that files go to, and the place of the configuration."""

    units: str
    sysusers: str
    tmpfiles: str
    config: str


#: Where an administrator's own files lie: systemd.unit(5), sysusers.d(5), tmpfiles.d(5).
SYSTEM = Destination("/etc/systemd/system", "/etc/sysusers.d", "/etc/tmpfiles.d", config.SERVICE_FILE)


def below(prefix: str) -> Destination:
    """Where a package's files lie; the example is not put where it would be read."""
    return Destination(
        units=f"{prefix}/lib/systemd/system",
        sysusers=f"{prefix}/lib/sysusers.d",
        tmpfiles=f"{prefix}/lib/tmpfiles.d",
        config=f"{prefix}/share/doc/hubd/config.example.toml",
    )


def service_files(to: Destination, program: Sequence[str]) -> dict[str, str]:
    """Paths and texts of all but the configuration; the unit starts `program` with ``run``."""
    source = _source()
    command = " ".join(quoted(word) for word in (*program, "run"))
    service = (source / "hubd.service").read_text()
    return {
        f"{to.units}/hubd.service": _EXEC_START.sub(lambda _: f"ExecStart={command}", service),
        f"{to.units}/hubd.socket": (source / "hubd.socket").read_text(),
        f"{to.sysusers}/hubd.conf": (source / "hubd.sysusers").read_text(),
        f"{to.tmpfiles}/hubd.conf": (source / "hubd.tmpfiles").read_text(),
    }


def first_config() -> str:
    """The example with every setting commented out, so that defaults that change with a version change here too."""
    packaged = _source() / "config.example.toml"
    example = packaged if packaged.exists() else _checkout() / "config.example.toml"
    return _SETTING.sub("# ", example.read_text())


def quoted(word: str) -> str:
    """A word of a unit's command line, that is taken as it is: systemd.service(5), "Command lines"."""
    literal = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _source() -> Path:
    """Beside this file in an installed package, else in the checkout."""
    packaged = Path(__file__).parent / "units"
    return packaged if packaged.is_dir() else _checkout() / "systemd"


def _checkout() -> Path:
    return Path(__file__).resolve().parents[1]
