"""Operations that would tie a module to the process that made it.

Law: only the list of operation names that TensorFlow stores beside each graph is read, never the graph.
"""

from __future__ import annotations

import os

from hubclient.contract.windowed import Message
from hubclient.model_errors import ExportInvalid

#: They name a Python function in a table of this process (tensorflow/python/ops/script_ops.py).
PYTHON = frozenset(("EagerPyFunc", "PyFunc", "PyFuncStateless"))
# saved_model.proto, meta_graph.proto, op_def.proto: meta_graphs, meta_info_def, stripped_op_list, op, name
_WAY = (2, 1, 2, 1, 1)


def refuse_python(directory: str) -> None:
    """Raise `ExportInvalid` if the SavedModel in the directory calls Python."""
    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        message = Message(file.fileno(), size_bytes)
        spans = [(0, size_bytes)]
        for wanted in _WAY:
            spans = [below for span in spans for number, below in message.fields(span) if number == wanted]
        names = {message.text(span) for span in spans}
    if found := sorted(names & PYTHON):
        raise ExportInvalid(
            f"the object calls Python while it runs (tf.py_function or tf.numpy_function: {', '.join(found)}), and "
            "whoever loads the module has no such Python: use TensorFlow's operations alone"
        )
