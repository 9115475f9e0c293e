"""`hubctl prefetch` with files, and what hubctl says of modules that prefetch files pin."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.hubctl import SECONDS, Terminal, environ_for, hubctl
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive(MODULE)


def test_files_are_fetched_and_held_to_their_digests(shared_daemon: Daemon, origin: Origin, tmp_path: Path) -> None:
    good, bad, plain = (origin.serve(f"/{name}/1", Answer(ARCHIVE)) for name in ("good", "bad", "plain"))
    digest = shared_daemon.resolve(good)[1]["digest"]
    assert shared_daemon.resolve(bad)[0] == 200
    file = tmp_path / "modules.toml"
    file.write_text(
        f'handles = ["{plain}"]\npin = true\n'
        f'[[module]]\nhandle = "{good}"\ndigest = "{digest}"\n'
        f'[[module]]\nhandle = "{bad}"\ndigest = "{"0" * 64}"\n'
    )
    done = hubctl(shared_daemon, "prefetch", "--wait", str(file))
    assert done.returncode == 1
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["fetched", plain],
        ["cached", good],
        ["failed", bad],
    ]
    assert "[digest-mismatch]" in done.stderr
    assert "what it says of pin counts only in the daemon's own directory" in done.stderr
    mild = hubctl(shared_daemon, "prefetch", str(file))
    assert mild.returncode == 0
    assert "digests are compared only with --wait" in mild.stderr


def test_a_lock_file_means_content_also_of_an_archive_that_was_packed_anew(
    shared_daemon: Daemon, origin: Origin, tmp_path: Path
) -> None:
    handle, lock = origin.serve("/locked", Answer(ARCHIVE)), tmp_path / "hub.lock"
    assert hubctl(shared_daemon, "lock", handle, "-o", str(lock)).returncode == 0
    lock.write_text(lock.read_text().replace('\ndigest = "sha256:', f'\ndigest = "sha256:{"0" * 64}" # '))
    done = hubctl(shared_daemon, "prefetch", "--wait", "--json", str(lock))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["fetches"]
    assert (row["handle"], row["outcome"], row["problem"]) == (handle, "cached", None)


def test_a_file_that_is_none_exits_1_and_keeps_nothing_else_from_coming(
    shared_daemon: Daemon, origin: Origin, tmp_path: Path
) -> None:
    handle = origin.serve("/beside/1", Answer(ARCHIVE))
    done = hubctl(shared_daemon, "prefetch", "--wait", str(tmp_path / "none.toml"), handle)
    assert done.returncode == 1
    assert "[request-invalid]" in done.stderr
    assert f"fetched  {handle}" in done.stdout


def test_a_terminal_shows_a_bar_for_each_and_a_total(daemon: Daemon, origin: Origin, tmp_path: Path) -> None:
    slow = [Answer(ARCHIVE, gate_after_bytes=len(ARCHIVE) // 2) for _ in range(2)]
    handles = [origin.serve(f"/slow{number}/1", answer) for number, answer in enumerate(slow)]
    file = tmp_path / "modules.toml"
    file.write_text(f"handles = {handles}")
    with Terminal(environ_for(daemon), ["prefetch", "--wait", str(file)]) as terminal:
        terminal.read_until("0 of 2 modules")
        for number in range(2):
            terminal.read_until(f"slow{number}/1")
        for answer in slow:
            answer.gate.set()
        assert "fetched" in terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 0


def test_hubctl_says_which_file_pins_a_module(tmp_path: Path, origin: Origin) -> None:
    directory = tmp_path / "prefetch.d"
    directory.mkdir(mode=0o755)
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    (directory / "nightly.toml").write_text(f'handles = ["{handle}"]\npin = true')
    (directory / "nightly.toml").chmod(0o644)
    with Daemon(tmp_path, config=f'[prefetch]\ndir = "{directory}"\n') as daemon:
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["prefetch"][0]["state"] == "ok")
        assert "pinned by       nightly.toml" in hubctl(daemon, "show", handle).stdout
        unpinned = hubctl(daemon, "unpin", handle)
        assert "stays, as long as the prefetch file nightly.toml pins it" in unpinned.stderr
        refused = hubctl(daemon, "rm", handle)
        assert refused.returncode == 1
        assert "nightly.toml" in refused.stderr
        assert "until the file is next due" in refused.stderr
        assert daemon.stop() == 0
