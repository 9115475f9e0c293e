"""Installing writes what is meant, where it is meant, and refuses what could not run; a booted system shows it all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hubd import config, installing, unit_files
from hubd.__main__ import main
from hubd.installing import InstallError
from tests.support import as_user, uids

ROOT = Path(__file__).parents[2]


def files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_a_package_gets_all_files_below_its_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--system", "--prefix", str(tmp_path / "usr"), "--program", "/usr/bin/hubd"]) == 0
    written = files(tmp_path / "usr")
    assert sorted(written) == [
        "lib/systemd/system/hubd.service",
        "lib/systemd/system/hubd.socket",
        "lib/sysusers.d/hubd.conf",
        "lib/tmpfiles.d/hubd.conf",
        "share/doc/hubd/config.example.toml",
    ]
    for name, source in (
        ("lib/systemd/system/hubd.service", "hubd.service"),
        ("lib/systemd/system/hubd.socket", "hubd.socket"),
        ("lib/sysusers.d/hubd.conf", "hubd.sysusers"),
        ("lib/tmpfiles.d/hubd.conf", "hubd.tmpfiles"),
    ):
        assert written[name] == (ROOT / "systemd" / source).read_text()
        assert stat.S_IMODE((tmp_path / "usr" / name).stat().st_mode) == 0o644
    assert len(capsys.readouterr().out.splitlines()) == len(written)


def test_the_unit_starts_the_hubd_that_installed_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hubd", "install", "--system", "--prefix", str(tmp_path)], check=True, timeout=30
    )
    unit = (tmp_path / "lib/systemd/system/hubd.service").read_text()
    assert f"\nExecStart={sys.executable} -P -m hubd run\n" in unit


def test_to_install_again_changes_only_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["install", "--system", "--prefix", str(tmp_path)]
    assert main(call) == 0
    capsys.readouterr()
    assert main(call) == 0
    assert capsys.readouterr().out == ""
    socket = tmp_path / "lib/systemd/system/hubd.socket"
    before = socket.read_text()
    socket.write_text("an older version's")
    assert main(call) == 0
    assert capsys.readouterr().out == f"wrote {socket}\n"
    assert socket.read_text() == before


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lib").write_text("in the way")
    assert main(["install", "--system", "--prefix", str(tmp_path)]) == 1
    assert f"hubd: {tmp_path}/lib/systemd/system/hubd.service cannot be written: " in capsys.readouterr().err


def test_the_first_configuration_states_nothing_and_shows_everything(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(unit_files.first_config())
    assert config.load(str(file), user=False) == config.Settings()
    lines = file.read_text().splitlines()
    assert [line for line in lines if line and line[0] not in "#["] == []
    assert '# high_water = "95%"' in lines


@pytest.mark.parametrize(
    ("word", "literal"),
    [
        ("/opt/hubd-1.2/bin/hubd", "/opt/hubd-1.2/bin/hubd"),
        ("/opt/my hubd", '"/opt/my hubd"'),
        ("/opt/100%$HOME", '"/opt/100%%$$HOME"'),
        ('/opt/"\\', '"/opt/\\"\\\\"'),
    ],
)
def test_a_path_stands_in_the_unit_as_it_is(word: str, literal: str) -> None:
    assert unit_files.quoted(word) == literal


def test_system_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("install", "uninstall"):
        with pytest.raises(SystemExit) as caught:
            main([command])
        assert caught.value.code == 2
    assert "--system" in capsys.readouterr().err


@uids.needs_root
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_only_root_installs_and_the_message_says_the_command(command: str) -> None:
    call = as_user.command(uids.ALICE, sys.executable, "-P", "-m", "hubd", command, "--system")
    done = subprocess.run(call, capture_output=True, text=True, cwd=as_user.REPOSITORY, timeout=30, check=False)
    assert done.returncode == 1
    assert f"only root can do that: sudo {sys.executable} -P -m hubd {command} --system" in done.stderr


@uids.needs_root
def test_where_no_service_is_installed_uninstalling_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installing, "SYSTEM", unit_files.below(str(tmp_path)))
    monkeypatch.setattr("hubclient.contract.places.SERVICE_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    assert main(["uninstall", "--system"]) == 0
    assert (tmp_path / "run").is_dir(), "it is another daemon's"
    assert capsys.readouterr().out == "there is no service to remove; --purge removes what one may have left\n"


def test_an_unknown_command_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["chek-config", "hubd.toml"])
    assert caught.value.code == 2
    assert "'check-config'" in capsys.readouterr().err


def test_without_systemd_it_says_what_can_be_done(tmp_path: Path) -> None:
    assert installing.require_systemd(needed=True, booted=str(tmp_path))
    assert not installing.require_systemd(needed=False, booted=str(tmp_path / "none"))
    with pytest.raises(InstallError, match=r"--no-start .* --prefix DIR"):
        installing.require_systemd(needed=True, booted=str(tmp_path / "none"))


def test_what_the_service_cannot_see_or_enter_is_refused() -> None:
    installing.require_reachable(["/usr/bin/env"])
    for hidden in ("/root/venv/bin/hubd", "/home/alice/venv/bin/hubd", "/tmp/hubd"):
        with pytest.raises(InstallError, match=r"of which the service sees nothing: .* /opt/hubd"):
            installing.require_reachable([hidden])
    with pytest.raises(InstallError, match="No such file"):
        installing.require_reachable(["/opt/no-hubd/bin/hubd"])


@uids.needs_root
def test_what_is_closed_to_users_is_refused() -> None:
    with tempfile.TemporaryDirectory(dir="/opt") as directory:
        program = Path(directory, "hubd")
        program.touch(0o644)
        with pytest.raises(InstallError, match=f"{directory} is closed to the service's user"):
            installing.require_reachable([str(program)])
        os.chmod(directory, 0o755)
        installing.require_reachable([str(program)])
        program.chmod(0o700)
        with pytest.raises(InstallError, match=f"{program} is closed"):
            installing.require_reachable([str(program)])


def test_a_purge_removes_the_cache_and_leaves_what_is_not_hubds(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("trees/x", "handles", "tfhub", "staging", "trash"):
        (cache / name).mkdir(parents=True)
    (cache / "precious").write_text("data")
    installing.purge_cache(str(cache))
    assert len(os.listdir(cache)) == 6, "no cache of hubd's: it has no layout file"
    (cache / "layout").write_text("1\n")
    installing.purge_cache(str(cache))
    assert os.listdir(cache) == ["precious"]
    (cache / "precious").unlink()
    (cache / "layout").write_text("1\n")
    installing.purge_cache(str(cache))
    assert not cache.exists()
    cache.mkdir()
    installing.purge_cache(str(cache))
    assert not cache.exists(), "systemd makes one, wherever the settings have it"


def test_a_purge_follows_no_link_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    cache.mkdir()
    (cache / "layout").write_text("1\n")
    (cache / "trees").symlink_to(elsewhere)
    installing.purge_cache(str(cache))
    assert os.listdir(elsewhere) == ["precious"]
    assert f"left {cache}: Cannot call rmtree on a symbolic link" in capsys.readouterr().out


def test_a_file_that_is_no_text_is_replaced(tmp_path: Path) -> None:
    unit = tmp_path / "hubd.service"
    unit.write_bytes(b"# \xe9\n")
    assert installing.write_files({str(unit): "[Unit]\n"}) == {str(unit)}
    assert unit.read_text() == "[Unit]\n"


def test_a_program_that_systemd_would_not_start_is_refused(tmp_path: Path) -> None:
    for prefix in (None, str(tmp_path)):
        with pytest.raises(InstallError, match=r"bin/hubd is no absolute path"):
            installing.install(prefix, "bin/hubd", start=False)
    assert os.listdir(tmp_path) == []
