"""`load` where there is no TensorFlow. What it loads is tested with TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hubclient

CLIENT = Path(hubclient.__file__).parent.parent

CODE = """
import hubclient
try:
    hubclient.load("https://example.org/m/1")
except ImportError as error:
    print(error.code, type(error).__name__, isinstance(error, hubclient.HubError), error)
"""


def test_a_missing_tensorflow_is_told_with_the_remedy_before_anything_is_downloaded() -> None:
    command = [sys.executable, "-S", "-c", CODE]
    environ = {"PYTHONPATH": str(CLIENT), "HUBD_SOCKET": "/nowhere/at/all.sock"}
    told = subprocess.run(command, env=environ, check=True, capture_output=True, text=True, cwd="/").stdout
    assert told.startswith("tensorflow-missing TensorFlowMissing True ")
    assert "pip install 'hubclient[tensorflow]'" in told
