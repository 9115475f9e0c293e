"""What is known of a version, from its directory or its archive."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hubclient.contract.errors import HubError
from hubd.publishing.facts import Facts, facts_of
from hubd.publishing.library import Library, Version
from tests.support import archives
from tests.support.archives import MODULE, archive, field, saved_model
from tests.support.library import AT_ONCE, put, put_archive

README = b"---\ntask: text-embedding\n---\n# Title\n"


def version_in(root: Path) -> Version:
    library = Library(root, quiet_seconds=AT_ONCE)
    library.scan()
    return library.models()[0].versions[0]


def facts_in(root: Path) -> Facts:
    return facts_of(version_in(root))


def test_a_directory_and_its_archive_have_the_same_facts(tmp_path: Path) -> None:
    files = {**MODULE, "README.md": README}
    put(tmp_path / "a", "lab/m/1", files)
    put_archive(tmp_path / "b", "lab/m/1", data := archive(files))
    one, other = facts_in(tmp_path / "a"), facts_in(tmp_path / "b")
    assert one.files == other.files == tuple(sorted((path, len(data)) for path, data in files.items()))
    assert one.size_bytes == other.size_bytes == sum(map(len, files.values()))
    assert one.meta_graphs == other.meta_graphs
    assert one.meta_graphs[0].signatures["serving_default"].inputs["x"].shape == (None, 3)
    assert (one.card, one.readme, one.format) == (other.card, other.readme, other.format)
    assert (one.card.title, one.card.task, one.readme, one.format) == (
        "Title",
        "text-embedding",
        "# Title",
        "saved_model",
    )
    assert (one.digest, one.archive_bytes) == (None, None)
    assert (other.digest, other.archive_bytes) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def test_a_tf1_module_is_told_by_its_file(tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1", {**MODULE, "tfhub_module.pb": b"\x08\x03"})
    assert facts_in(tmp_path).format == "tf1"


def test_the_model_s_readme_serves_versions_without_one(tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1")
    (tmp_path / "lab/m/README.md").write_text("# Of the model")
    assert facts_in(tmp_path).card.title == "Of the model"


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_a_readme_that_is_no_file_is_none(what: str, tmp_path: Path) -> None:
    path = put(tmp_path, "lab/m/1") / "README.md"
    path.symlink_to("/etc/passwd") if what == "link" else os.mkfifo(path)
    assert facts_in(tmp_path).readme is None


def test_a_readme_of_any_bytes_and_size_is_text(tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1", README__md=b"\xff\xfe" + b"x" * 2_000_000)
    readme = facts_in(tmp_path).readme
    assert readme is not None
    assert len(readme) == 512 * 1024


def test_a_common_signature_is_named(tmp_path: Path) -> None:
    texts = field(1, field(1, "t") + field(2, field(1, "t:0") + field(2, 7) + field(3, field(2, field(1, -1)))))
    vectors = field(2, field(1, "v") + field(2, archives.tensor_info("v:0", 1, -1, 8)))
    graph = field(5, field(1, "serving_default") + field(2, texts + vectors))
    put(tmp_path, "lab/m/1", {"saved_model.pb": field(2, graph)})
    assert facts_in(tmp_path).common_signature == "text embedding"


def _objects(*, children: bool, call: bool = True) -> bytes:
    """An object graph whose root has a list of trainable variables, and is called."""
    root = field(1, field(1, 1) + field(2, "trainable_variables"))
    root += field(1, field(1, 2) + field(2, "__call__")) if call else b""
    variables = field(1, field(1, 2) + field(2, "0")) if children else b""
    return field(7, field(1, root) + field(1, variables) + field(1, b""))


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (_objects(children=True), True),
        (_objects(children=False), False),
        (_objects(children=True, call=False), False),
        (field(7, field(1, field(1, field(1, 1 << 40) + field(2, "trainable_variables")))), False),
        (field(4, field(1, "trainable_variables") + field(2, b"")), True),
        (field(4, field(1, "variables") + field(2, b"")), None),
        (b"", None),
    ],
)
def test_whether_it_can_be_fine_tuned_is_read(graph: bytes, expected: bool | None, tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1", {"saved_model.pb": field(2, graph)})
    assert facts_in(tmp_path).is_fine_tunable is expected


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no gzip", "archive-corrupt"),
        (archive()[:-20], "archive-corrupt"),
        (archive({"x/saved_model.pb": b""}), "not-a-module"),
        (archive({"saved_model.pb": b"\xff"}), "not-a-module"),
        (archives.with_extra(archives.header("l", kind=b"2", link=b"/etc/passwd")), "archive-unsafe"),
        (archives.with_extra(archives.file("../x")), "archive-unsafe"),
        (archives.with_extra(archives.file("saved_model.pb")), "archive-unsafe"),
    ],
)
def test_a_bad_archive_is_a_clear_error(data: bytes, code: str, tmp_path: Path) -> None:
    put_archive(tmp_path, "lab/m/1", data)
    with pytest.raises(HubError) as raised:
        facts_in(tmp_path)
    assert raised.value.code == code


def test_a_damaged_or_vanished_directory_is_a_clear_error(tmp_path: Path) -> None:
    put(tmp_path, "lab/m/1", {"saved_model.pb": saved_model()[:-3]})
    version = version_in(tmp_path)
    with pytest.raises(HubError) as raised:
        facts_of(version)
    assert raised.value.code == "not-a-module"
    (tmp_path / "lab").rename(tmp_path / "gone")
    with pytest.raises(HubError) as raised:
        facts_of(version)
    assert raised.value.code == "not-found"


def test_reading_an_archive_ends_when_the_host_does(tmp_path: Path) -> None:
    put_archive(tmp_path, "lab/m/1")
    with pytest.raises(HubError) as raised:
        facts_of(version_in(tmp_path), lambda: True)
    assert raised.value.code == "shutting-down"
