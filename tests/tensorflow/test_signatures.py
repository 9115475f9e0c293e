"""The public face of `hubclient.signatures`: names, inputs, errors, closing, leases and threads."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient
from tests.support.building import Modules
from tests.support.handmade_cache import HandmadeCache, is_leased

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

HANDLE = "https://example.org/m/1"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = 2 x``, ``sum = a + b``, a signature without inputs, one that fails, one that is slow."""
    module = tf.Module()
    module.factor = tf.Variable(2.0)

    def wait(steps: Any) -> dict[str, Any]:
        return {"steps": tf.while_loop(lambda n: n < steps, lambda n: [n + 1], [tf.constant(0)])[0]}

    def fail(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, "only positive numbers, please")]):
            return {"y": tf.identity(x)}

    def signature(function: Any, **specs: Any) -> Any:
        return tf.function(function).get_concrete_function(**specs)

    number, rows = tf.TensorSpec([], tf.float32), tf.TensorSpec([None, 2], tf.float32)
    signatures = {
        "serving_default": signature(lambda x: {"y": module.factor * x}, x=rows),
        "add": signature(lambda a, b: {"sum": a + b}, a=number, b=number),
        "nothing": signature(lambda: {"factor": module.factor.read_value()}),
        "fail": signature(fail, x=number),
        "wait": signature(wait, steps=tf.TensorSpec([], tf.int32)),
    }
    directory = tmp_path_factory.mktemp("runners") / "saved"
    tf.saved_model.save(module, str(directory), signatures=signatures)
    return directory


@pytest.fixture(scope="module")
def runners(path: Path) -> Iterator[hubclient.Signatures]:
    with hubclient.signatures(path) as opened:
        yield opened


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_signatures_are_a_mapping_of_name_to_runner(runners: hubclient.Signatures, path: Path) -> None:
    assert sorted(runners) == ["add", "fail", "nothing", "serving_default", "wait"]
    assert len(runners) == 5
    assert (runners.tags, runners.path) == (("serve",), str(path))
    assert "missing" not in runners
    assert runners.get("missing") is None
    with pytest.raises(hubclient.SignatureNotFound, match=r"'missing'.*'add', 'fail'.*'wait'$"):
        runners["missing"]


def test_a_runner_tells_what_it_takes_and_gives(runners: hubclient.Signatures) -> None:
    runner = runners["serving_default"]
    assert runner.name == "serving_default"
    assert {key: (spec.dtype, spec.shape) for key, spec in runner.inputs.items()} == {"x": ("float32", (None, 2))}
    assert {key: (spec.dtype, spec.shape) for key, spec in runner.outputs.items()} == {"y": ("float32", (None, 2))}
    assert repr(runner) == "serving_default(x: float32[?, 2]) -> {y: float32[?, 2]}"
    assert repr(runners).splitlines()[1:] == [f"  {runners[name]!r}" for name in runners]
    assert str(runners.path) in repr(runners)


def test_inputs_come_by_keyword_by_mapping_or_alone(runners: hubclient.Signatures) -> None:
    assert runners["add"](a=1, b=2.5)["sum"] == 3.5
    assert runners["add"]({"a": 1, "b": 2.5})["sum"] == 3.5
    assert runners["serving_default"]([[1, 2]])["y"].tolist() == [[2, 4]]
    assert runners["serving_default"](x=[[1, 2]])["y"].tolist() == [[2, 4]]
    assert runners["nothing"]()["factor"] == 2


def test_wrong_names_of_inputs_are_told_with_the_right_ones(runners: hubclient.Signatures) -> None:
    with pytest.raises(
        hubclient.InputInvalid, match=r"takes a: float32 .*, b: float32 .*; missing 'a'.*unexpected 'c'"
    ):
        runners["add"](b=1, c=2)
    with pytest.raises(hubclient.InputInvalid, match=r"'add' takes its inputs as keywords.*a: float32\[\]"):
        runners["add"](1.0)
    with pytest.raises(hubclient.InputInvalid, match="keywords"):
        runners["add"](1.0, 2.0)
    with pytest.raises(hubclient.InputInvalid, match="no inputs; unexpected 'x'"):
        runners["nothing"](x=1)
    with pytest.raises(hubclient.InputInvalid, match="keywords"):
        runners["serving_default"]([[1, 2]], x=1)


def test_wrong_dtypes_and_shapes_are_told_with_the_right_ones(runners: hubclient.Signatures) -> None:
    with pytest.raises(hubclient.InputInvalid, match=r"input 'x' must be float32 of shape \(any, 2\), and not float64"):
        runners["serving_default"](np.zeros((1, 2)))
    with pytest.raises(hubclient.InputInvalid, match=r"input 'x' must be of shape \(any, 2\), not \(1, 3\)"):
        runners["serving_default"]([[1, 2, 3]])
    assert issubclass(hubclient.InputInvalid, ValueError)


def test_a_sparse_input_is_three_arrays_or_what_has_them(modules: Modules) -> None:
    indices, values, dense_shape = np.array([[0, 1], [1, 0]]), np.ones(2, np.float32), [2, 3]
    with hubclient.signatures(modules("tf1/sparse")) as found:
        runner = found["scaled"]
        assert repr(runner) == "scaled(default: sparse float32[?, 3]) -> {default: sparse float32[?, ?]}"
        result = runner((indices, values, dense_shape))["default"]
        assert result.indices.tolist() == indices.tolist()
        assert result.dense_shape.tolist() == dense_shape
        assert result.values.shape == (2,)
        for same in (tf.SparseTensor(indices, values, dense_shape), result._replace(values=values)):
            assert runner(same)["default"].values.tolist() == result.values.tolist()
        for wrong in (indices, (indices, values), 1.0):
            with pytest.raises(hubclient.InputInvalid, match=r"tuple \(indices, values, dense_shape\)"):
                runner(wrong)
        with pytest.raises(hubclient.InputInvalid, match=r"the values of input 'default' must be float32.*float64"):
            runner((indices, np.ones(2), dense_shape))
        with pytest.raises(hubclient.InputInvalid, match=r"the indices of input 'default' .*\(any, 2\), not \(2, 1\)"):
            runner((indices[:, :1], values, dense_shape))
        with pytest.raises(hubclient.RunFailed):  # TensorFlow itself looks at the numbers
            found["default"](([[7, 7], [9, 9]], values, dense_shape))


def test_a_run_that_fails_tells_tensorflows_words_and_harms_nothing(runners: hubclient.Signatures) -> None:
    for _ in range(3):
        with pytest.raises(hubclient.RunFailed, match=r"'fail' failed.*only positive numbers, please"):
            runners["fail"](-1)
        assert runners["fail"](2)["y"] == 2


def test_only_the_named_signatures_are_loaded(path: Path) -> None:
    with hubclient.signatures(path, names=["add"]) as found:
        assert list(found) == ["add"]
        assert found["add"](a=1, b=1)["sum"] == 2
    with pytest.raises(hubclient.SignatureNotFound, match=r"missing.*'serving_default'"):
        hubclient.signatures(path, names=["missing"])
    with hubclient.signatures(path, names="add") as found:
        assert list(found) == ["add"]


def test_tags_choose_the_variant(modules: Modules) -> None:
    module = modules("tf1/variants")
    with hubclient.signatures(module) as inference, hubclient.signatures(module, tags={"train"}) as training:
        assert (inference.tags, training.tags) == ((), ("train",))
    with pytest.raises(hubclient.VariantNotFound, match=r"\['gpu'\].*'train'"):
        hubclient.signatures(module, tags=["gpu"])


@pytest.mark.parametrize("tags", [5, b"serve", [None], ["serve", 1]], ids=str)
def test_tags_that_are_no_strings_are_refused(path: Path, tags: Any) -> None:
    with pytest.raises(hubclient.InputInvalid, match="tags must be"):
        hubclient.signatures(path, tags)


@pytest.mark.parametrize(
    "settings",
    [
        {"intra_op_threads": 1},
        {"inter_op_threads": 2},
        {"intra_op_threads": 2, "inter_op_threads": 0},
        {"device": "cpu"},
        {"gpu_memory_growth": False},
    ],
    ids=str,
)
def test_settings_are_understood_by_tensorflow(path: Path, settings: Any) -> None:
    with hubclient.signatures(path, **settings) as found:
        assert found["serving_default"]([[1, 2]])["y"].tolist() == [[2, 4]]


@pytest.mark.parametrize(
    "settings",
    [{"intra_op_threads": -1}, {"intra_op_threads": 1 << 31}, {"inter_op_threads": -2}, {"inter_op_threads": "2"}],
    ids=str,
)
def test_numbers_of_threads_that_would_end_the_process_are_refused(path: Path, settings: Any) -> None:
    with pytest.raises(hubclient.InputInvalid, match=rf"{next(iter(settings))} must be an integer"):
        hubclient.signatures(path, **settings)


def test_an_unknown_device_is_refused(path: Path) -> None:
    with pytest.raises(hubclient.InputInvalid, match="'tpu'"):
        hubclient.signatures(path, device="tpu")  # type: ignore[arg-type]  # that is the mistake


def test_after_close_a_call_is_an_error(path: Path) -> None:
    found = hubclient.signatures(path)
    runner = found["serving_default"]
    with found:
        runner([[1, 2]])
    with pytest.raises(hubclient.Closed, match="serving_default"):
        runner([[1, 2]])
    with pytest.raises(hubclient.Closed), found:
        pass
    assert "closed" in repr(found)
    found.close()


def test_a_runner_keeps_the_model_alive(path: Path) -> None:
    runner = hubclient.signatures(path)["serving_default"]
    gc.collect()
    assert runner([[1, 2]])["y"].tolist() == [[2, 4]]


def test_a_call_under_way_ends_well_although_the_module_is_closed(path: Path) -> None:
    def close_during_a_call() -> int | None:
        found, started = hubclient.signatures(path, names=["wait"]), threading.Event()
        runner = found["wait"]

        def call() -> int:
            started.set()
            return int(runner(20_000)["steps"])

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(call)
            assert started.wait(30)
            found.close()
            with suppress(hubclient.Closed):  # it was closed before the call looked
                return running.result(60)
        return None

    answers = [close_during_a_call() for _ in range(5)]
    assert 20_000 in answers
    assert set(answers) <= {20_000, None}


def test_many_threads_get_their_own_answers(runners: hubclient.Signatures) -> None:
    def call(number: int) -> bool:
        for step in range(50):
            array = np.full((1 + step * 1000, 2), number, np.float32)
            if not (runners["serving_default"](array)["y"] == 2 * number).all():
                return False
            if runners["add"](a=number, b=step)["sum"] != number + step:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(16)))


def test_other_threads_go_on_during_a_call(runners: hubclient.Signatures) -> None:
    finished = threading.Event()
    counted = 0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runners["wait"], 60_000)
        running.add_done_callback(lambda _: finished.set())
        while not finished.is_set():
            counted += 1
    assert running.result()["steps"] == 60_000
    assert counted > 1000


@pytest.mark.parametrize("end", ["close", "collect"])
def test_the_lease_lives_as_long_as_the_signatures(path: Path, cache: HandmadeCache, end: str) -> None:
    digest = cache.add(HANDLE, files_of(path))
    found = hubclient.signatures(HANDLE)
    runner = found["serving_default"]
    assert is_leased(cache.layout, digest)
    if end == "close":
        found.close()
    else:
        del found
        gc.collect()
        assert is_leased(cache.layout, digest)
        del runner
    gc.collect()
    assert not is_leased(cache.layout, digest)


def test_a_load_that_fails_lets_go_of_the_module(path: Path, cache: HandmadeCache) -> None:
    files = {name: data for name, data in files_of(path).items() if not name.endswith(".index")}
    digest = cache.add(HANDLE, files)
    with pytest.raises(hubclient.ModuleBroken, match=r"variables\.index"):
        hubclient.signatures(HANDLE)
    gc.collect()
    assert not is_leased(cache.layout, digest)


def test_a_module_that_is_gone_goes_on_answering(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    with hubclient.signatures(copy) as found:
        shutil.rmtree(copy)
        assert found["serving_default"]([[1, 2]])["y"].tolist() == [[2, 4]]


def test_ragged_and_sparse_outputs_are_their_components(tmp_path: Path) -> None:
    module = tf.Module()

    def rows(values: Any) -> dict[str, Any]:
        return {"ragged": tf.RaggedTensor.from_row_splits(values, [0, 2, 3]), "sparse": tf.sparse.from_dense([values])}

    module.rows = tf.function(rows, input_signature=[tf.TensorSpec([3], tf.float32, "values")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"rows": module.rows})
    with hubclient.signatures(tmp_path / "m") as found:
        assert found["rows"].outputs["ragged"].encoding == "composite"
        outputs = found["rows"]([1.0, 0.0, 3.0])
    values, row_splits = outputs["ragged"]
    assert (values.tolist(), row_splits.tolist()) == ([1, 0, 3], [0, 2, 3])
    assert outputs["sparse"].indices.tolist() == [[0, 0], [0, 2]]
    assert outputs["sparse"].values.tolist() == [1, 3]
    assert outputs["sparse"].dense_shape.tolist() == [1, 3]


def test_an_operation_for_a_device_that_is_not_there_runs_on_another(tmp_path: Path) -> None:
    module = tf.Module()

    def placed(x: Any) -> dict[str, Any]:
        with tf.device("/GPU:7"):
            return {"y": x * 2}

    module.placed = tf.function(placed, input_signature=[tf.TensorSpec([], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"placed": module.placed})
    with hubclient.signatures(tmp_path / "m") as found:
        assert found["placed"](2.0)["y"] == 4
