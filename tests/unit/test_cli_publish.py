"""`hubctl publish` as a process: what goes to stdout and stderr, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_client_publishing import README, everything, model, write


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "public").mkdir()
    return write(tmp_path / "my-module", {"saved_model.pb": model(), "README.md": README})


def hubctl(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "hubclient.cli", "publish", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_stdout_is_the_archives_path_and_stderr_says_what_to_do_next(module: Path, tmp_path: Path) -> None:
    done = hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/public/acme/m/1.tar.gz\n")
    said = done.stderr.splitlines()
    assert said[-2].startswith("published  acme/m/1  ")
    assert said[-1] == (
        "next  hubd host public, if it does not run yet; then hubctl get http://127.0.0.1:8501/acme/m/1"
    )
    served = hubctl(tmp_path, "my-module", "acme/m/2", "--to", "public", "--base-url", "https://Models.example.org/")
    assert served.stderr.splitlines()[-1] == "next  hubctl get https://models.example.org/acme/m/2"


def test_warnings_are_said_and_a_version_that_is_there_ends_with_1(module: Path, tmp_path: Path) -> None:
    (module / "README.md").unlink()
    first = hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public")
    assert first.returncode == 0
    assert first.stderr.startswith("warning  there is no README.md")
    again = hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public")
    assert (again.returncode, again.stdout) == (1, "")
    assert "acme/m/1 is published already" in again.stderr
    problem = json.loads(hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public", "--json").stderr)
    assert problem["code"] == "path-exists"


def test_json_tells_all_of_a_dry_run(module: Path, tmp_path: Path) -> None:
    (module / ".DS_Store").touch()
    done = hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public", "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert (told["name"], told["model"], told["version"], told["dry_run"]) == ("acme/m/1", "acme/m", 1, True)
    assert (told["left_out"], told["warnings"], told["common_signatures"]) == ([".DS_Store"], [], [])
    assert told["meta_graphs"][0]["signatures"]["serving_default"]["common_signature"] is None
    assert everything(tmp_path / "public") == []
    real = json.loads(hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public", "--json").stdout)
    assert told | {"dry_run": False} == real


def test_quiet_says_nothing_but_the_path(module: Path, tmp_path: Path) -> None:
    done = hubctl(tmp_path, "my-module", "acme/m/1", "--to", "public", "-q")
    assert (done.stdout, done.stderr) == (f"{tmp_path}/public/acme/m/1.tar.gz\n", "")


def test_wrong_usage_ends_with_2_and_what_is_refused_with_1(module: Path, tmp_path: Path) -> None:
    assert hubctl(tmp_path, "my-module", "acme/m/1").returncode == 2
    for arguments, code in (
        (("acme/m/one", "--to", "public"), "export-invalid"),
        (("acme/m/1", "--to", "nowhere"), "not-found"),
        (("acme/m/1", "--to", "public", "--base-url", "ftp://h.example"), "handle-invalid"),
    ):
        done = hubctl(tmp_path, "my-module", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"[{code}]" in done.stderr
    assert everything(tmp_path / "public") == []
