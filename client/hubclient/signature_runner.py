"""A module's signatures on numpy arrays, by TensorFlow's C API and without importing Python's TensorFlow.

Law: after `close()` nothing runs any more, and until then the module's files stay.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from hubclient.contract.saved_model import Signature, TensorSpec
from hubclient.model_errors import Closed, InputInvalid, ModuleUnsupported, RunFailed, SignatureNotFound
from hubclient.opening import Tags, open_module

if TYPE_CHECKING:
    from hubclient.capi.calling import Call
    from hubclient.capi.session import Session

# One run computes in its caller's thread, and its large operations with all cores.
_DEFAULT_INTRA_OP_THREADS = 0
_DEFAULT_INTER_OP_THREADS = -1
_MAX_THREADS = 4096


def signatures(
    handle: str | os.PathLike[str],
    tags: Tags = None,
    *,
    names: str | Collection[str] | None = None,
    intra_op_threads: int | None = None,
    inter_op_threads: int | None = None,
    device: Literal["cpu"] | None = None,
    gpu_memory_growth: bool = True,
) -> Signatures:
    """The signatures of one of the module's variants, downloaded first if need be, ready to be called.

    `tags` names the variant as for `load`. `names` are the signatures that will be used, or one: less is loaded for
    few. `intra_op_threads` is the number of threads that share one operation (None, 0: one for each core);
    `inter_op_threads` the number that run independent operations at once (None, -1: none, a call computes in the thread
    that makes it, which is faster unless the graph is wide; 0: one for each core). TensorFlow has one pool for all
    sessions of a process: the first one's numbers hold. `device`: "cpu" keeps off the GPU; None uses one if there is
    one. `gpu_memory_growth` takes GPU memory as it is needed, instead of all of it at once.

    A forked child can use signatures only if the parent used TensorFlow with ``intra_op_threads=1,
    inter_op_threads=-1`` alone, and for no module that reads datasets or batches its calls, which takes threads; else
    `Forked` is raised there.

    The module is leased until the object is closed or gone. TensorFlow's log is quiet unless ``TF_CPP_MIN_LOG_LEVEL``
    is set. Raises `HubError`s: `InputInvalid` for a wrong setting, `TensorFlowMissing`, `TensorFlowUnusable`,
    `VariantNotFound`, `SignatureNotFound`, `ModuleBroken`, `ModuleUnsupported`, `Forked`, and what `resolve` raises.
    """
    from hubclient.capi.library import locate
    from hubclient.capi.loading import Settings, load

    locate()  # before a download that would be for nothing
    if device not in (None, "cpu"):
        raise InputInvalid(f'device must be "cpu" or None, not {device!r}')
    settings = Settings(
        _threads("intra_op_threads", intra_op_threads, _DEFAULT_INTRA_OP_THREADS, least=0),
        _threads("inter_op_threads", inter_op_threads, _DEFAULT_INTER_OP_THREADS, least=-1),
        gpu=device is None,
        gpu_memory_growth=gpu_memory_growth,
    )
    if isinstance(names, str):
        names = [names]
    with open_module(handle, tags) as module:
        if module.graph is None:
            raise ModuleUnsupported(f"{module.path} is in text form, which signatures() does not read: use load()")
        session, found = load(module, module.graph, names, settings)
        loaded = Signatures(session, found, module.tags or (), module.path)
        module.keep_while(session)
    return loaded


def load_library(path: str | os.PathLike[str]) -> None:
    """Make the operations of a shared library (a custom op's ``.so``) known to TensorFlow, for modules that use them.

    Once per process and library; a second time changes nothing. Python's `tensorflow` sees them too.
    Raises `RunFailed` with TensorFlow's reason, `TensorFlowMissing`, `TensorFlowUnusable`.
    """
    from hubclient.capi.library import library
    from hubclient.capi.status import new_status

    opened = library()
    file = os.path.abspath(os.fspath(path))
    if not os.path.isfile(file):
        raise RunFailed(f"there is no library {file}")
    with new_status(opened) as status:
        handle = opened.TF_LoadLibrary(os.fsencode(file), status.pointer)
        status.check(RunFailed, f"TensorFlow cannot load {file}")
    opened.TF_DeleteLibraryHandle(handle)  # the list of operations alone: what was loaded stays


class Signatures(Mapping[str, "SignatureRunner"]):
    """The runners of a variant's signatures, by name. A context manager: at its end the model's memory is freed.

    A runner keeps the model alive on its own. `close()` ends them all, after the calls that are under way.
    """

    def __init__(self, session: Session, found: Mapping[str, Signature], tags: tuple[str, ...], path: str) -> None:
        from hubclient.capi.calling import Call

        #: of the variant, sorted
        self.tags = tags
        #: the module's directory
        self.path = path
        self._model = _Model(session)
        self._runners: dict[str, SignatureRunner] = {}
        for name, signature in sorted(found.items()):
            call: Call | ModuleUnsupported
            try:
                call = Call(session.graph, name, signature)
            except ModuleUnsupported as error:  # this signature alone
                call = error
            self._runners[name] = SignatureRunner(self._model, name, signature, call)

    def __getitem__(self, name: str) -> SignatureRunner:
        """Raises `SignatureNotFound`, which is a `KeyError` here."""
        try:
            return self._runners[name]
        except KeyError:
            known = ", ".join(map(repr, self._runners)) or "none"
            raise _NoSuchSignature(f"there is no signature {name!r} of {self.path}; loaded: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._runners)

    def __len__(self) -> int:
        return len(self._runners)

    def __enter__(self) -> Signatures:
        if self._model.session is None:
            raise Closed(f"the signatures of {self.path} are closed")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model and its lease as soon as no call is under way. A second time does nothing."""
        self._model.session = None

    def __repr__(self) -> str:
        state = " (closed)" if self._model.session is None else ""
        lines = "".join(f"\n  {runner!r}" for runner in self._runners.values())
        return f"Signatures of {self.path}, tags {set(self.tags) or '{}'}{state}:{lines}"


class SignatureRunner:
    """One signature, to be called from any number of threads."""

    def __init__(self, model: _Model, name: str, signature: Signature, call: Call | ModuleUnsupported) -> None:
        self.name = name
        #: by key, as the module describes them
        self.inputs: dict[str, TensorSpec] = dict(signature.inputs)
        self.outputs: dict[str, TensorSpec] = dict(signature.outputs)
        self._model = model
        self._call = call

    def __call__(self, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The outputs, by key, as numpy arrays of their own.

        The inputs are keywords, or one mapping; a signature of one input takes it bare. An array must have the dtype
        that `inputs` says; Python's numbers and lists are converted if they fit. Strings are bytes, or text that is
        encoded as UTF-8; those that come out are bytes, in arrays of objects. A sparse tensor is a tuple of three
        arrays (indices, values, dense_shape), a ragged or other composite one the tuple of its components.

        Raises `InputInvalid`, `RunFailed`, `Closed`, `Forked`, `ModuleUnsupported`. Ctrl-C is raised after the run.
        """
        session = self._model.session
        if session is None:
            raise Closed(f"signature {self.name!r} was called after its module had been closed")
        call = self._call
        if isinstance(call, ModuleUnsupported):
            raise ModuleUnsupported(f"signature {self.name!r} cannot be called: {call}")
        return call(session, self._named(args, kwargs) if args else kwargs)

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(args) == 1 and not kwargs:
            if isinstance(args[0], Mapping):
                return args[0]
            if len(self.inputs) == 1:
                return {next(iter(self.inputs)): args[0]}
        raise InputInvalid(
            f"signature {self.name!r} takes its inputs as keywords, or one alone if it has only one: "
            f"{_described(self.inputs) or 'it has none'}"
        )

    def __repr__(self) -> str:
        return f"{self.name}({_described(self.inputs)}) -> {{{_described(self.outputs)}}}"


class _Model:
    """What the runners share; None once it is closed."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session: Session | None = session


class _NoSuchSignature(SignatureNotFound, KeyError):
    """A mapping raises KeyError: `in` and `get` rest on it."""

    def __str__(self) -> str:
        return self.detail


def _threads(name: str, given: int | None, default: int, *, least: int) -> int:
    if given is None:
        return default
    if not isinstance(given, int) or not least <= given <= _MAX_THREADS:  # TensorFlow would end the process
        raise InputInvalid(f"{name} must be an integer of {least} to {_MAX_THREADS}, not {given!r}")
    return given


def _described(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"{key}: {_spec_text(spec)}" for key, spec in specs.items())


def _spec_text(spec: TensorSpec) -> str:
    sizes = "..." if spec.shape is None else ", ".join("?" if size is None else str(size) for size in spec.shape)
    return f"{'' if spec.encoding == 'dense' else spec.encoding + ' '}{spec.dtype}[{sizes}]"
