"""What a test machine is made of: a Debian tree, and wheels to install the project from without a network.

Law: what is kept in ``.booted/`` is named after all that it was made from, appears whole, and is never changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = REPOSITORY / ".booted"

SUITE = "bookworm"
PYTHON = "3.11"  # bookworm's
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libnss-systemd", "ca-certificates", "python3", "python3-venv")

_LIMIT_SECONDS = 280.0
_PROJECT = ("pyproject.toml", "README.md", "LICENSE", "config.example.toml", "client", "hubd", "systemd")


def tree() -> Path:
    """A minimal Debian with systemd and Python, which nobody may change: whoever boots it lays something over it."""

    def make(place: Path) -> None:
        # In namespaces of its own: what it mounts in the tree goes with it, also when it is killed.
        alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        include = f"--include={','.join(PACKAGES)}"
        _run(*alone, "mmdebstrap", "--quiet", "--variant=minbase", include, SUITE, str(place / "root"))

    return _kept("debian", [SUITE, *PACKAGES], make) / "root"


def dependencies() -> Path:
    """A directory of wheels of all that hubd and hubctl depend on, in the versions of ``constraints.txt``."""
    inputs = [
        (REPOSITORY / name).read_text() for name in ("constraints.txt", "pyproject.toml", "client/pyproject.toml")
    ]

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory() as built:
            build(Path(built))
            options = ["--only-binary=:all:", f"--python-version={PYTHON}", "--find-links", built, "-d", str(place)]
            _pip("download", *options, *map(str, Path(built).glob("*.whl")))
        for own in (*place.glob("tf_hubd-*"), *place.glob("hubclient-*")):
            own.unlink()

    return _kept("wheels", [PYTHON, *inputs], make)


def build(directory: Path, version: str | None = None) -> None:
    """Builds wheels of the project as it is now; `version` is what hubd's then says of itself, if not its own."""
    with tempfile.TemporaryDirectory() as copied:
        source = Path(copied)
        for name in _PROJECT:
            found = REPOSITORY / name
            if found.is_dir():
                shutil.copytree(found, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            elif found.exists():
                shutil.copy(found, source / name)
        if version is not None:
            _replace(source / "pyproject.toml", r'^version = ".*"', f'version = "{version}"')
            _replace(source / "hubd/__init__.py", r'^__version__ = ".*"', f'__version__ = "{version}"')
        _pip(
            "wheel",
            *("--no-deps", "--no-build-isolation", "-w", str(directory), str(source / "client"), copied),
            environ={"PYTHONPATH": str(_backend())},
        )


def tensorflow() -> Path | None:
    """The directory of packages that TensorFlow is in, if the tree's Python could use it."""
    import importlib.util

    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        return None
    found = importlib.util.find_spec("tensorflow")
    return None if found is None or found.origin is None else Path(found.origin).parents[1]


def _backend() -> Path:
    def make(place: Path) -> None:
        _pip("install", "--target", str(place), "hatchling")

    return _kept("hatchling", [sys.version, (REPOSITORY / "constraints.txt").read_text()], make)


def _kept(kind: str, inputs: list[str], make: Callable[[Path], None]) -> Path:
    """What was made from these inputs before, else what `make` puts into an empty directory."""
    place = KEPT / f"{kind}-{hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]}"
    if not place.exists():
        KEPT.mkdir(exist_ok=True)
        for old in KEPT.glob(f"{kind}-*"):
            shutil.rmtree(old)
        new = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=KEPT))
        try:
            make(new)
            new.chmod(0o755)
            os.rename(new, place)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # after a rename there is nothing left to remove
    return place


def _pip(command: str, *arguments: str, environ: dict[str, str] | None = None) -> None:
    constraints = ["-c", "constraints.txt"] if command != "wheel" else []
    program = [sys.executable, "-m", "pip", command, "-q", "--disable-pip-version-check", *constraints]
    _run(*program, *arguments, environ=environ)


def _run(*command: str, environ: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_SECONDS,
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}"


def _replace(path: Path, pattern: str, text: str) -> None:
    new, count = re.subn(pattern, text, path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{path} has {count} lines like {pattern}"
    path.write_text(new)
