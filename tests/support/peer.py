"""The case list of `tests.tensorflow.cases` against a library, and whether two libraries agree.

Law: nothing differs between two runs but the library, and the Keras that TF_USE_LEGACY_KERAS names.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
_DEADLINE_SECONDS = 300


def peer_python() -> str:
    """A Python with tensorflow_hub; without one the test is skipped, but for continuous integration it fails."""
    python = os.environ.get("HUBD_TEST_PEER_PYTHON")
    if python is None:
        reason = "HUBD_TEST_PEER_PYTHON names no Python with tensorflow_hub: run `make test`"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return python


def run(python: str, library: str, modules: str, environ: Mapping[str, str], *files: str) -> dict[str, Any]:
    """What each case (of these files) gave: ``{"result": ...}`` or ``{"failed": traceback}`` by name of the case."""
    done = subprocess.run(
        [python, "-m", "tests.tensorflow.cases", library, modules, *files],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environ},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


def differences(own: Any, peers: Any, at: str = "result") -> Iterator[str]:
    """Where two results are not the same: numbers up to rounding, errors if ours is of the family of the peer's."""
    if isinstance(peers, dict) and "raised" in peers:
        builtin = next(name for name in peers["raised"] if name.startswith("builtins."))
        if not isinstance(own, dict) or builtin not in own.get("raised", ()):
            yield f"{at}: {own} is no {builtin}, which the peer's {peers['raised'][0]} is"
    elif isinstance(peers, dict) and isinstance(own, dict):
        if own.keys() != peers.keys():
            yield f"{at}: {sorted(own)} instead of {sorted(peers)}"
        for key in own.keys() & peers.keys():
            yield from differences(own[key], peers[key], f"{at}[{key!r}]")
    elif isinstance(peers, list) and isinstance(own, list) and len(own) == len(peers):
        for i, (ours, theirs) in enumerate(zip(own, peers, strict=True)):
            yield from differences(ours, theirs, f"{at}[{i}]")
    elif isinstance(peers, float) and isinstance(own, float):
        if not (math.isclose(own, peers, rel_tol=1e-5, abs_tol=1e-6) or (math.isnan(own) and math.isnan(peers))):
            yield f"{at}: {own} instead of {peers}"
    elif type(own) is not type(peers) or own != peers:
        yield f"{at}: {own!r} instead of {peers!r}"
