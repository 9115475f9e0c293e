"""stdout and stderr, and what an error looks like there.

Law: data goes to stdout in one piece and nothing else does; messages go to stderr, one line each. A reader that
goes away (`hubctl ls | head -1`) ends the command quietly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hubclient import finding
from hubclient.cli.wording import duration, printable
from hubclient.contract.errors import (
    AccessDenied,
    AddressForbidden,
    ArchiveCorrupt,
    ArchiveUnsafe,
    CacheUntrusted,
    DigestMismatch,
    DiskFull,
    HandleForbidden,
    HubError,
    InUse,
    NotFound,
    Offline,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamUnavailable,
)
from hubclient.contract.handles import is_kaggle, is_object

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_UPSTREAM_NOT_FOUND = 4
EXIT_BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended

_LASTING = ("network.", "its certificate", "the proxy refuses")
_NEXT_STEPS = {
    "handle-invalid": "a handle is an https:// URL such as https://tfhub.dev/google/nnlm-en-dim50/2, a path, "
    "kaggle:OWNER/MODEL/FRAMEWORK/VARIATION/VERSION, or s3://BUCKET/PATH (gs://, az://)",
    "daemon-unreachable": "`hubctl doctor` looks for the reason",
    "archive-unsafe": "tell whoever publishes the module; `hubctl pack DIR` makes archives that are accepted",
    "archive-too-large": "the daemon's settings say how much it takes: [limits] archive and module, [cache] max_size",
    "cache-untrusted": "`hubctl doctor` looks at who could write there",
    "cache-unreachable": "`hubctl help containers` says what to mount",
    "address-forbidden": "the daemon's settings say which addresses it may contact: [network] allow_private_addresses",
    "upstream-denied": "check the handle; if the host knows you, put a credential for it into "
    "~/.config/hubclient/credentials.toml or ~/.netrc",
    "upstream-not-found": "check the handle, its version too: its host has no such module, or shows it to others only",
    "upstream-unavailable": "try again later; what is cached goes on working",
    "upstream-timeout": "try again later; what is cached goes on working",
    "archive-corrupt": "try again; if it stays, tell whoever publishes the module",
    "not-a-module": "the handle must lead to the archive of a SavedModel: is it the URL of a web page?",
    "digest-mismatch": "`hubctl get --json` without --digest shows the digest that is there",
    "in-use": "`hubctl show --holders HANDLE`, as root, tells who holds it; `hubctl rm --force` removes it anyway",
    "cache-full": "`hubctl ls --sort size` shows what takes the space, `hubctl prune` makes room",
    "disk-full": "`hubctl ls --sort size` shows what takes the space, `hubctl prune` makes room",
    "offline": "leave out --offline, or unset HUBD_OFFLINE, to let the daemon fetch it",
    "fetch-cancelled": "somebody ended this fetch; asked again, it goes on where it was, if the server allows that",
    "too-busy": "try again in a moment; `hubctl status` shows what the daemon does",
    "shutting-down": "try again in a moment: the daemon is about to stop",
    "internal": "the daemon's log says more",
}


def exit_code(error: HubError) -> int:
    """The exit code of a command that ended with this error."""
    return {"daemon-unreachable": EXIT_UNREACHABLE, "upstream-not-found": EXIT_UPSTREAM_NOT_FOUND}.get(
        error.code, EXIT_FAILED
    )


def exit_code_of_all(errors: Iterable[HubError]) -> int:
    """The exit code of a command with several parts: theirs if they agree, else plain failure; 0 without errors."""
    codes = {exit_code(error) for error in errors}
    return codes.pop() if len(codes) == 1 else EXIT_FAILED if codes else 0


def emit(text: str) -> None:
    """Write data, whole lines, to stdout. What stdout's encoding cannot say is written as the bytes of a file name."""
    if sys.stdout is None:  # closed by whoever started us
        say("hubctl: cannot write to stdout: it is closed")
        raise SystemExit(EXIT_FAILED)
    text = text if text.endswith("\n") else text + "\n"
    try:
        try:
            print(text, end="", flush=True)
        except UnicodeEncodeError:
            sys.stdout.buffer.write(os.fsencode(text))
            sys.stdout.flush()
    except BrokenPipeError:
        give_up_stdout()
        raise SystemExit(EXIT_BROKEN_PIPE) from None
    except OSError as error:
        give_up_stdout()
        say(f"hubctl: cannot write to stdout: {error.strerror}")
        raise SystemExit(EXIT_FAILED) from None


def emit_json(document: Any) -> None:
    """Write one JSON document to stdout."""
    import json  # 12 ms that a mere hit does not need

    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a path that is no UTF-8: its bytes would be no JSON
        text = json.dumps(document, indent=2)
    emit(text)


def give_up_stdout() -> None:
    """Let nothing more be written: Python flushes stdout once more when it ends, and that must not fail."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """Write a message to stderr."""
    if sys.stderr is None:  # closed; `print` would take stdout instead
        return
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        return  # nobody reads the messages; the data still counts


def hit_line(handle: str, seconds: float) -> str:
    """The line for what was there already."""
    return f"hit  {handle}  in {duration(seconds)}"


def complain(error: HubError, *, as_json: bool = False, handle: str | None = None) -> None:
    """Write an error to stderr: its detail, its code and a next step; or its problem as one line of JSON."""
    if as_json:
        import json

        problem = error.problem() | ({} if handle is None else {"handle": handle})
        say(json.dumps(problem))
        return
    about = f"{handle}: " if handle is not None and handle not in error.detail else ""
    first, *more = error.detail.splitlines() or [""]
    say(f"hubctl: {about}{first} [{error.code}]")
    for line in more:
        say(f"        {line.strip()}")
    if step := _next_step(error, handle or ""):
        say(f"        {step}")


def _next_step(error: HubError, handle: str) -> str | None:
    step = _NEXT_STEPS.get(error.code)
    if isinstance(error, UpstreamDenied) and (is_kaggle(handle) or "kaggle.com" in error.detail.partition(" ")[0]):
        return (
            "set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY; the model's page at Kaggle may want consent first"
        )
    if any(section in error.detail for section in ("[[object_store]]", "[[credential]] with")):
        return None  # the detail says what to mend
    if isinstance(error, UpstreamDenied) and (is_object(handle) or is_object(error.detail)):
        return "credentials for object stores are in the daemon's settings: a [[credential]] with a store"
    if isinstance(error, ArchiveUnsafe) and "cannot be listed" in error.detail:
        return "remove that object from the bucket, or whoever owns it does"
    if isinstance(error, UpstreamNotFound) and is_object(handle):
        return "check the handle: it names a SavedModel's directory, or an archive that ends in .tar.gz or .tgz"
    if isinstance(error, UpstreamUnavailable) and "fleet's store" in error.detail:
        return "`hubctl fleet status` says how it is; modules come from their origins meanwhile"
    if isinstance(error, InUse) and "prefetch file" in error.detail:
        return "`hubctl rm --force` removes it anyway, until the file is next due"
    if isinstance(error, ArchiveCorrupt) and "looks like HTML" in error.detail:
        return "is it the URL of a web page? A handle leads to the archive itself"
    if isinstance(error, NotFound) and "cache" in error.detail and "hubctl" not in error.detail:
        return "`hubctl ls` lists what the cache has"
    if isinstance(error, HandleForbidden) and "network." in error.detail:
        return "what it may ask is in the daemon's settings, in section [network]"
    if isinstance(error, AddressForbidden) and "never" in error.detail:
        return None  # no setting allows it
    if isinstance(error, DigestMismatch) and "lock file" in error.detail:
        return "`hubctl lock HANDLE -o FILE` writes what is there now into the lock file"
    if isinstance(error, Offline | UpstreamUnavailable) and any(one in error.detail for one in _LASTING):
        return None  # it is not over by itself, and the detail says what is
    if isinstance(error, AccessDenied) and "administrators" in error.detail:
        return "run hubctl as root, or ask one of them"
    if isinstance(error, CacheUntrusted) and "TFHUB_CACHE_DIR" in error.detail:
        return None  # the detail says what to do
    if isinstance(error, DiskFull) and (cache := finding.find(os.environ).cache) is not None:
        return f"{step}; the cache is {cache}"
    return step


@contextmanager
def complaints(*, as_json: bool) -> Iterator[None]:
    """Turn an error into its message and its exit code."""
    try:
        yield
    except HubError as error:
        complain(error, as_json=as_json)
        raise SystemExit(exit_code(error)) from None
