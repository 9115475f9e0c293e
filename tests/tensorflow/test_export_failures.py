"""What `export` refuses, and that nothing is left behind when it ends early."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

import hubclient

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

SPEC = tf.TensorSpec([None], tf.float32)
FUNCTION = tf.function(lambda x: {"y": x}, input_signature=[SPEC])


def test_something_at_the_path_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    before = sorted(entry.name for entry in tmp_path.iterdir())
    for name in before:
        with pytest.raises(hubclient.PathExists, match=name):
            hubclient.export(lambda x: x, tmp_path / name, inputs=SPEC)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_what_appears_at_the_path_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    class Racing(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
        def __call__(self, x: Any) -> Any:
            (tmp_path / "m").mkdir(exist_ok=True)  # an empty directory is what a plain rename would replace
            return x

    with pytest.raises(hubclient.PathExists):
        hubclient.export(Racing(), tmp_path / "m", inputs=SPEC)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    assert list((tmp_path / "m").iterdir()) == []


def test_missing_parents_are_made(tmp_path: Path) -> None:
    path = hubclient.export(lambda x: x, tmp_path / "a" / "b", inputs=SPEC)
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == ["b"]
    assert {entry.stat().st_mode & 0o777 for entry in Path(path).iterdir() if entry.is_dir()} == {0o755}


@pytest.mark.parametrize(
    ("obj", "options", "said"),
    [
        (lambda x: x, {}, "inputs="),
        (tf.function(lambda x: x), {}, "inputs="),
        (tf.Module(), {}, "neither a __call__ nor signatures"),
        (5, {"inputs": SPEC}, "neither a __call__ nor signatures"),
        (lambda x: x, {"inputs": [1.0]}, "tf.TensorSpec"),
        (lambda a, b: a, {"inputs": SPEC}, "the arguments a, b"),
        (lambda x: {"a": {"b": x}}, {"inputs": SPEC}, "flat dict"),
        (lambda x: None, {"inputs": SPEC}, "flat dict"),
        (lambda x: tf.numpy_function(abs, [x], tf.float32), {"inputs": SPEC}, "calls Python while it runs"),
        (lambda x: tf.py_function(abs, [x], tf.float32), {"inputs": SPEC}, "calls Python while it runs"),
        (lambda x: x + "text", {"inputs": SPEC}, "tracing"),
        (lambda x: tf.Variable(1.0) * x, {"inputs": SPEC}, "tracing"),
        (lambda x: x, {"inputs": SPEC, "signatures": {"s": lambda x: x}}, "input_signature"),
        (lambda x: x, {"inputs": SPEC, "signatures": [FUNCTION]}, "signatures= is a dict"),
        (lambda x: x, {"inputs": SPEC, "signatures": {"": FUNCTION}}, "the name ''"),
        (lambda x: x, {"inputs": SPEC, "signatures": {3: FUNCTION}}, "the name 3"),
        (lambda x: x, {"inputs": SPEC, "signatures": {"__saved_model_init_op": FUNCTION}}, "the name '__saved"),
        (lambda x: x, {"inputs": SPEC, "variants": {"serve": lambda x: x}}, "tags of its own"),
        (lambda x: x, {"inputs": SPEC, "variants": [lambda x: x]}, "variants= is a dict"),
        (lambda x: x, {"inputs": SPEC, "tags": 3}, "tags are text"),
        (lambda x: x, {"inputs": SPEC, "tags": ["a", ""]}, "tags are text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_exported_is_told(tmp_path: Path, obj: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(hubclient.ExportInvalid, match=said.replace("(", r"\(")):
        hubclient.export(obj, tmp_path / "m", **options)
    assert list(tmp_path.iterdir()) == []


def test_losses_that_are_values_are_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.regularization_losses = [tf.constant(1.0)]
    module.__call__ = tf.function(lambda x: x, input_signature=[SPEC])
    with pytest.raises(hubclient.ExportInvalid, match="callables without arguments"):
        hubclient.export(module, tmp_path / "m")


def test_a_table_that_the_object_does_not_hold_is_told_with_the_remedy(tmp_path: Path) -> None:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    function = tf.function(table.lookup, input_signature=[tf.TensorSpec([None], tf.string)])
    with pytest.raises(hubclient.ExportInvalid, match=r"attribute of the tf\.Module"):
        hubclient.export(function, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_graph_mode_is_refused(tmp_path: Path) -> None:
    with tf.Graph().as_default(), pytest.raises(hubclient.ExportInvalid, match="eager"):
        hubclient.export(lambda x: x, tmp_path / "m", inputs=SPEC)


def test_the_scope_of_a_strategy_is_refused(tmp_path: Path) -> None:
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope(), pytest.raises(hubclient.ExportInvalid, match=r"outside of strategy\.scope"):
        hubclient.export(lambda x: x, tmp_path / "m", inputs=SPEC)


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes"])
def test_what_is_no_path_is_told(path: Any) -> None:
    with pytest.raises(hubclient.ExportInvalid, match="no path"):
        hubclient.export(lambda x: x, path, inputs=SPEC)


def test_a_url_and_a_path_below_a_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(hubclient.ExportInvalid, match="a path of this machine"):
        hubclient.export(lambda x: x, "gs://bucket/m", inputs=SPEC)
    for path in ("file/m", "file/a/m"):
        with pytest.raises(hubclient.ExportInvalid, match="is not a directory, and cannot be made one"):
            hubclient.export(lambda x: x, tmp_path / path, inputs=SPEC)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file-size limit stands for the disk: the checkpoint does not fit."""
    v = tf.Variable(tf.zeros([100_000]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(hubclient.ExportInvalid, match=f"(?i){os.strerror(errno.EFBIG)}"):
            hubclient.export(lambda x: v * x, tmp_path / "m", inputs=tf.TensorSpec([], tf.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = tf.saved_model.save

    def interrupted(root: Any, directory: str, **options: Any) -> None:
        save(root, directory, **options)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(tf.saved_model, "save", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            hubclient.export(lambda x: x, tmp_path / "m", inputs=tf.TensorSpec([], tf.float32))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert list(tmp_path.iterdir()) == []
