"""tensorflow_hub itself with hubd's cache: by the view ``tfhub/``, with nobody to ask, and by ``install()``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import hubclient
from hubclient.contract import handles
from tests.support import as_user
from tests.support.building import Modules
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.peer import peer_python
from tests.support.uids import BOB, directory_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]
pytest.importorskip("tensorflow")

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ["tf2/text_embedding", "tf2/multi", "tf1/text"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everyone may enter."""
    with directory_of(os.geteuid()) as path:
        yield Path(path)


def serve(origin: Origin, modules: Modules, name: str, path: str, directory: Path) -> str:
    archive = directory / "module.tar.gz"
    hubclient.pack(modules(name), archive)
    answer = Answer(archive.read_bytes())
    archive.unlink()
    return origin.serve(path, answer)


def result_of(command: Sequence[str], environ: dict[str, str]) -> Any:
    done = subprocess.run(
        command,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", **environ},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_cached_handle_resolves_and_loads_offline_without_a_daemon_as_any_user(
    modules: Modules, place: Path, tmp_path: Path
) -> None:
    peer, cache = peer_python(), place / "cache"
    with Origin() as origin, Daemon(tmp_path, arguments=["--cache-dir", str(cache)]) as daemon:
        cases = {}
        for number, name in enumerate(NAMES):
            handle = serve(origin, modules, name, f"/m{number}/1", tmp_path)
            # Each as it was spelt: tensorflow_hub hashes just that.
            others = (f"{handle}?tf-hub-format=compressed", f"{handle}#top") if number == 0 else ()
            for spelling in (handle, *others):
                assert daemon.resolve(spelling)[0] == 200
                cases[spelling] = modules(name)
        unversioned = serve(origin, modules, NAMES[0], "/latest", tmp_path)
        assert daemon.resolve(unversioned)[0] == 200
        cases[unversioned] = modules(NAMES[0])
        daemon.stop()
    view = cache / "tfhub"
    before = sorted(os.listdir(view))
    program = [peer, "-m", "tests.support.view_reader", str(BOB) if os.geteuid() == 0 else "", json.dumps(cases)]
    if os.geteuid() == 0:
        program = as_user.command(0, *program)
    environ = {"PYTHONPATH": str(ROOT), "TFHUB_CACHE_DIR": str(view)}
    owner, *others = result_of(program, environ)
    for result in (owner, *others):
        assert result["paths"] == {handle: str(view / handles.spelling_name(handle)) for handle in cases}
        assert result["same"] == dict.fromkeys(cases, True)
    # What is not cached tensorflow_hub downloads, if it may: hubd's own user may write there, others may not.
    assert owner["miss"] == "urllib.error.URLError"
    assert [other["miss"].rpartition(".")[2] for other in others] == ["PermissionDeniedError"] * len(others)
    assert sorted(os.listdir(view)) == before


def test_install_puts_hubd_in_front_and_uninstall_takes_it_away(
    modules: Modules, origin: Origin, daemon: Daemon, tmp_path: Path
) -> None:
    handle = serve(origin, modules, "tf2/text_embedding", "/m/1", tmp_path)
    directory = modules("tf2/text_embedding")
    own = tmp_path / "own"
    environ = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}",
        "HUBD_SOCKET": str(daemon.socket),
        "HUBD_AUTOSTART": "0",
        "TFHUB_CACHE_DIR": str(own),
    }
    program = [peer_python(), "-m", "tests.support.through_hubd", handle, origin.url("/absent/1"), directory]
    result = result_of(program, environ)
    assert result["added"] == ["hubclient.tfhub"]
    assert Path(result["path"]).is_relative_to(daemon.cache / "trees")
    assert result["load"] == result["layer"] == result["as_the_directory"]
    assert result["directory"] == directory
    assert result["absent"] == "hubclient.contract.errors.UpstreamNotFound"
    assert result["restored"]
    assert result["absent_without"] == "urllib.error.HTTPError"
    assert len(origin.asked("/m/1")) == 1
    assert list(own.iterdir()) == []
