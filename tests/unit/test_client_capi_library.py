"""The C library is found without importing tensorflow, and a wheel that lacks it is told from one that is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hubclient.capi import library

LIBRARY = "libtensorflow_cc.so.2"
PROGRAM = """
import sys
{before}
import hubclient
try:
    hubclient.signatures({module!r})
except Exception as error:
    print(type(error).__name__, error.code, error)
print([name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "numpy")])
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package that must not be imported."""
    package = tmp_path / "site" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('tensorflow was imported')\n")
    return package


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """One graph with the tag "serve", without nodes."""
    directory = tmp_path / "module"
    directory.mkdir()
    (directory / "saved_model.pb").write_bytes(b"\x08\x01\x12\x0b\x0a\x07\x22\x05serve\x12\x00")
    return directory


def answer(module: Path, site: Path | None = None, before: str = "") -> list[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if site is not None:
        environ["PYTHONPATH"] = str(site)
    program = PROGRAM.format(before=before, module=str(module))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environ
    )
    return done.stdout.splitlines()


def test_without_tensorflow_the_error_says_how_to_install_it(module: Path) -> None:
    error, imported = answer(module, before="sys.modules['tensorflow'] = None")
    assert error == (
        "TensorFlowMissing tensorflow-missing signatures() needs TensorFlow: pip install 'hubclient[tensorflow]'"
    )
    assert imported == "['tensorflow']"


def test_it_is_told_before_anything_is_downloaded() -> None:
    error, _ = answer(Path("https://localhost:1/m/1"), before="sys.modules['tensorflow'] = None")
    assert error.startswith("TensorFlowMissing")


def test_a_wheel_without_the_c_library_is_unusable(module: Path, wheel: Path) -> None:
    error, imported = answer(module, wheel.parent)
    assert error.startswith("TensorFlowUnusable tensorflow-unusable ")
    assert str(wheel) in error
    assert f"has no {LIBRARY}" in error
    assert "2.16 or newer" in error
    assert imported == "[]"


def test_a_library_that_cannot_be_opened_is_unusable(module: Path, wheel: Path) -> None:
    (wheel / LIBRARY).write_text("no library\n")
    error, _ = answer(module, wheel.parent)
    assert error.startswith(f"TensorFlowUnusable tensorflow-unusable {wheel / LIBRARY}")
    assert "cannot be opened" in error


def test_a_library_without_the_functions_is_unusable(module: Path, wheel: Path) -> None:
    import _ctypes

    (wheel / LIBRARY).symlink_to(_ctypes.__file__)  # a shared library that is surely there
    error, _ = answer(module, wheel.parent)
    assert error.startswith(f"TensorFlowUnusable tensorflow-unusable {wheel / LIBRARY}")
    assert "lacks TF_" in error


def test_another_major_version_is_unusable(module: Path, wheel: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    names = [*library._SLOW, *library._QUICK]
    source = tmp_path / "stub.c"
    source.write_text(
        "".join(f"void* {name}(void) {{ return 0; }}\n" for name in names if name != "TF_Version")
        + 'const char* TF_Version(void) { return "3.1.4"; }\n'
    )
    command = [compiler, "-shared", "-fPIC", str(source), "-o", str(wheel / LIBRARY)]
    subprocess.run(command, check=True, timeout=60)
    error, _ = answer(module, wheel.parent)
    assert error.startswith("TensorFlowUnusable tensorflow-unusable ")
    assert "is TensorFlow 3.1.4: only the C API of TensorFlow 2 is known" in error
