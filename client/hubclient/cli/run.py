"""`hubctl run`: one signature of a module on values from the command line or from files.

Law: TensorFlow's Python is never imported; arguments are understood before anything is downloaded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hubclient.cli import values
from hubclient.cli.get import bring
from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.signature_text import public, tensors
from hubclient.cli.values import Value
from hubclient.cli.wording import duration, printable
from hubclient.model_errors import SignatureNotFound

if TYPE_CHECKING:
    from hubclient.signature_runner import Signatures

_DEFAULTS = ("serving_default", "default")


def run(
    handle: str,
    inputs: Sequence[tuple[str | None, Value]],
    *,
    signature: str | None,
    tags: Sequence[str] | None,
    output: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Apply the signature and print or write its outputs; the exit code."""
    from hubclient.signature_runner import signatures

    bring(handle, quiet=quiet, as_json=as_json)
    started = time.monotonic()
    names = None if signature is None else [signature]
    with _without_log(), signatures(handle, tags=tags, names=names) as found:
        runner = found[signature or _default(found)]
        outputs = values.flat(runner(values.bind(inputs, runner.inputs)))
    if not quiet and not as_json:
        say(f"ran {runner.name} in {duration(time.monotonic() - started)}, loading included")
    if output is not None:
        values.write(output, outputs)
    elif as_json:
        emit_json({name: values.to_json(array) for name, array in sorted(outputs.items())})
    else:
        emit(values.to_text(outputs))
    return 0


def show(handle: str, *, tags: Sequence[str] | None, quiet: bool, as_json: bool) -> int:
    """Print the signatures of a variant with their inputs and outputs; nothing is loaded."""
    from hubclient.contract.saved_model import MetaGraph, to_json
    from hubclient.opening import open_module

    bring(handle, quiet=quiet, as_json=as_json)
    with open_module(handle, tags) as module:
        found = public({} if module.graph is None else module.graph.signatures)
    if as_json:
        emit_json(to_json([MetaGraph((), found)])[0]["signatures"])
        return 0
    lines = []
    for name, signature in found.items():
        lines.append(printable(name))
        lines += [f"  {line}" for line in tensors(signature)]
    emit("".join(line + "\n" for line in lines))
    return 0


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep TensorFlow's log from stderr, unless ``TF_CPP_MIN_LOG_LEVEL`` asks for it.

    Some of it is written while the library is opened, before any level could be set. What matters is an exception.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or sys.stderr is None:
        yield
        return
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _default(found: Signatures) -> str:
    """The signature that a call without a name means."""
    name = next((name for name in _DEFAULTS if name in found), None)
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name is None:
        raise SignatureNotFound(f"say which signature with --signature; the module has {sorted(found)}")
    return name
