"""A slice of the soak, in a process of its own, because it watches over all processes that it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_promise_is_kept_while_everything_happens_at_once() -> None:
    command = [sys.executable, "-m", "tests.soak", "--seconds", "12", "--seed", "1", "--clients", "3"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "every promise was kept" in finished.stdout
