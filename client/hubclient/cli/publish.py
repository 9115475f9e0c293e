"""`hubctl publish`: from a module to a version that others fetch, with what there is to say of it.

Law: stdout gets the archive's path, or all that is known of it as JSON, once it is at its place on the disk.
"""

from __future__ import annotations

import shlex

from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.pack import progress_of
from hubclient.cli.show import with_common
from hubclient.cli.wording import size
from hubclient.contract.handles import canonical
from hubclient.publishing import Published, parse_name
from hubclient.publishing import publish as publish_module


def publish(
    source: str, name: str, to: str, *, base_url: str | None, dry_run: bool, quiet: bool, as_json: bool
) -> None:
    """Publish and tell. `base_url` is where `to` is served. Raises as `hubclient.publishing.publish`."""
    url = None if base_url is None else canonical(f"{base_url.rstrip('/')}/{parse_name(name)}")
    with progress_of(source, shown=not quiet) as progress:
        published = publish_module(source, name, to, dry_run=dry_run, progress=progress)
    if as_json:
        emit_json(_document(published, url, dry_run=dry_run))
        return
    if not quiet:
        _tell(published, to, url, dry_run=dry_run)
    emit(published.path)


def _tell(published: Published, to: str, url: str | None, *, dry_run: bool) -> None:
    for name in published.left_out:
        say(f"left out  {name}")
    for finding in published.findings:
        say(f"warning  {finding.detail} [{finding.code}]")
    met = published.common_signatures()
    for common, signature in met.items():
        say(f"meets  {common}, by the signature {signature}")
    if not met:
        say("meets  no common signature")
    verb = "would publish" if dry_run else "published"
    say(f"{verb}  {published.name}  {size(published.size_bytes)}  {published.digest}")
    if dry_run:
        return
    if url is not None:
        say(f"next  hubctl get {url}")
    else:
        host = f"hubd host {shlex.quote(to)}"
        say(f"next  {host}, if it does not run yet; then hubctl get http://127.0.0.1:8501/{published.name}")


def _document(published: Published, url: str | None, *, dry_run: bool) -> dict[str, object]:
    return {
        "name": str(published.name),
        "model": published.name.model,
        "version": published.name.version,
        "url": url,
        "dry_run": dry_run,
        "path": published.path,
        "digest": published.digest,
        "size_bytes": published.size_bytes,
        "content_bytes": published.content_bytes,
        "left_out": list(published.left_out),
        "common_signatures": sorted(published.common_signatures()),
        "warnings": [finding._asdict() for finding in published.findings],
        "meta_graphs": with_common(published.graphs),
    }
