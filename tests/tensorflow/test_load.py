"""`hubclient.load` with real SavedModels, in TensorFlow 2's format and in TensorFlow 1's with several variants."""

from __future__ import annotations

import gc
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import hubclient
from tests.support.handmade_cache import HandmadeCache, is_leased

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

HANDLE = "https://example.org/m/1"
TF1_MARK = b"\x08\x03"


def files_of(directory: Path) -> Mapping[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def tf2_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Doubles its input with a variable, and looks words up in a file of its own."""
    directory = tmp_path_factory.mktemp("tf2")
    vocabulary = directory / "vocabulary.txt"
    vocabulary.write_text("zero\none\ntwo\n")
    module = tf.Module()
    module.factor = tf.Variable(2.0)
    initializer = tf.lookup.TextFileInitializer(
        str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    module.index = tf.function(module.table.lookup, input_signature=[tf.TensorSpec([None], tf.string)])
    module.__call__ = tf.function(lambda x: module.factor * x, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(directory / "saved"), signatures=module.__call__)
    return directory / "saved"


@pytest.fixture(scope="module")
def tf1_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Multiplies by 2 for inference, by 20 in the variant with the tag "train"."""
    directory = tmp_path_factory.mktemp("tf1") / "saved"
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(directory))
    for number, tags in enumerate(([], ["train"])):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            variable = v1.get_variable("factor", initializer=2.0, use_resource=True)
            y = x * variable * (10.0 if tags else 1.0)
            session.run(v1.global_variables_initializer())
            signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            if number == 0:
                builder.add_meta_graph_and_variables(session, tags, signature_def_map={"default": signature})
            else:
                builder.add_meta_graph(tags, signature_def_map={"default": signature})
    builder.save()
    (directory / "tfhub_module.pb").write_bytes(TF1_MARK)
    return directory


def multiplied(loaded: Any, signature: str = "default") -> list[float]:
    (output,) = loaded.signatures[signature](tf.constant([1.0, 3.0])).values()
    return list(output.numpy())


def test_load_gives_what_tensorflow_gives(tf2_module: Path, cache: HandmadeCache) -> None:
    cache.add(HANDLE, files_of(tf2_module))
    loaded, own = hubclient.load(HANDLE), tf.saved_model.load(str(tf2_module))
    assert type(loaded).__mro__[1:] == type(own).__mro__[1:]
    assert loaded(tf.constant([1.0, 3.0])).numpy().tolist() == own(tf.constant([1.0, 3.0])).numpy().tolist() == [2, 6]
    assert loaded.index(tf.constant(["two", "seven"])).numpy().tolist() == [2, -1]
    assert loaded.factor.numpy() == own.factor.numpy() == 2
    assert set(loaded.signatures) == set(own.signatures)


def test_a_directory_is_loaded_without_a_cache(tf2_module: Path) -> None:
    assert multiplied(hubclient.load(tf2_module), "serving_default") == [2, 6]


@pytest.mark.parametrize("tags", ["serve", ["serve"], {"serve"}])
def test_tags_are_text_or_a_collection(tf2_module: Path, tags: Any) -> None:
    assert multiplied(hubclient.load(tf2_module, tags=tags), "serving_default") == [2, 6]


def test_options_are_tensorflows(tf2_module: Path) -> None:
    options = tf.saved_model.LoadOptions(allow_partial_checkpoint=True)
    assert multiplied(hubclient.load(tf2_module, options=options), "serving_default") == [2, 6]
    with pytest.raises(hubclient.ModuleBroken, match=r"nowhere|device"):
        hubclient.load(tf2_module, options=tf.saved_model.LoadOptions(experimental_io_device="/nowhere:1"))


def test_of_a_tf1_module_the_variant_without_tags_is_loaded(tf1_module: Path) -> None:
    assert multiplied(hubclient.load(tf1_module)) == [2, 6]


def test_a_model_with_several_variants_and_no_tf1_mark_is_loaded_likewise(tf1_module: Path, tmp_path: Path) -> None:
    for name, data in files_of(tf1_module).items():
        if name != "tfhub_module.pb":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
    assert multiplied(hubclient.load(tmp_path)) == [2, 6]


def test_another_variant_is_loaded_when_it_is_named(tf1_module: Path) -> None:
    assert multiplied(hubclient.load(tf1_module, tags={"train"})) == [20, 60]


def test_tags_that_do_not_exist_are_told_with_those_that_do(
    tf1_module: Path, tf2_module: Path, cache: HandmadeCache
) -> None:
    digest = cache.add(HANDLE, files_of(tf1_module))
    with pytest.raises(hubclient.VariantNotFound, match=r"\['gpu'\]; it has \{\}, \{'train'\}"):
        hubclient.load(HANDLE, tags=["gpu"])
    assert not is_leased(cache.layout, digest)
    with pytest.raises(hubclient.VariantNotFound, match=r"\[\]; it has \{'serve'\}"):
        hubclient.load(tf2_module, tags=[])


def test_a_damaged_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(hubclient.NotAModule, match=r"saved_model\.pb"):
        hubclient.load(tmp_path)


@pytest.mark.parametrize("kind", ["tf2", "tf1"])
def test_the_lease_lives_as_long_as_the_object(
    tf2_module: Path, tf1_module: Path, cache: HandmadeCache, kind: str
) -> None:
    digest = cache.add(HANDLE, files_of(tf2_module if kind == "tf2" else tf1_module))
    loaded = hubclient.load(HANDLE)
    assert is_leased(cache.layout, digest)
    assert loaded is not None
    del loaded
    gc.collect()
    assert not is_leased(cache.layout, digest)


def test_a_load_that_fails_lets_go_of_the_module(tf2_module: Path, cache: HandmadeCache) -> None:
    files = {name: data for name, data in files_of(tf2_module).items() if not name.startswith("variables/")}
    digest = cache.add(HANDLE, files)
    with pytest.raises(hubclient.ModuleBroken, match="variables"):
        hubclient.load(HANDLE)
    gc.collect()
    assert not is_leased(cache.layout, digest)


def copy_of(module: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(module, tmp_path / "copy"))


@pytest.mark.parametrize("spelling", ["path", "pathlib", "file", "relative"])
def test_a_directory_is_named_by_path_or_url(tf2_module: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    monkeypatch.chdir(tf2_module.parent)
    handles: dict[str, Any] = {
        "path": str(tf2_module),
        "pathlib": tf2_module,
        "file": tf2_module.as_uri(),
        "relative": tf2_module.name,
    }
    assert multiplied(hubclient.load(handles[spelling]), "serving_default") == [2, 6]


def test_options_of_another_kind_are_refused(tf2_module: Path) -> None:
    with pytest.raises(hubclient.InputInvalid, match=r"LoadOptions, not a dict"):
        hubclient.load(tf2_module, options={})


@pytest.mark.parametrize("kind", ["tf2", "tf1"])
@pytest.mark.parametrize("damage", ["index cut", "index gone", "data cut", "data flipped", "data gone"])
def test_a_damaged_checkpoint_is_told(
    tf2_module: Path, tf1_module: Path, tmp_path: Path, kind: str, damage: str
) -> None:
    module = copy_of(tf2_module if kind == "tf2" else tf1_module, tmp_path)
    which, how = damage.split()
    (file,) = (module / "variables").glob("*.index" if which == "index" else "*.data-*")
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        file.write_bytes(bytes([data[0] ^ 0xFF]) + data[1:])
    else:
        file.unlink()
    with pytest.raises(hubclient.ModuleBroken, match=r"variables|[Cc]hecksum|Read less|sstable|truncated"):
        hubclient.load(module)


def test_a_missing_asset_is_told(tf2_module: Path, tmp_path: Path) -> None:
    module = copy_of(tf2_module, tmp_path)
    (module / "assets" / "vocabulary.txt").unlink()
    with pytest.raises(hubclient.ModuleBroken, match=r"vocabulary\.txt"):
        hubclient.load(module)


def test_a_missing_asset_that_no_table_reads_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("read by whoever wants to")
    module = tf.Module()
    module.notes = tf.saved_model.Asset(str(tmp_path / "notes.txt"))
    tf.saved_model.save(module, str(tmp_path / "m"))
    (tmp_path / "m" / "assets" / "notes.txt").unlink()
    with pytest.raises(hubclient.ModuleBroken, match=r"asset notes\.txt is missing"):
        hubclient.load(tmp_path / "m")


@pytest.mark.parametrize("kind", ["tf2", "tf1"])
def test_a_graph_that_does_not_fit_together_is_told(
    tf2_module: Path, tf1_module: Path, tmp_path: Path, kind: str
) -> None:
    module = copy_of(tf2_module if kind == "tf2" else tf1_module, tmp_path)
    saved = saved_model_of(module)
    for graph in saved.meta_graphs:
        del graph.graph_def.node[: len(graph.graph_def.node) // 2]
        del graph.graph_def.library.function[: len(graph.graph_def.library.function) // 2]
    (module / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(hubclient.ModuleBroken, match="cannot be loaded"):
        hubclient.load(module)


@pytest.mark.parametrize("kind", ["tf2", "tf1"])
def test_flipped_bytes_end_in_an_error_of_hubclients_or_do_no_harm(
    tf2_module: Path, tf1_module: Path, tmp_path: Path, kind: str
) -> None:
    module = copy_of(tf2_module if kind == "tf2" else tf1_module, tmp_path)
    whole = (module / "saved_model.pb").read_bytes()
    chance = random.Random(1)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (module / "saved_model.pb").write_bytes(data)
        try:
            hubclient.load(module)
        except hubclient.HubError:
            refused += 1
    assert refused > 10


def test_an_operation_that_this_tensorflow_lacks_is_told(tf1_module: Path, tmp_path: Path) -> None:
    module = copy_of(tf1_module, tmp_path)
    saved = saved_model_of(module)
    for graph in saved.meta_graphs:
        for node in graph.graph_def.node:
            node.op = "OpOfTomorrow" if node.op == "Mul" else node.op
    (module / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(hubclient.ModuleUnsupported, match="OpOfTomorrow"):
        hubclient.load(module)


def test_a_tf1_module_is_marked_for_the_keras_layer_of_tensorflow_hub(tf1_module: Path, tf2_module: Path) -> None:
    assert hubclient.load(tf1_module)._is_hub_module_v1 is True
    assert hubclient.load(tf2_module)._is_hub_module_v1 is False


@pytest.mark.parametrize("tags", [None, "train"])
def test_a_variant_of_a_tf2_module_is_leased_as_long_as_it_lives(
    cache: HandmadeCache, tmp_path: Path, tags: str | None
) -> None:
    spec = tf.TensorSpec([None], tf.float32)
    path = hubclient.export(lambda x: 2 * x, tmp_path / "m", inputs=spec, variants={"train": lambda x: 20 * x})
    digest = cache.add(HANDLE, files_of(Path(path)))
    loaded = hubclient.load(HANDLE, tags=tags)
    assert is_leased(cache.layout, digest)
    assert multiplied(loaded) == ([20, 60] if tags else [2, 6])
    del loaded
    gc.collect()
    assert not is_leased(cache.layout, digest)


def test_a_variant_with_damaged_weights_is_told(tmp_path: Path) -> None:
    weight = tf.Variable(2.0)
    spec = tf.TensorSpec([None], tf.float32)
    path = hubclient.export(lambda x: weight * x, tmp_path / "m", inputs=spec, variants={"train": lambda x: -x})
    for file in (Path(path) / "variables").iterdir():
        file.unlink()
    with pytest.raises(hubclient.ModuleBroken, match="variables"):
        hubclient.load(path, tags="train")


def saved_model_of(module: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((module / "saved_model.pb").read_bytes())
