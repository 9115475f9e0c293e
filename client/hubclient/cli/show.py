"""`hubctl show`: all that is known of one module.

Law: looking changes nothing. A module that is not there is not fetched for it, and a directory of the user's own needs
no daemon.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from hubclient import finding, local
from hubclient.cli.describing import Line, describe
from hubclient.cli.get import STALE_TIMEOUT_SECONDS, copy_in_cache
from hubclient.cli.holders import show_holders
from hubclient.cli.names import module_path
from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.reaching import reach_aloud
from hubclient.cli.tables import drawable, on_terminal
from hubclient.contract.common_signatures import common_signature
from hubclient.contract.errors import CacheUnreachable, DaemonUnreachable, Internal, NotFound
from hubclient.contract.handles import canonical, is_immutable, is_path, key
from hubclient.contract.layout import CacheLayout, layout_of_module
from hubclient.contract.saved_model import MetaGraph, from_json, to_json
from hubclient.model_errors import VariantNotFound
from hubclient.opening import is_tf1, read_graphs

_MAX_MANIFEST_BYTES = 64 << 20
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


def show(handle: str, *, tags: Sequence[str] | None, all_files: bool, as_json: bool) -> None:
    """Print what is known of the module. Raises its errors, and `VariantNotFound`."""
    facts = _of_directory(handle) if is_path(handle) else _of_handle(handle, quiet=as_json)
    graphs = _chosen(facts, tags)
    if as_json:
        emit_json(facts | {"meta_graphs": with_common(graphs)})
        return
    lines = describe(facts, graphs, datetime.now(UTC) if on_terminal() else None, all_files=all_files)
    emit(_drawn(lines) if drawable() else "".join(f"{line.label}{line.text}".rstrip() + "\n" for line in lines))


def holders(handle: str, *, as_json: bool) -> None:
    """Print who holds the module."""
    path = local.module_directory(handle) if is_path(handle) else _of_handle(handle, quiet=as_json)["path"]
    place = layout_of_module(path)
    try:
        lease = None if place is None else place.layout.lease(place.digest)
        show_holders(path, lease if lease is not None and os.path.exists(lease) else None, handle, as_json=as_json)
    except OSError as error:
        raise CacheUnreachable(f"cannot look into {path}: {error.strerror}") from error


def _of_directory(handle: str) -> dict[str, Any]:
    path = local.module_directory(handle)
    sizes: dict[str, int] = {}
    for directory, _, names in os.walk(path):
        for name in names:
            file = os.path.join(directory, name)
            sizes[os.path.relpath(file, path)] = os.lstat(file).st_size
    return {
        "source": "directory",
        "path": path,
        "format": "tf1" if is_tf1(path) else "saved_model",
        "size_bytes": sum(sizes.values()),
        "disk_bytes": _disk_bytes(path),
        "files": {file: {"size_bytes": size_bytes} for file, size_bytes in sizes.items()},
        "meta_graphs": to_json(read_graphs(path)),
    }


def _of_handle(handle: str, *, quiet: bool) -> dict[str, Any]:
    environ = dict(os.environ)
    path_in_api = module_path(handle)
    copy = copy_in_cache(handle)
    if copy is not None:
        copy.lease.release()  # the daemon would count it
        environ["HUBD_TIMEOUT"] = str(min(STALE_TIMEOUT_SECONDS, finding.timeout_seconds(environ)))
    try:
        return {"source": "daemon"} | reach_aloud(environ, quiet=quiet).get(path_in_api)
    except NotFound:
        raise NotFound(f"{handle} is not in the cache: `hubctl get` fetches it") from None
    except DaemonUnreachable:
        copy = copy_in_cache(handle)
        if copy is None:
            raise
    if not quiet:
        say("hubctl: warning: no daemon answers, so this is only what the files in the cache tell")
    place = layout_of_module(copy.path)
    assert place is not None
    return _of_tree(canonical(handle), place.layout, copy.digest)


def _of_tree(handle: str, layout: CacheLayout, digest: str) -> dict[str, Any]:
    try:
        with open(layout.manifest(digest), "rb") as file:
            manifest = json.loads(file.read(_MAX_MANIFEST_BYTES))
        disk_bytes = _disk_bytes(layout.tree(digest))
        known = {name: manifest[name] for name in ("content_digest", "archive_bytes", "size_bytes", "format", "files")}
        known["meta_graphs"] = manifest["meta_graphs"]
        known["files"] = {
            path: {**entry, "size_bytes": int(entry["size_bytes"])} for path, entry in known["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Internal(f"{layout.manifest(digest)} cannot be read: {error}") from error
    return {
        "source": "cache",
        "handle": handle,
        "key": key(handle),
        "digest": digest,
        "path": layout.module(digest),
        "immutable": is_immutable(handle),
        "disk_bytes": disk_bytes,
        **known,
    }


def _disk_bytes(path: str) -> int:
    """What a directory takes on disk with all below it, as `du` counts."""
    blocks = os.lstat(path).st_blocks
    for directory, inner, names in os.walk(path):
        blocks += sum(os.lstat(os.path.join(directory, name)).st_blocks for name in (*inner, *names))
    return blocks * _BLOCK_BYTES


def _chosen(facts: dict[str, Any], tags: Sequence[str] | None) -> list[MetaGraph]:
    """The variants, or the one with these tags."""
    try:
        graphs = from_json(facts["meta_graphs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise Internal(f"the signatures of {facts['path']} are not as this hubctl knows them: {error}") from error
    if tags is None:
        return graphs
    chosen = [graph for graph in graphs if graph.tags == tuple(sorted(set(tags)))]
    if not chosen:
        named = ", ".join("{" + ", ".join(map(repr, graph.tags)) + "}" for graph in graphs)
        raise VariantNotFound(f"the module has no variant with the tags {sorted(set(tags))}; it has {named or 'none'}")
    return chosen


def with_common(graphs: Sequence[MetaGraph]) -> list[dict[str, Any]]:
    """The API's meta graphs, where each signature says which common one it meets."""
    documents = to_json(list(graphs))
    for graph, document in zip(graphs, documents, strict=True):
        for name, signature in graph.signatures.items():
            document["signatures"][name]["common_signature"] = common_signature(name, signature)
    return documents


def _drawn(lines: Iterable[Line]) -> str:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as captured:
        for line in lines:
            console.print(Text.assemble((line.label, "bold"), line.text), soft_wrap=True)
    return captured.get()
