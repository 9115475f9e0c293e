"""``python -m tests.support.document FILE...``: run the Python of Markdown documents, as one who types it in would.

Law: the blocks of a document run from top to bottom in one namespace and one directory, which are its own. What stands
behind ``# ->`` on a line that prints is printed by it, in that order.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"^<!-- module (https://\S+) is (tf[12]/\w+) -->$", re.MULTILINE)
_PRINTED = re.compile(r"  # -> (.+)$", re.MULTILINE)


def modules(text: str) -> dict[str, str]:
    """The handles that a document uses, with the names of the tests' modules that they stand for.

    Invisible to readers: ``<!-- module https://models.example.org/text/1 is tf2/text_embedding -->``.
    """
    return {match[1]: match[2] for match in _MODULE.finditer(text)}


def source(text: str) -> str:
    """The blocks as one program, each on the lines where the document has it."""
    lines = [""] * text.count("\n")
    for match in _BLOCK.finditer(text):
        first = text[: match.start(1)].count("\n")
        block = match[1].splitlines()
        lines[first : first + len(block)] = block
    return "\n".join(lines) + "\n"


def missing(program: str, printed: str) -> list[str]:
    """What the program says that it prints, and does not print in its turn."""
    lines = iter(printed.splitlines())
    return [expected for expected in _PRINTED.findall(program) if not any(expected == line for line in lines)]


def run(path: Path) -> None:
    program = source(path.read_text())
    printed = io.StringIO()
    try:
        with tempfile.TemporaryDirectory(dir=".") as here, contextlib.chdir(here), contextlib.redirect_stdout(printed):
            exec(compile(program, path, "exec"), {"__name__": "__main__"})
    finally:
        sys.stdout.write(printed.getvalue())
    if wrong := missing(program, printed.getvalue()):
        sys.exit(f"{path} promises what was not printed: {wrong}")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
