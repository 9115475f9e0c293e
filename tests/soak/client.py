"""A user's program in a soak, a process of its own: leases modules, reads every byte of them again and again, ends.

    client.py TRUTH HANDLE MODE SECONDS [HANDLE MODE SECONDS ...]

MODE is ``lease`` (for the block) or ``resolve`` (for the life of the process). It tells what it saw, one line of JSON
each; who reads them judges. Law: damage is never passed over, and a path that was found damaged is asked for again at
once, because the next answer must be whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator

import hubclient

_ROUNDS = 6
_PAUSE_SECONDS = 0.05


def main(truth_file: str, *steps: str) -> None:
    warnings.simplefilter("ignore", hubclient.HubWarning)
    with open(truth_file) as file:
        truth = json.load(file)
    resolved: set[str] = set()
    while steps:
        handle, mode, seconds, *steps = steps  # type: ignore[assignment]
        # The second `resolve` of a process looks at a module's first files alone, so what it gives may lack others.
        _use(truth, handle, "lease" if handle in resolved else mode, float(seconds))
        if mode == "resolve":
            resolved.add(handle)


def _use(truth: dict[str, dict[str, str]], handle: str, mode: str, seconds: float) -> None:
    until = time.time() + seconds
    for number in range(_ROUNDS):
        begun = time.time()
        _tell("asking", handle, begun=begun)
        # Asked for again after damage: `resolve` would look at a module's first files alone.
        holding = _resolved(handle) if mode == "resolve" and number == 0 else hubclient.lease(handle)
        try:
            with holding as path:
                digest = os.path.basename(os.path.dirname(path))
                _tell("leased", handle, digest=digest, begun=begun)
                if not _read(truth.get(digest), handle, digest, path, begun, until):
                    continue
            if mode == "lease":
                _tell("released", handle, digest=digest)
        except hubclient.HubError as error:
            _tell("refused", handle, code=error.code, text=str(error), begun=begun)
        return


@contextlib.contextmanager
def _resolved(handle: str) -> Iterator[str]:
    yield hubclient.resolve(handle)


def _read(known: dict[str, str] | None, handle: str, digest: str, path: str, begun: float, until: float) -> bool:
    """Reads the module until the time is over; False as soon as it is not what it should be."""
    if known is None:
        _tell("unknown", handle, digest=digest, begun=begun)
        return True
    while True:
        size_bytes = 0
        for file, sha256 in known.items():
            try:
                with open(f"{path}/{file}", "rb") as opened:
                    data = opened.read()
            except OSError as error:
                _tell("damaged", handle, digest=digest, file=file, problem=str(error.strerror), begun=begun)
                return False
            if hashlib.sha256(data).hexdigest() != sha256:
                _tell("damaged", handle, digest=digest, file=file, problem=f"{len(data)} wrong bytes", begun=begun)
                return False
            size_bytes += len(data)
        _tell("read", handle, digest=digest, size_bytes=size_bytes)
        if time.time() >= until:
            return True
        time.sleep(_PAUSE_SECONDS)


def _tell(what: str, handle: str, **facts: object) -> None:
    print(json.dumps({"what": what, "handle": handle, "at": time.time(), **facts}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
