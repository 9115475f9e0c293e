"""`hubctl pack` as a process: what goes to stdout and stderr, and the exit codes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_client_packing import write


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return write(tmp_path / "my-module")


def hubctl(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "hubclient.cli", "pack", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_stdout_is_the_archives_path_and_stderr_its_digest(module: Path, tmp_path: Path) -> None:
    done = hubctl(tmp_path, "my-module")
    archive = tmp_path / "my-module.tar.gz"
    assert (done.returncode, done.stdout) == (0, f"{archive}\n")
    assert f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}" in done.stderr
    assert done.stderr.startswith("packed  my-module  ")


def test_a_trailing_slash_or_a_dot_changes_no_name(module: Path, tmp_path: Path) -> None:
    assert hubctl(tmp_path, "my-module/").stdout == f"{tmp_path}/my-module.tar.gz\n"
    assert hubctl(tmp_path, f"file://{module}", "--force").stdout == f"{tmp_path}/my-module.tar.gz\n"
    out = str(tmp_path / "elsewhere" / "1.tar.gz")
    assert hubctl(module, ".", "-o", out).stdout == f"{out}\n"


def test_json_tells_all_and_quiet_nothing_but_the_path(module: Path, tmp_path: Path) -> None:
    (module / ".DS_Store").touch()
    told = hubctl(tmp_path, "my-module", "--json")
    answer = json.loads(told.stdout)
    archive = (tmp_path / "my-module.tar.gz").read_bytes()
    assert answer["digest"] == f"sha256:{hashlib.sha256(archive).hexdigest()}"
    assert answer["size_bytes"] == len(archive)
    assert answer["left_out"] == [".DS_Store"]
    assert told.stderr == ""
    again = hubctl(tmp_path, "my-module", "--force", "--quiet")
    assert (again.stdout, again.stderr) == (answer["path"] + "\n", "")
    assert "left out  .DS_Store\n" in hubctl(tmp_path, "my-module", "--force").stderr


def test_what_is_there_stays_and_the_exit_code_says_so(module: Path, tmp_path: Path) -> None:
    (tmp_path / "my-module.tar.gz").write_bytes(b"mine")
    done = hubctl(tmp_path, "my-module")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[path-exists]" in done.stderr
    assert (tmp_path / "my-module.tar.gz").read_bytes() == b"mine"
    problem = json.loads(hubctl(tmp_path, "my-module", "--json").stderr)
    assert problem["code"] == "path-exists"


def test_what_is_no_module_ends_with_1_and_wrong_usage_with_2(tmp_path: Path) -> None:
    done = hubctl(tmp_path, "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[not-found]" in done.stderr
    assert hubctl(tmp_path).returncode == 2


def test_a_dash_is_no_name_for_stdout(module: Path, tmp_path: Path) -> None:
    done = hubctl(tmp_path, "my-module", "-o", "-")
    assert (done.returncode, done.stdout) == (1, "")
    assert "name the file" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["my-module"]


def test_the_help_teaches_by_examples(tmp_path: Path) -> None:
    told = hubctl(tmp_path, "--help").stdout
    assert "hubctl pack my-module -o public/my-module/1.tar.gz" in told
    assert "--force" in told
    assert "--json" in told
