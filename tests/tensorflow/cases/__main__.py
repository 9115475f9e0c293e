"""``python -m tests.tensorflow.cases LIBRARY MODULES [FILE...]``: every case of all files, or of these, once.

MODULES is the directory of the modules.

Prints one line of JSON: for each case what it gave, ``{"result": ...}``, or how it failed, ``{"failed": traceback}``.
Runs where tensorflow_hub is installed and hubclient is not, and the other way round.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from typing import Any

import numpy
import tensorflow as tf

from tests.support.building import Modules
from tests.tensorflow.cases import exported, keras_layers, loading

CASES = {
    f"{file.__name__.rpartition('.')[2]}.{name}": case
    for file in (loading, keras_layers, exported)
    for name, case in vars(file).items()
    if name.startswith("case_")
}


def _encode(value: Any) -> Any:
    """JSON for what the cases give; arrays with their dtype and shape."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, dict):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, tf.SparseTensor):
        return {"sparse": [_encode(part) for part in (value.indices, value.values, value.dense_shape)]}
    if isinstance(value, tf.RaggedTensor):
        return {"ragged": value.to_list()}
    array = numpy.asarray(value)
    values = array.astype("float32") if array.dtype.name == "bfloat16" else array
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": _encode(values.reshape(-1).tolist())}


def main(library: str, modules: str, *files: str) -> None:
    hub = importlib.import_module(library)
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        if files and name.partition(".")[0] not in files:
            continue
        try:
            results[name] = {"result": _encode(case(hub, Modules(modules)))}
        except Exception:
            results[name] = {"failed": traceback.format_exc()}
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
