"""Several variants in one module: each loads by its tags, and all share one checkpoint."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import pytest

import hubclient

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

SPEC = tf.TensorSpec([None, 2], tf.float32)
X = tf.constant([[1.0, 2.0], [3.0, -4.0]])


class Shared:
    """An inference function, and one for training that scales by another variable and has a loss."""

    def __init__(self, directory: Path) -> None:
        self.weight = tf.Variable([[2.0, 1.0]], name="weight")
        self.rate = tf.Variable(10.0, name="rate")
        self.inference, self.training = tf.Module(), tf.Module()
        self.inference.weight = self.training.weight = self.weight
        self.training.rate = self.rate
        self.inference.trainable_parts = []
        self.inference.table = self._table(directory / "a" / "words.txt", "zero\none\n")
        self.training.table = self._table(directory / "b" / "words.txt", "none\nzero\none\n")
        self.inference.__call__ = tf.function(lambda x: x * self.weight, input_signature=[SPEC])
        self.training.__call__ = tf.function(lambda x: x * self.weight * self.rate, input_signature=[SPEC])
        words = [tf.TensorSpec([None], tf.string)]
        self.inference.index = tf.function(self.inference.table.lookup, input_signature=words)
        self.training.index = tf.function(self.training.table.lookup, input_signature=words)
        self.training.regularization_losses = [lambda: tf.reduce_sum(self.weight)]
        self.training.trainable = [self.rate]

    @staticmethod
    def _table(vocabulary: Path, text: str) -> Any:
        vocabulary.parent.mkdir()
        vocabulary.write_text(text)
        line = tf.lookup.TextFileIndex
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, line.WHOLE_LINE, tf.int64, line.LINE_NUMBER
        )
        return tf.lookup.StaticHashTable(initializer, -1)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("variants")
    shared = Shared(directory)
    return hubclient.export(
        shared.inference,
        directory / "m",
        tags=(),
        variants={"train": shared.training, ("gpu", "big"): lambda x: -x},
        inputs=SPEC,
    )


@pytest.mark.parametrize(
    ("tags", "factor", "index", "losses"),
    [(None, [[2.0, 1.0]], 1, []), ((), [[2.0, 1.0]], 1, []), ("train", [[20.0, 10.0]], 2, [3.0])],
    ids=["unsaid", "none", "train"],
)
def test_each_variant_is_a_whole_object(module: str, tags: Any, factor: Any, index: int, losses: list[float]) -> None:
    loaded = hubclient.load(module, tags=tags)
    assert loaded(X).numpy().tolist() == (X * factor).numpy().tolist()
    assert loaded.index(tf.constant(["one"])).numpy().tolist() == [index]
    assert [float(loss()) for loss in loaded.regularization_losses] == losses
    assert {v.name: v.numpy().tolist() for v in loaded.variables} == {"weight:0": [[2.0, 1.0]], "rate:0": 10.0}
    assert loaded.signatures["default"](x=X)["default"].numpy().tolist() == (X * factor).numpy().tolist()


def test_tensorflow_itself_loads_the_signatures_by_tags(module: str) -> None:
    plain, train = tf.saved_model.load(module, tags=[]), tf.saved_model.load(module, tags=["train"])
    assert plain.signatures["default"](x=X)["default"].numpy().tolist() == (X * [[2.0, 1.0]]).numpy().tolist()
    assert train.signatures["default"](x=X)["default"].numpy().tolist() == (X * [[20.0, 10.0]]).numpy().tolist()
    other = tf.saved_model.load(module, tags=["big", "gpu"])
    assert other.signatures["serving_default"](x=X)["output_0"].numpy().tolist() == (-X).numpy().tolist()


def test_shared_variables_are_stored_once(module: str) -> None:
    keys = tf.train.load_checkpoint(module + "/variables/variables").get_variable_to_shape_map()
    assert sorted(key for key in keys if key.endswith("VARIABLE_VALUE")) == [
        "variables/0/.ATTRIBUTES/VARIABLE_VALUE",
        "variables/1/.ATTRIBUTES/VARIABLE_VALUE",
    ]


def test_assets_of_one_name_and_other_content_stay_apart(module: str) -> None:
    assets = sorted(file.name for file in (Path(module) / "assets").iterdir())
    assert assets == ["words.txt", "words.txt_1"]
    assert sorted(entry.name for entry in Path(module).iterdir()) == ["assets", "saved_model.pb", "variables"]


def test_a_variant_trains_and_is_exported_again(module: str, tmp_path: Path) -> None:
    loaded = hubclient.load(module, tags="train")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(X))
    (gradient,) = tape.gradient(loss, [next(v for v in loaded.trainable_variables if v.name == "rate:0")])
    assert float(gradient) == float(tf.reduce_sum(X * [[2.0, 1.0]]))
    for v in loaded.variables:
        v.assign_add(tf.ones_like(v))
    again = hubclient.load(hubclient.export(loaded, tmp_path / "again"))
    assert again(X).numpy().tolist() == loaded(X).numpy().tolist() == (X * [[33.0, 22.0]]).numpy().tolist()
    assert again.index(tf.constant(["one"])).numpy().tolist() == [2]


def test_the_only_graph_may_have_other_tags(tmp_path: Path) -> None:
    path = hubclient.export(lambda x: 2 * x, tmp_path / "m", tags={"b", "a"}, inputs=SPEC)
    assert hubclient.load(path, tags=["a", "b"])(X).numpy().tolist() == (2 * X).numpy().tolist()
    assert tf.saved_model.load(path)(X).numpy().tolist() == (2 * X).numpy().tolist()


def test_variants_with_the_same_tags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(hubclient.ExportInvalid, match="tags of its own"):
        hubclient.export(lambda x: x, tmp_path / "m", inputs=SPEC, variants={("serve",): lambda x: -x})


def test_a_read_only_module_loads_and_nothing_is_left_behind(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(str(path) for path in Path(module).rglob("*"))
    loaded = hubclient.load(module, tags="train")
    assert list(tmp_path.iterdir()) == []
    assert sorted(str(path) for path in Path(module).rglob("*")) == before
    assert loaded(X).shape == (2, 2)


def test_options_reach_a_variant(module: str) -> None:
    options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=True)
    loaded = hubclient.load(module, tags="train", options=options)
    assert [v.numpy().size for v in loaded.variables] == [0, 0]
    assert options.experimental_skip_checkpoint
    partial = tf.saved_model.LoadOptions(allow_partial_checkpoint=True)
    assert (
        hubclient.load(module, tags="train", options=partial)(X).numpy().tolist()
        == (X * [[20.0, 10.0]]).numpy().tolist()
    )
    assert not partial.experimental_skip_checkpoint


def test_a_variant_in_graph_mode_is_refused_clearly(module: str) -> None:
    with tf.Graph().as_default(), pytest.raises(hubclient.ModuleUnsupported, match="eager"):
        hubclient.load(module, tags="train")


def test_a_temporary_directory_without_room_is_told(module: str) -> None:
    """A file-size limit stands for the full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
        with pytest.raises(hubclient.DiskFull, match="needs room"):
            hubclient.load(module, tags="train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
