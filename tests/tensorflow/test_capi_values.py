"""Values through TensorFlow's C API and back: every dtype, strings, shapes, and whose memory they lie in."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hubclient
from hubclient.capi.inputs import Port
from hubclient.capi.library import library
from hubclient.capi.tensors import ALIGNMENT_BYTES, SHARED_FROM_BYTES, Tensors

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

NUMBERS = [
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "complex64", "complex128", "bool", "float8_e5m2", "float8_e4m3fn", "int4", "uint4",
]  # fmt: skip
LARGE = SHARED_FROM_BYTES // 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that gives back what it gets, in several ways."""
    module = tf.Module()
    module.kept = tf.Variable(tf.zeros([LARGE]))
    module.kept_text = tf.Variable([b""], shape=[None])

    def signature(function: Any, *specs: Any) -> Any:
        return tf.function(function).get_concrete_function(*specs)

    def keep(x: Any) -> dict[str, Any]:
        before = module.kept.read_value()
        module.kept.assign(x)
        return {"before": before, "now": module.kept.read_value()}

    def keep_text(x: Any) -> dict[str, Any]:
        before = module.kept_text.read_value()
        module.kept_text.assign(x)
        return {"before": before}

    any_shape = {
        dtype: signature(lambda x: {"y": tf.identity(x)}, tf.TensorSpec(None, dtype, "x"))
        for dtype in [*NUMBERS, "string"]
    }
    signatures = {
        **any_shape,
        "double": signature(lambda x: {"y": x * 2.0}, tf.TensorSpec(None, tf.float32, "x")),
        "twice": signature(lambda x: {"a": tf.identity(x), "b": x * 1.0}, tf.TensorSpec([None], tf.float32, "x")),
        "keep": signature(keep, tf.TensorSpec([LARGE], tf.float32, "x")),
        "keep_text": signature(keep_text, tf.TensorSpec([None], tf.string, "x")),
        "constant": signature(lambda: {"y": tf.ones([LARGE])}),
    }
    directory = tmp_path_factory.mktemp("values") / "saved"
    tf.saved_model.save(module, str(directory), signatures=signatures)
    return directory


@pytest.fixture(scope="module")
def runners(path: Path) -> Iterator[hubclient.Signatures]:
    with hubclient.signatures(path) as opened:
        yield opened


def aligned(size: int) -> Any:
    """Zeros of float32 at an address that TensorFlow takes as it is."""
    memory = np.zeros(size * 4 + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + size * 4].view(np.float32)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3, 4), (1, 1, 1, 1, 1, 1, 2)])
def test_numbers_of_every_dtype_and_shape_go_through_unchanged(
    runners: hubclient.Signatures, dtype: str, shape: tuple[int, ...]
) -> None:
    wanted = tf.as_dtype(dtype).as_numpy_dtype
    given = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 7, shape)
    array = np.asarray(given).astype(wanted)
    result = runners[dtype](array)["y"]
    assert (result.dtype, result.shape, result.tobytes()) == (array.dtype, shape, array.tobytes())


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 65504.0])
def test_special_floats_keep_their_bits(runners: hubclient.Signatures, value: float) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        array = np.array([value], dtype)
        assert runners[np.dtype(dtype).name](array)["y"].tobytes() == array.tobytes()


def test_python_numbers_become_small_floats(runners: hubclient.Signatures) -> None:
    assert runners["bfloat16"]([1, 2.5])["y"].astype(float).tolist() == [1, 2.5]
    assert runners["int4"]([-8, 7])["y"].astype(int).tolist() == [-8, 7]
    with pytest.raises(hubclient.InputInvalid, match="8 does not fit"):
        runners["int4"](8)


TEXTS = [b"", b"a", b"x" * 22, b"x" * 23, b"\xff\xfe not UTF-8", b"nul\0 in \0 it\0", b"long " * 20_000]


@pytest.mark.parametrize("shape", [(7,), (7, 1), (1, 7, 1)])
def test_strings_go_through_unchanged(runners: hubclient.Signatures, shape: tuple[int, ...]) -> None:
    array = np.array(TEXTS, dtype=object).reshape(shape)
    result = runners["string"](array)["y"]
    assert result.dtype == object
    assert result.shape == shape
    assert result.ravel().tolist() == TEXTS


def test_a_string_alone_and_no_strings(runners: hubclient.Signatures) -> None:
    assert runners["string"]("é" * 50)["y"].shape == ()
    assert runners["string"]("é" * 50)["y"][()] == ("é" * 50).encode()
    assert runners["string"]([])["y"].shape == (0,)
    assert runners["string"](np.empty((2, 0), object))["y"].shape == (2, 0)


@pytest.mark.parametrize("order", ["strided", "fortran", "unaligned", "read-only", "reversed"])
@pytest.mark.parametrize("size", [4, 300])
def test_arrays_of_any_layout_are_read_right(runners: hubclient.Signatures, order: str, size: int) -> None:
    array = np.arange(size * size, dtype=np.float32).reshape(size, size)
    if order == "strided":
        array = np.repeat(array, 2, axis=1)[:, ::2]
    elif order == "fortran":
        array = np.asfortranarray(array)
    elif order == "unaligned":
        array = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(size, size)
    elif order == "reversed":
        array = array[::-1]
    else:
        array.flags.writeable = False
    np.testing.assert_array_equal(runners["double"](array)["y"], np.array(array) * 2)


def test_outputs_belong_to_the_caller(runners: hubclient.Signatures) -> None:
    for size in (3, LARGE, 2 * LARGE + 1):
        given = aligned(size)
        results = runners["twice"](given)
        for result in results.values():
            assert result.flags.writeable
            assert not np.shares_memory(result, given)
        results["a"][:] = 5
        assert not given.any()
        assert not results["b"].any()


def test_writing_to_an_output_does_not_change_the_module(runners: hubclient.Signatures) -> None:
    runners["constant"]()["y"][:] = 7
    assert (runners["constant"]()["y"] == 1).all()
    runners["keep"](np.ones(LARGE, np.float32))["now"][:] = 7
    assert (runners["keep"](np.ones(LARGE, np.float32))["before"] == 1).all()


def test_an_output_outlives_the_module(path: Path) -> None:
    with hubclient.signatures(path, names=["double"]) as opened:
        result = opened["double"](np.ones(4 * LARGE, np.float32))["y"]
        part = result[5:10]
    del opened, result
    gc.collect()
    assert part.tolist() == [2] * 5


def test_a_large_aligned_input_is_not_copied(path: Path) -> None:
    opened = library()
    tensors, port = Tensors(opened), Port("x", 1, np.dtype(np.float32), None)
    array = aligned(LARGE)
    tensor = tensors.from_array(array, port)
    assert opened.TF_TensorData(tensor) == array.ctypes.data
    gone = weakref.ref(array.base)
    del array
    assert gone() is not None
    opened.TF_DeleteTensor(tensor)
    assert gone() is None


def test_an_input_is_let_go_after_the_call(runners: hubclient.Signatures) -> None:
    array = aligned(LARGE)
    gone = weakref.ref(array.base)
    runners["double"](array)
    del array
    assert gone() is None


def test_what_the_module_keeps_of_an_input_stays_valid(path: Path) -> None:
    with hubclient.signatures(path, names=["keep", "keep_text"]) as opened:
        for number in range(20):
            array = aligned(LARGE)
            array[:] = number
            before = opened["keep"](array)["before"]
            assert number == 0 or (before == number - 1).all()
            del array
            gc.collect()
            text = opened["keep_text"]([b"long text " * 10 * number, b"short"])["before"]
            assert number == 0 or text.tolist() == [b"long text " * 10 * (number - 1), b"short"]


def test_calls_leave_no_memory_behind(runners: hubclient.Signatures) -> None:
    large, words = aligned(64 * LARGE), [b"w" * 1000] * 1000

    def resident_bytes() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def calls(number: int) -> None:
        for _ in range(number):
            runners["double"](large)
            runners["string"](words)
            with pytest.raises(hubclient.InputInvalid):
                runners["double"](np.zeros(3))

    calls(10)
    before = resident_bytes()
    calls(60)  # 60 x (4 MB + 1 MB) of inputs and as much of outputs
    assert resident_bytes() - before < 60 << 20
