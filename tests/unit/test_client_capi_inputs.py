"""What a caller gives for an input becomes the expected array unchanged, or is refused with both sides named."""

from __future__ import annotations

import re
from typing import Any

import pytest

np: Any = pytest.importorskip("numpy")

from hubclient.capi.inputs import Port, Shape, as_array  # noqa: E402
from hubclient.model_errors import InputInvalid  # noqa: E402

FLOAT32, INT32, UINT8, STRING, COMPLEX64, INT64, BOOL, FLOAT16 = 1, 3, 4, 7, 8, 9, 10, 19
NUMPY = {1: "f4", 3: "i4", 4: "u1", 7: "O", 8: "c8", 9: "i8", 10: "?", 19: "f2"}


def port(dtype: int, shape: Shape = None) -> Port:
    return Port("input 'x'", dtype, np.dtype(NUMPY[dtype]), shape)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (FLOAT32, 1, 1.0),
        (FLOAT32, [1, 2.5], [1.0, 2.5]),
        (FLOAT32, [[True], [2]], None),
        (FLOAT16, 0.5, 0.5),
        (INT32, 7, 7),
        (INT32, [], []),
        (INT64, -(2**63), -(2**63)),
        (UINT8, [0, 255], [0, 255]),
        (COMPLEX64, [1, 2j], [1, 2j]),
        (BOOL, [True, False], [True, False]),
        (STRING, "é", "é".encode()),
        (STRING, [b"nul at the end\0", "\0"], [b"nul at the end\0", b"\0"]),
        (STRING, bytearray(b"ab"), b"ab"),
        (STRING, memoryview(b"ab"), b"ab"),
        (STRING, np.bytes_(b"nul\0"), b"nul\0"),
        (STRING, np.str_("nul\0"), b"nul\0"),
        (STRING, [[b"\xff"], [b""]], [[b"\xff"], [b""]]),
        (STRING, [], []),
    ],
)
def test_pythons_values_become_the_expected_dtype_if_they_fit(dtype: int, value: Any, expected: Any) -> None:
    array = as_array(value, port(dtype))
    assert array.dtype == NUMPY[dtype]
    if expected is not None:
        assert array.tolist() == expected
        assert array.shape == np.shape(expected)


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        (INT32, 1.5, "must be int32 of any shape, and not float64"),
        (INT32, 2**40, "1099511627776 does not fit"),
        (INT64, 2**64, "int64"),
        (INT64, 2**63, "does not fit"),
        (UINT8, [3, -1], "a number of -1 to 3 does not fit"),
        (UINT8, 256, "256 does not fit"),
        (FLOAT32, 1j, "and not complex128"),
        (FLOAT32, "1.0", "and not text"),
        (FLOAT32, [None], "and not a Python NoneType"),
        (INT64, 2**80, "and not an integer of more than 64 bits"),
        (FLOAT32, [[1], [1, 2]], "float32"),
        (BOOL, 1, "must be bool"),
        (INT32, True, "and not bool"),
        (STRING, 1, "must be string"),
        (STRING, ["a", 1], "int among the strings"),
        (STRING, "\ud800", "surrogates"),
    ],
)
def test_what_does_not_fit_is_refused(dtype: int, value: Any, message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        as_array(value, port(dtype))


def test_an_array_keeps_its_dtype_or_is_refused_with_both_named() -> None:
    with pytest.raises(InputInvalid, match=r"input 'x' must be float32 of shape \(any, 2\), and not float64"):
        as_array(np.zeros((1, 2)), port(FLOAT32, (None, 2)))
    with pytest.raises(InputInvalid, match="and not int32"):
        as_array(np.int32(1), port(FLOAT32))
    with pytest.raises(InputInvalid, match="and not float32"):
        as_array(np.zeros(2, "f4"), port(STRING))


def test_an_array_that_fits_is_taken_as_it_is() -> None:
    array = np.zeros((3, 2), "f4").T
    assert as_array(array, port(FLOAT32, (2, None))) is array


def test_the_other_byte_order_is_the_same_dtype() -> None:
    assert as_array(np.array([1, 2], ">i4"), port(INT32)).tolist() == [1, 2]


def test_numpys_own_strings_become_bytes() -> None:
    assert as_array(np.array([["a", "é"]]), port(STRING)).tolist() == [[b"a", "é".encode()]]
    assert as_array(np.array([b"ab", b"c"]), port(STRING)).tolist() == [b"ab", b"c"]
    if hasattr(np.dtypes, "StringDType"):  # numpy 2
        assert as_array(np.array(["a", "é"], np.dtypes.StringDType()), port(STRING)).tolist() == [b"a", "é".encode()]


def test_a_scalar_stays_without_dimensions() -> None:
    assert as_array(np.array(1.0, "f4"), port(FLOAT32, ())).shape == ()
    assert as_array(b"text", port(STRING, ())).shape == ()


@pytest.mark.parametrize(
    ("shape", "given"), [((), (1,)), ((2,), (3,)), ((None, 2), (2,)), ((None, 2), (1, 3)), ((0,), (1,))]
)
def test_a_wrong_shape_is_told_with_the_right_one(shape: Shape, given: tuple[int, ...]) -> None:
    with pytest.raises(InputInvalid, match=r"input 'x' must be of shape \(.*not " + re.escape(str(given))):
        as_array(np.zeros(given, "f4"), port(FLOAT32, shape))


def test_sizes_that_are_unknown_take_any() -> None:
    assert as_array(np.zeros((5, 2), "f4"), port(FLOAT32, (None, 2))).shape == (5, 2)
    assert as_array(np.zeros((0, 2), "f4"), port(FLOAT32, (None, 2))).shape == (0, 2)
    assert as_array(np.zeros((1, 1, 1), "f4"), port(FLOAT32, None)).shape == (1, 1, 1)
