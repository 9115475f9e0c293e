"""The code in the documents works: each is run from top to bottom, in a namespace and a directory of its own.

Those of hubclient share a process, for the time that importing TensorFlow takes; `make test-all` runs each alone too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import document
from tests.support.building import Modules
from tests.support.handmade_cache import HandmadeCache
from tests.support.peer import peer_python

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]
pytest.importorskip("tensorflow")

ROOT = Path(__file__).resolve().parent.parent.parent
# Run with tensorflow_hub's own environment, where hubclient is only put on the path.
PEER_GUIDES = ["tensorflow-hub"]
GUIDES = ["using-modules", "fine-tuning", "creating-modules", "migrating-from-tensorflow-hub"]
OURS = ["README.md", "client/README.md", *(f"docs/{name}.md" for name in GUIDES)]
PEERS = [f"docs/{name}.md" for name in PEER_GUIDES]


def in_one_process(names: list[str], python: str, modules: Modules, tmp_path: Path, **environ: str) -> None:
    paths = [ROOT / name for name in names]
    cache = HandmadeCache(tmp_path / "cache")
    handles: dict[str, str] = {}
    for path in paths:
        for handle, module in document.modules(path.read_text()).items():
            assert handles.setdefault(handle, module) == module, f"{handle} is another module in {path}"
    for handle, module in handles.items():
        root = Path(modules(module))
        cache.add(
            handle, {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        )
    inherited = {key: value for key, value in os.environ.items() if key not in ("HUBD_SOCKET", "TF_USE_LEGACY_KERAS")}
    done = subprocess.run(
        [python, "-m", "tests.support.document", *map(str, paths)],
        env={
            **inherited,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}",
            "TFHUB_CACHE_DIR": cache.root,
            "HUBD_AUTOSTART": "0",
            "HUBD_TIMEOUT": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environ,
        },
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(OURS, id="together"),
        *(pytest.param([name], id=name, marks=pytest.mark.thorough) for name in OURS),
    ],
)
def test_the_code_of_a_document_runs(names: list[str], modules: Modules, tmp_path: Path) -> None:
    in_one_process(names, sys.executable, modules, tmp_path)


def test_the_code_about_tensorflow_hub_runs_beside_it(modules: Modules, tmp_path: Path) -> None:
    in_one_process(PEERS, peer_python(), modules, tmp_path, TF_USE_LEGACY_KERAS="1")


def test_no_document_with_code_is_forgotten() -> None:
    with_code = {path.stem for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text()}
    assert with_code == {*GUIDES, *PEER_GUIDES}


def test_what_a_document_says_it_prints_is_compared() -> None:
    text = "# A\n\n```python\nprint(1)  # -> 1\n```\n\ntext\n\n```python\nprint(3)  # -> 2\n```\n"
    program = document.source(text)
    assert program.splitlines()[3] == "print(1)  # -> 1"
    assert document.missing(program, "1\n3\n") == ["2"]
    assert document.missing(program, "1\n2\n") == []
