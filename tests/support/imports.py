"""Who imports whom, read with `ast`: what the architecture test decides from.

Law: it only reads source files; nothing that it looks at is imported or run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One module that a file imports."""

    importer: str
    imported: str
    line: int
    #: inside a function, so not yet when the importer is imported
    deferred: bool
    #: below ``if TYPE_CHECKING``, so never when the program runs
    typing_only: bool


def modules(root: Path, package: str) -> dict[str, Path]:
    """The package's modules by their dotted names; `root` is the directory that holds the package."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path, package: str) -> list[Import]:
    """Every import of the package, relative ones made absolute.

    ``from a import b`` counts as an import of ``a.b`` where that is a module of the package, else of ``a``.
    """
    known = modules(root, package)
    return [found for name, path in known.items() for found in _imports_of(name, path, known)]


def _imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool, bool]] = [(ast.parse(path.read_text(), str(path)), False, False)]
    while pending:
        node, deferred, typing_only = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for imported in _targets(node, name, path.name == "__init__.py", known):
                yield Import(name, imported, node.lineno, deferred, typing_only)
        deferred = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend((child, deferred, True) for child in node.body)
            pending.extend((child, deferred, typing_only) for child in node.orelse)
        else:
            pending.extend((child, deferred, typing_only) for child in ast.iter_child_nodes(node))


def _targets(node: ast.Import | ast.ImportFrom, importer: str, is_package: bool, known: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = importer.split(".")
        kept = len(parts) - node.level + (1 if is_package else 0)
        base = ".".join([*parts[:kept], *([node.module] if node.module else [])])
    return sorted({f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names})
