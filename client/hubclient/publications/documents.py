"""The README.md of a module, which becomes its page: is it there, and does it lead to what is there?

Law: only what is in the module is looked at; no link is followed.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote

from hubclient.publications.findings import Finding

README = "README.md"
MAX_BYTES = 512 * 1024  # as far as `hubd host` reads one

# [text](target "title"), ![image](<target>)
_TARGET = re.compile(r"\]\(\s*<?([^\s<>)]+)")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|#")
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def findings(directory: str, files: Collection[str], model: str) -> Iterator[Finding]:
    """What is wrong with the documentation. `files` are those of the module, by their paths in it; in the directory
    `model` its versions lie, and perhaps a README.md for those without one of their own."""
    if README not in files:
        if os.path.isfile(os.path.join(model, README)):
            return
        yield Finding("docs-missing", f"there is no {README}: the module's page will have its signatures alone")
        return
    try:
        with open(os.path.join(directory, README), "rb") as file:
            data = file.read(MAX_BYTES + 1)
        is_cut = len(data) > MAX_BYTES  # perhaps in the middle of a character
        text = data.decode("utf-8-sig", "ignore" if is_cut else "strict")
    except (OSError, UnicodeDecodeError) as error:
        yield Finding("docs-unreadable", f"{README} cannot be read as UTF-8: {error}")
        return
    if is_cut:
        yield Finding("docs-unreadable", f"{README} is larger than {MAX_BYTES >> 10} KiB, and will be cut")
    elif not text.strip():
        yield Finding("docs-missing", f"{README} is empty: the module's page will have its signatures alone")
    for target in broken_links(text, files):
        yield Finding("docs-link", f"{README} links to {target}, which is not in the module")


def broken_links(text: str, files: Collection[str]) -> list[str]:
    """Relative targets of links and images that lead to nothing in the module, each once."""
    directories = {posixpath.dirname(file) for file in files}
    broken: dict[str, None] = {}
    for target in _TARGET.findall(_FENCED.sub("", text)):
        path = posixpath.normpath(unquote(re.split("[?#]", target, maxsplit=1)[0]))
        if not _ELSEWHERE.match(target) and path not in files and path not in directories:
            broken[target] = None
    return list(broken)
