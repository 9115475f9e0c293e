"""`hubctl show`: of a directory, of a handle with its daemon, and of a handle whose daemon is away."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hubclient.cli.app import app
from hubclient.cli.describing import describe
from hubclient.contract import saved_model
from hubclient.contract.handles import key
from hubclient.contract.saved_model import MetaGraph, Signature, TensorSpec
from tests.support import archives
from tests.support.archives import field
from tests.support.handmade_cache import HandmadeCache
from tests.support.scripted_daemon import ScriptedDaemon, answer, problem

HANDLE = "https://h.example/m/1"
GRAPHS = [
    MetaGraph(
        ("serve",),
        {
            "serving_default": Signature(
                "predict",
                {"texts": TensorSpec("t:0", "string", (None,), "dense")},
                {"vectors": TensorSpec("v:0", "float32", (None, 128), "dense")},
            ),
            "__saved_model_init_op": Signature("", {}, {}),
        },
    ),
    MetaGraph((), {"any": Signature("", {"x": TensorSpec("", "int64", None, "sparse")}, {})}),
]
FACTS: dict[str, Any] = {
    "handle": HANDLE,
    "key": key(HANDLE),
    "path": "/c/trees/d/module",
    "digest": "d" * 64,
    "content_digest": "e" * 64,
    "format": "saved_model",
    "size_bytes": 5_000_000,
    "disk_bytes": 5_100_000,
    "archive_bytes": 4_000_000,
    "files": {f"file-{n}": {"size_bytes": n * 1000, "sha256": "f" * 64} for n in range(9)},
    "origin": "cdn.example",
    "etag": '"abc"',
    "fetched_at": "2026-02-01T12:00:00Z",
    "last_used_at": "2026-03-01T11:57:00Z",
    "pinned": True,
    "leased": False,
    "users": [0, 54301],
    "spellings": [HANDLE, "https://H.example:443/m/1"],
    "shared_with": ["https://h.example/m/2"],
    "immutable": True,
    "meta_graphs": saved_model.to_json(GRAPHS),
}


def run(environ: dict[str, str | None], *arguments: str) -> tuple[int, str, str]:
    nowhere = {"HUBD_SOCKET": None, "TFHUB_CACHE_DIR": None, "HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "0"}
    runner = CliRunner(env={**nowhere, "COLUMNS": "100", "TERM": "dumb", **environ})
    result = runner.invoke(app, ["show", *arguments], prog_name="hubctl")
    return result.exit_code, result.stdout, result.stderr


def away(tmp_path: Path) -> dict[str, str | None]:
    return {"HUBD_SOCKET": str(tmp_path / "hubd.sock")}


def text(facts: dict[str, Any], now: datetime | None = None, **options: bool) -> str:
    graphs = saved_model.from_json(facts["meta_graphs"])
    return "".join(
        f"{line.label}{line.text}\n" for line in describe(facts, graphs, now, **{"all_files": False, **options})
    )


def cached(tmp_path: Path, **changes: Any) -> HandmadeCache:
    """A cache with the module of `FACTS`, whose daemon is away; the daemon's socket would lie beside it."""
    made = HandmadeCache(tmp_path / "cache")
    digest = made.add(HANDLE)
    names = ("content_digest", "archive_bytes", "size_bytes", "format", "files", "meta_graphs")
    manifest = {name: FACTS[name] for name in names} | {"digest": digest} | changes
    Path(made.layout.manifest(digest)).write_text(json.dumps(manifest))
    (tmp_path / "hubd.sock.cache").symlink_to(made.root)
    return made


# what is said


def test_it_says_all_that_is_known() -> None:
    assert text(FACTS).splitlines() == [
        "handle          https://h.example/m/1",
        "path            /c/trees/d/module",
        "digest          sha256:" + "d" * 64,
        "content digest  sha256:" + "e" * 64,
        "format          SavedModel",
        "size            5.0 MB in 9 files, 5.1 MB on disk, from an archive of 4.0 MB",
        "origin          cdn.example",
        'etag            "abc"',
        "fetched         2026-02-01T12:00:00Z",
        "last used       2026-03-01T11:57:00Z",
        "pinned          yes",
        "leased          no",
        "users           root (uid 0), uid 54301",
        "asked for as    https://H.example:443/m/1",
        "same content    https://h.example/m/2",
        "",
        "files",
        "  8.0 KB  file-8",
        "  7.0 KB  file-7",
        "  6.0 KB  file-6",
        "  5.0 KB  file-5",
        "  4.0 KB  file-4",
        "  and 4 more, which --files shows",
        "",
        "variant serve",
        "  serving_default: text embedding",
        "    input   texts: string (?)",
        "    output  vectors: float32 (?, 128)",
        "",
        "variant without tags",
        "  any",
        "    input   x: sparse int64 of any shape",
    ]


def test_a_person_also_reads_ages_and_all_files_on_demand() -> None:
    shown = text(FACTS, datetime(2026, 3, 1, 12, 0, tzinfo=UTC), all_files=True)
    assert "last used       2026-03-01T11:57:00Z (3 min ago)\n" in shown
    assert "     0 B  file-0\n" in shown
    assert "more" not in shown


def test_what_an_older_daemon_does_not_tell_is_not_said() -> None:
    lacking = {"disk_bytes", "archive_bytes", "origin", "etag", "leased", "users", "spellings", "shared_with"}
    shown = text({name: value for name, value in FACTS.items() if name not in lacking})
    assert "size            5.0 MB in 9 files\n" in shown
    assert "None" not in shown
    assert "leased" not in shown


def test_what_a_publisher_chose_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J"
    signature = Signature("", {evil: TensorSpec("", "float32", (), "dense")}, {})
    graphs = saved_model.to_json([MetaGraph((evil,), {evil: signature})])
    assert "\x1b" not in text(FACTS | {"files": {evil: {"size_bytes": 1}}, "etag": evil, "meta_graphs": graphs})


def test_the_json_of_graphs_can_be_read_back() -> None:
    assert saved_model.from_json(json.loads(json.dumps(saved_model.to_json(GRAPHS)))) == GRAPHS


# a handle


def test_a_handle_is_told_by_the_daemon(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path / "hubd.sock", answer(FACTS)) as daemon:
        code, out, said = run({"HUBD_SOCKET": daemon.path}, HANDLE)
        document = json.loads(run({"HUBD_SOCKET": daemon.path}, HANDLE, "--json")[1])
    assert (code, out, said) == (0, text(FACTS), "")
    assert daemon.asked[0].path == f"/v1/modules/{key(HANDLE)}"
    signatures = document["meta_graphs"][0]["signatures"]
    assert signatures["serving_default"].pop("common_signature") == "text embedding"
    assert document.pop("source") == "daemon"
    assert document["files"] == FACTS["files"]


def test_a_handle_that_is_not_cached_is_not_fetched(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path / "hubd.sock", problem("not-found", 404)) as daemon:
        code, out, said = run({"HUBD_SOCKET": daemon.path}, HANDLE)
    assert (code, out, len(daemon.asked)) == (1, "", 1)
    assert f"{HANDLE} is not in the cache: `hubctl get` fetches it [not-found]" in said


def test_without_its_daemon_a_cached_handle_is_told_by_the_files(tmp_path: Path) -> None:
    made = cached(tmp_path)
    code, out, said = run(away(tmp_path), HANDLE)
    assert code == 0
    assert "no daemon answers" in said
    assert f"handle          {HANDLE}\npath            {made.root}/trees/" in out
    assert "serving_default: text embedding" in out
    assert "pinned" not in out
    document = json.loads(run(away(tmp_path), HANDLE, "--json")[1])
    assert (document["source"], document["size_bytes"], document["immutable"]) == ("cache", 5_000_000, True)


def test_without_daemon_and_copy_the_exit_code_is_3(tmp_path: Path) -> None:
    code, out, said = run(away(tmp_path), HANDLE)
    assert (code, out) == (3, "")
    assert "[daemon-unreachable]" in said


@pytest.mark.parametrize("changes", [{"meta_graphs": None}, {"meta_graphs": [{"tags": 1}]}, {"files": None}], ids=str)
def test_a_damaged_manifest_is_an_error_with_a_code(tmp_path: Path, changes: dict[str, Any]) -> None:
    cached(tmp_path, **changes)
    code, out, said = run(away(tmp_path), HANDLE)
    assert (code, out) == (1, "")
    assert "[internal]" in said


# a directory


def test_a_directory_is_read_without_a_daemon(tmp_path: Path) -> None:
    module = tmp_path / "my module"
    (module / "variables").mkdir(parents=True)
    (module / "saved_model.pb").write_bytes(archives.saved_model())
    (module / "variables" / "variables.index").write_bytes(bytes(2000))
    code, out, said = run(away(tmp_path), str(module))
    assert (code, said) == (0, "")
    assert f"path            {module}\nformat          SavedModel\n" in out
    assert "  2.0 KB  variables/variables.index\n" in out
    assert "variant serve\n  serving_default\n    input   x: float32 (?, 3)\n    output  y: string ()\n" in out
    document = json.loads(run(away(tmp_path), f"file://{tmp_path}/my%20module", "--json")[1])
    assert (document["source"], document["path"]) == ("directory", str(module))


def test_tags_choose_a_variant(tmp_path: Path) -> None:
    graphs = b"".join(field(2, field(1, b"".join(field(4, tag) for tag in tags))) for tags in (["b", "a"], []))
    (tmp_path / "saved_model.pb").write_bytes(graphs)
    assert run({}, str(tmp_path), "--tags", "b,a")[1].count("\nvariant ") == 1
    assert "variant without tags" in run({}, str(tmp_path), "--tags", "")[1]
    code, out, said = run({}, str(tmp_path), "--tags", "a")
    assert (code, out) == (1, "")
    assert "it has {'a', 'b'}, {} [variant-not-found]" in said


def test_a_module_in_text_form_says_so(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pbtxt").touch()
    code, out, _ = run({}, str(tmp_path))
    assert code == 0
    assert "saved_model.pbtxt" in out.splitlines()[-1]


def test_what_is_no_module_is_an_error_with_a_code(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"<html>")
    code, out, said = run({}, str(tmp_path))
    assert (code, out) == (1, "")
    assert "[not-a-module]" in said


# holders


def test_holders_of_a_cached_module_are_found_by_handle_and_by_path(tmp_path: Path) -> None:
    made = cached(tmp_path)
    (digest,) = os.listdir(made.layout.trees)
    with open(made.layout.lease(digest)) as lease:
        child = subprocess.Popen(["sleep", "60"], stdin=lease)
    try:
        document = json.loads(run(away(tmp_path), "--holders", "--json", HANDLE)[1])
        assert [(one["pid"], one["holds"]) for one in document["holders"]] == [(child.pid, ["lease"])]
        assert str(child.pid) in run({}, "--holders", made.layout.module(digest))[1]
    finally:
        child.kill()
        child.wait()
    code, out, said = run(away(tmp_path), "--holders", HANDLE)
    assert (code, out) == (0, "")
    assert "nobody holds it" in said
