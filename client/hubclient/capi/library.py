"""The C library of the installed tensorflow wheel, opened by ctypes.

Law: it is opened once in a process and never closed. Python's `tensorflow` is not imported for it, and may be imported
before or after: both then use the same library.

`RTLD_LOCAL`, because TensorFlow brings a BoringSSL whose symbols would shadow OpenSSL's for the next ``import ssl``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from _thread import allocate_lock
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

from hubclient.model_errors import Forked, TensorFlowUnusable
from hubclient.opening import tensorflow_missing

#: what is frozen in TensorFlow 2: the size of a TF_TString (tensorflow/core/platform/ctstring_internal.h)
TSTRING_BYTES = 24

_FILES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_QUIET = "2"  # errors alone
_SOME_ANCESTOR = -1  # no process has this id


class Output(ctypes.Structure):
    """TF_Output: an operation, and which of its outputs."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


#: called with the data, its length and the argument that TF_NewTensor was given, by whichever thread lets go last
Deallocator = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)

_Function = tuple[Any, tuple[Any, ...]]
_OUTPUTS, _TENSORS, _TEXT = POINTER(Output), POINTER(c_void_p), c_char_p

# They may take long, and other threads go on meanwhile: ctypes lets go of the GIL.
_SLOW: dict[str, _Function] = {
    "TF_NewGraph": (c_void_p, ()),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (c_void_p, c_void_p, _TEXT, POINTER(_TEXT), c_int, c_void_p, c_void_p, c_void_p),
    ),
    "TF_GraphImportGraphDef": (None, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "TF_NewSession": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "TF_SessionRun": (
        None,
        (c_void_p, c_void_p, _OUTPUTS, _TENSORS, c_int, _OUTPUTS, _TENSORS, c_int, _TENSORS, c_int, c_void_p, c_void_p),
    ),
    "TF_CloseSession": (None, (c_void_p, c_void_p)),
    "TF_DeleteSession": (None, (c_void_p, c_void_p)),
    "TF_DeleteGraph": (None, (c_void_p,)),
    "TF_LoadLibrary": (c_void_p, (_TEXT, c_void_p)),
}

# They take a microsecond at most: letting go of the GIL would cost more, and much more with several threads.
_QUICK: dict[str, _Function] = {
    "TF_Version": (_TEXT, ()),
    "TF_DataTypeSize": (c_size_t, (c_int,)),
    "TF_NewStatus": (c_void_p, ()),
    "TF_DeleteStatus": (None, (c_void_p,)),
    "TF_GetCode": (c_int, (c_void_p,)),
    "TF_Message": (_TEXT, (c_void_p,)),
    "TF_NewBuffer": (c_void_p, ()),
    "TF_NewBufferFromString": (c_void_p, (_TEXT, c_size_t)),
    "TF_DeleteBuffer": (None, (c_void_p,)),
    "TF_NewImportGraphDefOptions": (c_void_p, ()),
    "TF_DeleteImportGraphDefOptions": (None, (c_void_p,)),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, _TEXT)),
    "TF_GraphNextOperation": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "TF_OperationName": (_TEXT, (c_void_p,)),
    "TF_OperationOpType": (_TEXT, (c_void_p,)),
    "TF_OperationNumOutputs": (c_int, (c_void_p,)),
    "TF_OperationOutputType": (c_int, (Output,)),
    "TF_NewOperation": (c_void_p, (c_void_p, _TEXT, _TEXT)),
    "TF_AddInput": (None, (c_void_p, Output)),
    "TF_SetAttrType": (None, (c_void_p, _TEXT, c_int)),
    "TF_SetAttrTypeList": (None, (c_void_p, _TEXT, POINTER(c_int), c_int)),
    "TF_SetAttrBool": (None, (c_void_p, _TEXT, c_bool)),
    "TF_FinishOperation": (c_void_p, (c_void_p, c_void_p)),
    "TF_NewSessionOptions": (c_void_p, ()),
    "TF_SetConfig": (None, (c_void_p, _TEXT, c_size_t, c_void_p)),
    "TF_DeleteSessionOptions": (None, (c_void_p,)),
    "TF_DeleteLibraryHandle": (None, (c_void_p,)),
    "TF_NewTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_void_p, c_size_t, Deallocator, c_void_p)),
    "TF_AllocateTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_size_t)),
    "TF_TensorMaybeMove": (c_void_p, (c_void_p,)),
    "TF_DeleteTensor": (None, (c_void_p,)),
    "TF_TensorType": (c_int, (c_void_p,)),
    "TF_TensorData": (c_void_p, (c_void_p,)),
    "TF_TensorByteSize": (c_size_t, (c_void_p,)),
    "TF_NumDims": (c_int, (c_void_p,)),
    "TF_Dim": (c_int64, (c_void_p, c_int)),
    "TF_StringCopy": (None, (c_void_p, _TEXT, c_size_t)),
    "TF_StringDealloc": (None, (c_void_p,)),
    "TF_StringGetDataPointer": (c_void_p, (c_void_p,)),
    "TF_StringGetSize": (c_size_t, (c_void_p,)),
}

# Not in c_api.h: exported for Python's tensorflow, which imports graphs with it as well.
_OPTIONAL: dict[str, _Function] = {"TF_SetRequireShapeInferenceFns": (None, (c_void_p, c_bool))}


class Library:
    """The functions of c_api.h as attributes, and what this process has done to TensorFlow's threads."""

    def __init__(self, handle: int, path: str) -> None:
        slow, quick = ctypes.CDLL(path, handle=handle), ctypes.PyDLL(path, handle=handle)
        for functions, source in ((_SLOW, slow), (_QUICK, quick), (_OPTIONAL, quick)):
            for name, (result, arguments) in functions.items():
                function = getattr(source, name, None)
                if function is None and functions is _OPTIONAL:
                    setattr(self, name, None)
                    continue
                if function is None:
                    raise TensorFlowUnusable(f"{_found(path)} lacks {name} of TensorFlow's C API")
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)
        self.path = path
        self.version: str = self.TF_Version().decode("ascii", "replace")
        if self.version.split(".")[0] != "2" or self.TF_DataTypeSize(1) != 4:
            raise TensorFlowUnusable(f"{path} is TensorFlow {self.version}: only the C API of TensorFlow 2 is known")
        #: the process that TensorFlow computes in with threads; None: only in its callers' threads so far
        self._threads_pid: int | None = None
        if _python_computes():
            self._threads_pid = os.getpid() if _has_compute_threads() else _SOME_ANCESTOR

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not there: mypy learns from it that the others are functions.
        raise AttributeError(name)

    def before_session(self, *, needs_threads: bool) -> None:
        """Take note of a session to be made. Raises `Forked` if it could never answer.

        The first session of a process, Python's or this one, starts the threads that all of them share. A forked child
        may go on if no session so far, nor Python, needed any.
        """
        self.check_fork()
        if needs_threads or _python_computes():
            self._threads_pid = os.getpid()

    def is_usable(self) -> bool:
        """Whether the threads, if TensorFlow has any, are those of this process."""
        return self._threads_pid is None or self._threads_pid == os.getpid()

    def check_fork(self) -> None:
        """Raise `Forked` where TensorFlow would wait for threads that are the parent's."""
        if not self.is_usable():
            raise Forked(
                "TensorFlow's threads were started before this process was forked and did not follow into it, so that "
                "this call would hang. Call signatures() in the child and not in its parent; or start processes with "
                "multiprocessing's 'spawn' or 'forkserver'; or make every signatures() of the parent with "
                "intra_op_threads=1 and inter_op_threads=-1, which needs no threads unless a module reads datasets or "
                "batches its calls"
            )


def library() -> Library:
    """The library, opened at the first call (0.2 s). Raises `TensorFlowMissing`, `TensorFlowUnusable`."""
    with _opening:
        if not _opened:
            _opened.append(_open(locate()))
        return _opened[0]


def locate() -> str:
    """The wheel's directory, found without importing it. Raises `TensorFlowMissing`, `TensorFlowUnusable`."""
    from importlib.util import find_spec

    try:
        spec = find_spec("tensorflow")
    except ValueError:  # something that is no package took the name in sys.modules
        spec = None
    if spec is None:
        raise tensorflow_missing("signatures()")
    directories = list(spec.submodule_search_locations or ())
    for directory in directories:
        if os.path.exists(os.path.join(directory, _FILES[-1])):
            return directory
    place = directories[0] if directories else str(spec.origin)
    raise TensorFlowUnusable(
        f"{_found(place)} has no {_FILES[-1]}, the C library that signatures() runs modules with: "
        "install a tensorflow wheel of version 2.16 or newer for Linux"
    )


# One slot: what is opened stays open, because TensorFlow cannot be unloaded.
_opened: list[Library] = []
_opening = allocate_lock()


def _open(directory: str) -> Library:
    path = os.path.join(directory, _FILES[-1])
    # dlopen itself and not ctypes.CDLL, which holds the GIL and resolves all functions at once: 1.5 x the time
    process = ctypes.CDLL(None)
    dlopen, dlerror = process.dlopen, process.dlerror
    dlopen.restype, dlopen.argtypes = c_void_p, (_TEXT, c_int)
    dlerror.restype, dlerror.argtypes = _TEXT, ()
    # TensorFlow reads this variable while it is opened. Only C's environment is touched: os.environ never shows it.
    quiet = _LOG_LEVEL not in os.environ
    if quiet:
        os.putenv(_LOG_LEVEL, _QUIET)
    try:
        handle = dlopen(os.fsencode(path), os.RTLD_LOCAL | os.RTLD_LAZY)
    finally:
        if quiet:
            os.unsetenv(_LOG_LEVEL)
    if not handle:
        reason = (dlerror() or b"no reason given").decode("utf-8", "replace")
        raise TensorFlowUnusable(f"{_found(path)} cannot be opened: {reason}")
    return Library(handle, path)


def _found(path: str) -> str:
    """The path, with the version that the package metadata beside it tell."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("tensorflow", "tensorflow-cpu", "tf-nightly"):
        try:
            return f"{path} (of {name} {version(name)})"
        except PackageNotFoundError:
            continue
    return path


def _python_computes() -> bool:
    """Whether Python's tensorflow has started its runtime, in this process or in one that it was forked from."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    return getattr(context, "_context_handle", None) is not None


def _has_compute_threads() -> bool:
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm", "rb") as file:
                if file.read(3) == b"tf_":
                    return True
        except OSError:  # the thread has ended
            continue
    return False
