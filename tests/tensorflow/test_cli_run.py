"""`hubctl run` as its users run it: real modules, a real daemon, a process of its own."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.building import Modules
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.origin import Answer, Origin

pytestmark = pytest.mark.tensorflow
np: Any = pytest.importorskip("numpy")


def packed(directory: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(directory, ".")
    return buffer.getvalue()


def ran(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = hubctl(daemon, "run", *arguments)
    assert done.returncode == 0, done.stderr
    return done


def expected(directory: str, signature: str, **inputs: Any) -> dict[str, Any]:
    import hubclient

    with hubclient.signatures(directory) as found:
        return found[signature](**inputs)


def test_a_published_module_is_fetched_and_applied(modules: Modules, origin: Origin, shared_daemon: Daemon) -> None:
    directory = modules("tf2/plain")
    handle = origin.serve("/plain/1", Answer(packed(directory)))
    x = [[1.0, 2.0, 3.0]]
    first = ran(shared_daemon, handle, "--input", f"x={json.dumps(x)}", "--json")
    assert np.allclose(json.loads(first.stdout)["y"], expected(directory, "serving_default", x=x)["y"])
    quiet = ran(shared_daemon, handle, "-i", json.dumps(x), "-q")
    assert quiet.stdout.startswith("y: float32 (1, 2)\n[[")
    assert quiet.stderr == ""
    assert len(origin.asked("/plain/1")) == 1


def test_inputs_and_outputs_are_files(modules: Modules, shared_daemon: Daemon, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.float32([1, 2, 3]))
    out = tmp_path / "out.npz"
    done = ran(
        shared_daemon, modules("tf2/plain"), "-s", "square", "--inputs", f"@{tmp_path / 'in.npz'}", "-o", str(out)
    )
    assert done.stdout == ""
    with np.load(out) as loaded:
        (output,) = loaded.values()
    assert output.tolist() == [1, 4, 9]


def test_text_goes_in_as_it_is_typed(modules: Modules, shared_daemon: Daemon) -> None:
    directory = modules("tf1/text")
    typed = ran(shared_daemon, directory, "-i", '["red fox", "5"]', "--json")
    wanted = expected(directory, "default", default=["red fox", "5"])["default"]
    assert np.allclose(json.loads(typed.stdout)["default"], wanted)


def test_a_sparse_output_is_shown_and_written_in_its_parts(
    modules: Modules, shared_daemon: Daemon, tmp_path: Path
) -> None:
    module, x = modules("tf1/sparse"), "default=[[[0, 1]], [2.0], [1, 3]]"
    shown = ran(shared_daemon, module, "-s", "scaled", "-i", x, "--json")
    assert json.loads(shown.stdout)["default/indices"] == [[0, 1]]
    out = tmp_path / "out.npz"
    ran(shared_daemon, module, "-s", "scaled", "-i", x, "-o", str(out))
    assert np.load(out)["default/dense_shape"].tolist() == [1, 3]


def test_signatures_are_listed_without_loading_the_module(modules: Modules, shared_daemon: Daemon) -> None:
    listed = ran(shared_daemon, "--list", modules("tf2/plain")).stdout
    assert "serving_default\n  input   x: float32 (?, 3)\n  output  y: float32 (?, 2)\n" in listed
    variant = ran(shared_daemon, "--list", modules("tf1/variants"), "--tags", "train", "--json").stdout
    assert "default" in json.loads(variant)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-i", "x=[1,"), 2, "no JSON"),
        (("-i", "x=[[1, 2]]"), 1, "input-invalid"),
        (("-s", "nothing"), 1, "serving_default"),
        pytest.param(("-i", "x=@nowhere.npy"), 2, "nowhere.npy", marks=pytest.mark.thorough),
        pytest.param(("-o", "out.txt"), 2, ".npz", marks=pytest.mark.thorough),
        pytest.param(("-i", "z=[[1, 2, 3]]"), 1, "x", marks=pytest.mark.thorough),
        pytest.param((), 1, "x", marks=pytest.mark.thorough),
        pytest.param(("--tags", "gpu"), 1, "variant-not-found", marks=pytest.mark.thorough),
    ],
)
def test_a_mistake_is_told_with_what_was_expected(
    arguments: tuple[str, ...], code: int, message: str, modules: Modules, shared_daemon: Daemon
) -> None:
    done = hubctl(shared_daemon, "run", modules("tf2/plain"), *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
