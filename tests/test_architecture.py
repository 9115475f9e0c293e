"""The house keeps its shape: imports point downwards only, the client's core needs no packages, files are short.

Law: each rule is a function from a source tree to its violations, so that it can be shown to find one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.imports import Import, imports, modules

ROOT = Path(__file__).resolve().parent.parent

# Parts of hubd, from the top down. A part may import the parts below its own line, and itself.
LAYERS = (
    {"__main__"},
    {"service", "installing"},
    {"applying", "ending"},
    {"publishing"},
    {"api", "reload"},
    {"metrics"},
    {"figures"},
    {"prefetching"},
    {"fetching"},
    {"fleet"},
    {"store", "unpacking", "network"},
    {"objects"},
    {"logs", "unit_files"},
    {"config", "allocator", "systemd", "events"},
    {"config_stores"},
    {"config_access", "config_urls", "config_values", "addresses", "trusted", "secret_files", "failures"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

CHILD = "hubd.unpacking.child"
CHILD_MAY_IMPORT = ("hubd.unpacking", "hubclient.contract", "isal")
# TensorFlow and what it brings with it.
TENSORFLOW = {"tensorflow", "tensorflow_hub", "tf_keras", "keras", "numpy", "ml_dtypes", "google"}

# A suite is a list of promises, each of which reads alone: it may be longer than what must be understood as a whole.
MAX_LINES = {"hubd": 250, "client/hubclient": 250, "benchmarks": 250, "demo": 250, "tests": 500}
LONGER_FILES = {
    "hubd/api/messages.py": "the wire contract: a list of small messages, each of which reads alone",
    "hubd/config.py": "the settings: a list of small sections, each of which reads alone, and the way to load them",
    "hubd/fetching/fetch.py": "one fetch told in its order: apart, its steps would hand the same state to and fro",
    "hubd/network/session.py": "redirects told in their order, and the one place where each failure gets its name",
    "hubd/network/sources.py": "what an origin is asked, what it delivers and what its answer is worth: one protocol",
    "hubd/store/records.py": "the only writer of records and of the views that are derived from them",
    "hubd/store/trees.py": "the only writer of trees: staging, publishing, repair and eviction share one protocol",
    "hubd/unpacking/supervisor.py": "the daemon's whole side of the protocol with the child, which distrusts each line",
}


def hubd_imports_upwards(root: Path) -> list[str]:
    """Imports within hubd that point up or sideways, and parts that have no place in `LAYERS`."""
    violations = {f"hubd.{part} has no place in LAYERS" for part in _parts(root) if part not in LEVEL}
    for found in imports(root, "hubd"):
        importer, imported = _part(found.importer), _part(found.imported)
        # The package itself holds the version and imports nothing: everybody may ask it.
        allowed = imported in ("", importer) or (importer in LEVEL and LEVEL[importer] < LEVEL.get(imported, -1))
        if found.imported.split(".")[0] == "hubd" and not allowed and importer in LEVEL:
            violations.add(_sentence(found, "points up or sideways"))
    return sorted(violations)


def hubd_imports_of_the_client(root: Path) -> list[str]:
    """The daemon knows the contract, and nothing else of hubclient."""
    return [
        _sentence(found, "is not the contract")
        for found in imports(root, "hubd")
        if _within(found.imported, "hubclient") and not _within(found.imported, "hubclient.contract")
    ]


def imports_of_the_child(root: Path) -> list[str]:
    """The unpacking child is a program: it is run, and imported by nobody."""
    return [_sentence(found, "is run, never imported") for found in imports(root, "hubd") if found.imported == CHILD]


def heavy_imports_of_the_child(root: Path) -> list[str]:
    """What the child reaches: the standard library, isal, its own package and the contract."""
    violations = []
    by_importer: dict[str, list[Import]] = {}
    for found in imports(root, "hubd"):
        by_importer.setdefault(found.importer, []).append(found)
    reached, pending = {CHILD}, [CHILD]
    while pending:
        for found in by_importer.get(pending.pop(), []):
            if _is_standard(found.imported) or found.typing_only:
                continue
            if not any(_within(found.imported, allowed) for allowed in CHILD_MAY_IMPORT):
                violations.append(_sentence(found, "does not belong into the unpacking child"))
            elif found.imported not in reached:
                reached.add(found.imported)
                pending.append(found.imported)
    return violations


def foreign_imports_of_the_client(root: Path) -> list[str]:
    """hubclient's core needs the standard library alone; TensorFlow only inside functions; cli/ is an extra."""
    return [
        _sentence(found, "is not the standard library")
        for found in imports(root, "hubclient")
        if not _within(found.importer, "hubclient.cli")
        and not _is_standard(found.imported)
        and (not _within(found.imported, "hubclient") or _within(found.imported, "hubclient.cli"))
        and not (found.imported.split(".")[0] in TENSORFLOW and (found.deferred or found.typing_only))
    ]


def foreign_imports_of_the_contract(root: Path) -> list[str]:
    """The contract stands on the standard library and on itself."""
    return [
        _sentence(found, "is neither standard library nor contract")
        for found in imports(root, "hubclient")
        if _within(found.importer, "hubclient.contract")
        and not _is_standard(found.imported)
        and not _within(found.imported, "hubclient.contract")
    ]


def overlong_files(root: Path, explained: dict[str, str]) -> list[str]:
    """Files past the limit of `MAX_LINES` that nobody explained, and explanations that nobody needs any more."""
    long = {
        str(path.relative_to(root)): lines
        for top, max_lines in MAX_LINES.items()
        for path in sorted((root / top).rglob("*.py"))
        if (lines := len(path.read_text().splitlines())) > max_lines
    }
    return [f"{name}: {long[name]} lines" for name in sorted(long.keys() - explained.keys())] + [
        f"{name}: explained, yet not too long" for name in sorted(explained.keys() - long.keys())
    ]


def _part(module: str) -> str:
    """The part of hubd that a module belongs to; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def _parts(root: Path) -> set[str]:
    return {_part(name) for name in modules(root, "hubd")} - {""}


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _is_standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def _sentence(found: Import, complaint: str) -> str:
    return f"{found.importer}:{found.line} imports {found.imported}, which {complaint}"


Rule = Callable[[Path], list[str]]
HUBD_RULES: list[Rule] = [
    hubd_imports_upwards,
    hubd_imports_of_the_client,
    imports_of_the_child,
    heavy_imports_of_the_child,
]
CLIENT_RULES: list[Rule] = [foreign_imports_of_the_client, foreign_imports_of_the_contract]


@pytest.mark.parametrize("rule", HUBD_RULES, ids=lambda rule: rule.__name__)
def test_hubd_has_no(rule: Rule) -> None:
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", CLIENT_RULES, ids=lambda rule: rule.__name__)
def test_hubclient_has_no(rule: Rule) -> None:
    assert rule(ROOT / "client") == []


def test_files_are_short_or_explained() -> None:
    assert overlong_files(ROOT, LONGER_FILES) == []


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (hubd_imports_upwards, "hubd/store/trees.py", "from hubd.fetching import resolver"),
        (hubd_imports_upwards, "hubd/store/trees.py", "from ..unpacking import supervisor"),
        (hubd_imports_upwards, "hubd/store/trees.py", "def f():\n    import hubd.service"),
        (hubd_imports_upwards, "hubd/config.py", "from hubd import store"),
        (hubd_imports_upwards, "hubd/newcomer.py", ""),
        (hubd_imports_of_the_client, "hubd/service.py", "from hubclient import cache"),
        (hubd_imports_of_the_client, "hubd/service.py", "import hubclient.daemon"),
        (imports_of_the_child, "hubd/unpacking/supervisor.py", "from hubd.unpacking import child"),
        (imports_of_the_child, "hubd/unpacking/supervisor.py", "from .child import main"),
        (heavy_imports_of_the_child, "hubd/unpacking/child.py", "import pydantic"),
        (heavy_imports_of_the_child, "hubd/unpacking/child.py", "from hubd.unpacking import tar_reader"),
        (foreign_imports_of_the_client, "hubclient/cache.py", "import requests"),
        (foreign_imports_of_the_client, "hubclient/cache.py", "import tensorflow as tf"),
        (foreign_imports_of_the_client, "hubclient/cache.py", "from hubclient.cli import main"),
        (foreign_imports_of_the_contract, "hubclient/contract/handles.py", "from hubclient import cache"),
        (foreign_imports_of_the_contract, "hubclient/contract/handles.py", "from .. import cache"),
        (foreign_imports_of_the_contract, "hubclient/contract/handles.py", "import numpy"),
    ],
)
def test_each_rule_finds_what_it_forbids(rule: Rule, module: str, source: str, tmp_path: Path) -> None:
    good = {
        "hubd/__init__.py": "",
        "hubd/service.py": "from hubd.store import trees\nfrom hubd import __version__",
        "hubd/config.py": "from hubclient.contract import places",
        "hubd/store/__init__.py": "",
        "hubd/store/trees.py": "import os\nfrom hubd import config\nfrom . import layout",
        "hubd/store/layout.py": "from hubclient.contract.layout import CacheLayout",
        "hubd/fetching/__init__.py": "",
        "hubd/fetching/resolver.py": "from hubd.store.trees import Trees\nimport aiohttp",
        "hubd/unpacking/__init__.py": "",
        "hubd/unpacking/supervisor.py": "import asyncio",
        "hubd/unpacking/child.py": "import isal.igzip\nfrom hubclient.contract import saved_model",
        # reached by the child in the bad tree alone
        "hubd/unpacking/tar_reader.py": "from aiohttp import web",
        "hubclient/__init__.py": "",
        "hubclient/cache.py": "import os\ndef f():\n    import tensorflow\n    from hubclient.contract import handles",
        "hubclient/cli/__init__.py": "import typer\nfrom hubclient import cache",
        "hubclient/contract/__init__.py": "",
        "hubclient/contract/handles.py": "from hubclient.contract import errors\nfrom urllib.parse import quote",
        "hubclient/contract/errors.py": "",
    }
    _write(tmp_path, good)
    assert rule(tmp_path) == []
    _write(tmp_path, {module: source})
    assert len(rule(tmp_path)) == 1


def test_overlong_files_are_found_and_stale_explanations_too(tmp_path: Path) -> None:
    _write(tmp_path, {"hubd/long.py": "pass\n" * 251, "hubd/short.py": "pass\n" * 250, "tests/a.py": "pass\n" * 251})
    assert overlong_files(tmp_path, {"hubd/long.py": "a reason"}) == []
    assert overlong_files(tmp_path, {}) == ["hubd/long.py: 251 lines"]
    assert len(overlong_files(tmp_path, {"hubd/long.py": "a reason", "hubd/short.py": "a reason"})) == 1


def test_import_hubclient_loads_neither_http_nor_json_nor_tensorflow() -> None:
    program = "import sys; before = set(sys.modules); import hubclient; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    assert "hubclient" in loaded
    assert {"http", "http.client", "json", "ssl", "asyncio", *TENSORFLOW}.isdisjoint(loaded)


def test_a_daemon_without_a_fleet_loads_nothing_of_it() -> None:
    program = "import sys, hubd.service; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    assert "hubd.fetching.fleet" in loaded
    assert [name for name in loaded if name.startswith(("hubd.fleet", "hubd.fetching.sharing", "obstore"))] == []


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
