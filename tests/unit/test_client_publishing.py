"""`publish`: a version appears at its place whole, once, and with all said that its users would miss or mistrust."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import hubclient
from hubclient import model_errors
from hubclient.packing import pack
from hubclient.publications.documents import broken_links
from hubclient.publishing import Published, parse_name, publish
from tests.support import archives
from tests.support import graph_bytes as g
from tests.support.uids import ALICE, BOB, as_user, directory_of, needs_root

X = g.node("x", "Placeholder", dtype=g.dtype())
SIGNATURES = {"serving_default": (["x"], ["y"])}
README = "# Half plus two\n"
NAME = "acme/half-plus-two/1"


def model(*more: bytes, output: bytes | None = None, library: Sequence[bytes] = (), **rest: object) -> bytes:
    """A saved_model.pb from x to y, with more nodes than that takes."""
    nodes = [X, output or g.node("y", "Identity", "x", T=g.dtype()), *more]
    return g.saved_model(g.graph(nodes, library), SIGNATURES, **rest)  # type: ignore[arg-type]


def write(directory: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return directory


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return write(tmp_path / "module", {"saved_model.pb": model(), "README.md": README, "assets/a.txt": "a"})


@pytest.fixture
def public(tmp_path: Path) -> Path:
    (tmp_path / "public").mkdir()
    return tmp_path / "public"


@pytest.fixture
def found(tmp_path: Path, public: Path) -> Callable[..., list[str]]:
    """The codes and details of what is found in a module with this saved_model.pb and these files."""

    def find(saved_model: bytes | None = None, files: Mapping[str, bytes | str] | None = None) -> list[str]:
        basis: dict[str, bytes | str] = {"saved_model.pb": saved_model or model(), "README.md": README}
        directory = write(tmp_path / "looked-at", {**basis, **(files or {})})
        findings = publish(directory, NAME, public, dry_run=True).findings
        return [f"{code}: {detail}" for code, detail in findings]

    return find


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


# its place


def test_a_module_is_published_as_the_archive_that_pack_makes(module: Path, public: Path, tmp_path: Path) -> None:
    published = publish(module, NAME, public)
    archive = public / "acme" / "half-plus-two" / "1.tar.gz"
    assert published.path == str(archive)
    assert everything(public) == ["acme", "acme/half-plus-two", "acme/half-plus-two/1.tar.gz"]
    assert archive.read_bytes() == Path(pack(module, tmp_path / "packed").path).read_bytes()
    assert published.digest == f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    assert published.findings == ()


def test_an_archive_is_as_old_as_what_is_in_it(module: Path, public: Path, tmp_path: Path) -> None:
    for path in module.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    os.utime(module / "README.md", (1_200_000_000, 1_200_000_000))
    assert Path(publish(module, NAME, public).path).stat().st_mtime == 1_200_000_000
    packed = pack(module, tmp_path / "packed.tar.gz").path
    os.utime(packed, (1_100_000_000, 1_100_000_000))
    assert Path(publish(packed, "acme/m/1", public).path).stat().st_mtime == 1_100_000_000
    os.utime(module / "README.md", (4_000_000_000, 4_000_000_000))
    assert Path(publish(module, "acme/m/2", public).path).stat().st_mtime <= time.time()


def test_an_archive_is_published_as_its_directory_would_be(module: Path, public: Path, tmp_path: Path) -> None:
    by_pack = pack(module, tmp_path / "packed.tar.gz")
    with tarfile.open(tmp_path / "other.tgz", "w:gz", format=tarfile.PAX_FORMAT) as other:
        other.add(module, ".")
    assert publish(by_pack.path, NAME, public).digest == by_pack.digest
    assert publish(tmp_path / "other.tgz", "acme/half-plus-two/2", public).digest == by_pack.digest
    assert everything(public / "acme" / "half-plus-two") == ["1.tar.gz", "2.tar.gz"]


@pytest.mark.parametrize("taken", ["7.tar.gz", "7"])
def test_a_version_that_is_there_is_never_replaced(taken: str, module: Path, public: Path) -> None:
    there = public / "acme" / "m" / taken
    write(there.parent, {taken: b"mine"}) if "." in taken else there.mkdir(parents=True)
    before = everything(public)
    for dry_run in (False, True):
        with pytest.raises(model_errors.PathExists, match=r"acme/m/7 is published already.*publish acme/m/8 instead"):
            publish(module, "acme/m/7", public, dry_run=dry_run)
    assert everything(public) == before
    assert publish(module, "acme/m/3", public).findings[0].code == "not-latest"


def test_of_two_who_publish_the_same_version_at_once_one_does(module: Path, public: Path) -> None:
    meet = threading.Barrier(2, timeout=20)
    outcomes: list[object] = []

    def meet_at_the_end(done: int, total: int) -> None:
        if done == total:
            meet.wait()

    def one(label: str) -> None:
        own = write(module.parent / label, {"saved_model.pb": model(), "README.md": label})
        try:
            outcomes.append(publish(own, NAME, public, progress=meet_at_the_end))
        except model_errors.PathExists:
            outcomes.append(None)

    threads = [threading.Thread(target=one, args=(label,)) for label in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    winners = [outcome for outcome in outcomes if isinstance(outcome, Published)]
    assert (len(outcomes), len(winners)) == (2, 1)
    data = Path(winners[0].path).read_bytes()
    assert winners[0].digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert everything(public / "acme" / "half-plus-two") == ["1.tar.gz"]


def test_what_is_interrupted_leaves_nothing_that_a_host_would_serve(module: Path, public: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for source in (module, pack(module, tmp_path / "packed.tar.gz").path):
        with pytest.raises(KeyboardInterrupt):
            publish(source, NAME, public, progress=interrupt)
    assert everything(public) == ["acme", "acme/half-plus-two"]


def test_a_dry_run_says_the_same_and_changes_nothing(module: Path, public: Path) -> None:
    tried = publish(module, NAME, public, dry_run=True)
    assert everything(public) == []
    assert publish(module, NAME, public) == tried


def test_what_a_host_would_not_find_there_is_refused(module: Path, public: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (public / "linked").symlink_to(tmp_path / "elsewhere")
    write(public / "acme" / "module", {"saved_model.pb": model()})
    for name, why in (("linked/m/1", "symbolic link"), ("acme/module/1", "a module itself")):
        with pytest.raises(model_errors.ExportInvalid, match=why):
            publish(module, name, public)
    with pytest.raises(hubclient.NotFound, match="no directory"):
        publish(module, NAME, public / "nowhere")
    assert everything(tmp_path / "elsewhere") == []


def test_what_is_no_directory_cannot_be_published_to(module: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(hubclient.NotFound):
        publish(module, NAME, tmp_path / "file")
    (tmp_path / "public").mkdir()
    write(tmp_path / "public", {"acme": "a file"})
    with pytest.raises(model_errors.ExportInvalid, match="not a directory"):
        publish(module, NAME, tmp_path / "public")


@needs_root
def test_nobody_publishes_to_another_users_directory() -> None:
    with directory_of(ALICE) as root:
        place = Path(root)

        def prepare() -> None:
            write(place / "module", {"saved_model.pb": model(), "README.md": README})
            (place / "public").mkdir(0o755)
            place.chmod(0o755)

        as_user(ALICE, prepare)
        for dry_run in (False, True):
            with pytest.raises(hubclient.AccessDenied):
                as_user(BOB, lambda: publish(place / "module", NAME, place / "public", dry_run=dry_run))  # noqa: B023
        (place / "module" / "saved_model.pb").chmod(0o600)
        with pytest.raises(hubclient.AccessDenied, match="saved_model"):
            as_user(BOB, lambda: publish(place / "module", NAME, place / "public"))
        path = as_user(ALICE, lambda: publish(place / "module", NAME, place / "public").path)
        assert as_user(BOB, lambda: hashlib.sha256(Path(path).read_bytes()).hexdigest())


# names


def test_a_name_is_publisher_model_and_version() -> None:
    assert parse_name("acme/encoder/0") == ("acme/encoder", 0)
    assert str(parse_name("acme/vision-2/v1.5_big/12")) == "acme/vision-2/v1.5_big/12"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("encoder/1", "publisher/model/version"),
        ("", "publisher/model/version"),
        ("acme/encoder", "publisher/model/version"),
        ("acme/encoder/", "version ''"),
        ("acme/encoder/latest", "whole number"),
        ("acme/encoder/01", "leading zeros"),
        ("acme/encoder/-1", "whole number"),
        ("acme/encoder/\N{ARABIC-INDIC DIGIT ONE}", "whole number"),
        ("acme/my encoder/1", "'my encoder' cannot be a part"),
        ("acme/encodér/1", "cannot be a part"),
        ("/acme/encoder/1", "'' cannot be a part"),
        ("acme/../encoder/1", "'..' cannot be a part"),
        ("acme/.hidden/1", "cannot be a part"),
        ("-/static/1", "cannot be a part"),
        ("acme/a\0b/1", "cannot be a part"),
        ("acme/1/2", "only the version"),
        ("acme/encoder.part/1", "being written"),
        ("acme/1.tar.gz/1", "being written"),
        ("api/models/1", "cannot be a publisher"),
        ("/".join("a" * 17) + "/1", "more than 16 parts"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_reason(name: str, why: str, module: Path, public: Path) -> None:
    with pytest.raises(model_errors.ExportInvalid, match=why):
        publish(module, name, public)
    assert everything(public) == []


# archives


@pytest.mark.parametrize(
    "member",
    [
        ("../out", b"x"),
        ("/out", b"x"),
        ("a//b", b"x"),
        ("./saved_model.pb", b"twice"),
        ("saved_model.pb/below", b"x"),
        ("new\nline", b"x"),
    ],
)
def test_an_archive_writes_nothing_beside_its_module(member: tuple[str, bytes], public: Path, tmp_path: Path) -> None:
    archive = tar(tmp_path / "odd.tar.gz", ("saved_model.pb", model()), member)
    with pytest.raises(model_errors.ExportInvalid):
        publish(archive, NAME, public)
    assert everything(public) == []
    assert everything(tmp_path) == ["odd.tar.gz", "public"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_not_published(kind: bytes, public: Path, tmp_path: Path) -> None:
    info = tarfile.TarInfo("odd")
    info.type, info.linkname = kind, "saved_model.pb"
    with pytest.raises(model_errors.ExportInvalid, match="neither a file nor a directory"):
        publish(tar(tmp_path / "odd.tar.gz", ("saved_model.pb", model()), info), NAME, public)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "saved_model.pb").symlink_to("/etc/passwd")
    with pytest.raises((model_errors.ExportInvalid, hubclient.NotAModule)):
        publish(tmp_path / "linked", NAME, public)


@pytest.mark.parametrize("damage", ["a flipped byte", "cut off", "not gzip", "not tar"])
def test_a_damaged_archive_is_refused(damage: str, module: Path, public: Path, tmp_path: Path) -> None:
    good = Path(pack(module, tmp_path / "good").path).read_bytes()
    (tmp_path / "bad").write_bytes(
        {
            "a flipped byte": good[:-6] + bytes([good[-6] ^ 1]) + good[-5:],  # of the checksum
            "cut off": good[: len(good) // 2],
            "not gzip": b"<html>",
            "not tar": archives.compressed(b"no header" * 200),
        }[damage]
    )
    with pytest.raises(hubclient.ArchiveCorrupt):
        publish(tmp_path / "bad", NAME, public)
    assert everything(public) == []


def test_what_is_no_module_is_refused(public: Path, tmp_path: Path) -> None:
    empty = tar(tmp_path / "empty.tar.gz", ("readme.txt", b"x"))
    damaged = write(tmp_path / "damaged", {"saved_model.pb": b"\xff" * 100})
    for source in (empty, damaged, public):
        with pytest.raises(hubclient.NotAModule):
            publish(source, NAME, public)
    with pytest.raises(hubclient.NotFound):
        publish(tmp_path / "nowhere", NAME, public)
    assert everything(public) == []


# what there is to say


def test_missing_documentation_is_said(found: Callable[..., list[str]]) -> None:
    assert found() == []
    assert found(files={"README.md": " \n"})[0].startswith("docs-missing: README.md is empty")
    assert found(files={"README.md": b"\xff\xfe"})[0].startswith("docs-unreadable:")
    assert found(files={"README.md": "x" * (512 * 1024 + 1)})[0].startswith("docs-unreadable: README.md is larger")


def test_a_module_without_a_readme_is_published_all_the_same(public: Path, tmp_path: Path) -> None:
    published = publish(write(tmp_path / "bare", {"saved_model.pb": model()}), NAME, public)
    assert [finding.code for finding in published.findings] == ["docs-missing"]


def test_a_readme_of_the_model_stands_for_that_of_a_version(public: Path, tmp_path: Path) -> None:
    write(public / "acme" / "half-plus-two", {"README.md": README})
    assert publish(write(tmp_path / "bare", {"saved_model.pb": model()}), NAME, public).findings == ()


def test_links_of_the_documentation_that_lead_to_nothing_are_said() -> None:
    files = {"README.md", "docs/plot one.png", "saved_model.pb"}
    text = """[a](docs/plot%20one.png "A plot") ![b](<gone.png>) [c](https://h.example/x) [d](#part) [e](docs/)
    [f](../up.md) ![g](gone.png?raw=1#x) [h](//h.example/x) [i](mailto:a@h.example) [j](./saved_model.pb)
```
[k](in/code)
```
"""
    assert broken_links(text, files) == ["gone.png", "../up.md", "gone.png?raw=1#x"]


def test_operations_that_touch_files_are_said(found: Callable[..., list[str]]) -> None:
    read = g.node("y", "ReadFile", "x")
    assert found(model(output=read)) == ["touches-files: the graph reads files of whoever runs it: ReadFile"]
    inner = g.define("inner", [g.node("w", "WriteFile", "a", "b"), g.node("p", "EagerPyFunc", "a")])
    assert found(model(library=[inner])) == [
        "calls-python: the graph calls Python while it runs, which only the process that made it has: EagerPyFunc",
        "touches-files: the graph writes files of whoever runs it: WriteFile",
    ]


def test_the_saver_may_touch_files_and_what_never_runs_too(found: Callable[..., list[str]]) -> None:
    unused = g.node("unused", "WriteFile", "x", "x")
    assert found(model(unused)) == []
    restore = g.restore("restore", ["w"])
    prefix = g.node("prefix", "Placeholder", dtype=g.dtype(g.STRING))
    assert found(model(prefix, *restore, restore_op="restore")) == []
    called = g.node("call", "PartitionedCall", "prefix", f=g.function("traced_restore"))
    traced = g.define("traced_restore", [g.node("r", "RestoreV2", "prefix", "prefix", "prefix")])
    assert found(model(prefix, called, library=[traced], restore_op="call")) == []
    assert found(model(prefix, called, library=[traced])) == [
        "touches-files: the graph reads files of whoever runs it: RestoreV2"
    ]


@pytest.mark.parametrize("path", ["/home/me/words.txt", "C:\\words.txt", "gs://bucket/words.txt"])
def test_a_constant_that_is_a_path_of_one_machine_is_said(path: str, found: Callable[..., list[str]]) -> None:
    constant = g.node("c", "Const", dtype=g.dtype(g.STRING), value=g.strings(path))
    uses = g.node("y", "Use", "x", "c")
    assert found(model(constant, output=uses)) == [
        f"absolute-path: the graph names {path}, a place that other machines may not have"
    ]
    assert found(model(constant, output=uses, assets={"c:0": "a.txt"}), {"assets/a.txt": "a"}) == []


@pytest.mark.parametrize("texts", [["/m/0dgw9r", "/m/09x0r"], ["a /path/in a sentence"], ["/one"], ["words.txt"]])
def test_other_constants_are_left_alone(texts: list[str], found: Callable[..., list[str]]) -> None:
    constant = g.node("c", "Const", dtype=g.dtype(g.STRING), value=g.strings(*texts))
    assert found(model(constant, output=g.node("y", "Use", "x", "c"))) == []


def test_what_nobody_could_load_is_an_error(found: Callable[..., list[str]], public: Path) -> None:
    for saved_model, why in (
        (model(output=g.node("y", "Identity", "gone")), "no node 'gone'"),
        (model(assets={"x:0": "gone.txt"}), "asset 'gone.txt'"),
        (model(assets={"x:0": "../README.md"}), "asset '../README.md'"),
        (
            model(
                g.variable("w"), *g.restore("restore", ["w"], prefix="x"), output=g.node("y", "Use", "x", "w"),
                restore_op="restore",
            ),
            r"no variables/variables\.index",
        ),
    ):  # fmt: skip
        with pytest.raises(model_errors.ModuleBroken, match=why):
            found(saved_model)
    assert everything(public) == []


def test_the_common_signatures_that_it_meets_are_named(public: Path, tmp_path: Path) -> None:
    images = archives.field(
        1, archives.field(1, "images") + archives.field(2, archives.tensor_info("x", 1, -1, 8, 8, 3))
    )
    vectors = archives.field(2, archives.field(1, "default") + archives.field(2, archives.tensor_info("y", 1, -1, 4)))
    signatures = b"".join(
        archives.field(5, archives.field(1, name) + archives.field(2, images + vectors))
        for name in ("default", "image_feature_vector")
    )
    graph = g.graph([X, g.node("y", "Identity", "x", T=g.dtype())])
    data = archives.field(2, archives.field(1, archives.field(4, "serve")) + archives.field(2, graph) + signatures)
    published = publish(write(tmp_path / "image", {"saved_model.pb": data}), NAME, public)
    assert published.common_signatures() == {"image feature vector": "image_feature_vector"}


def test_a_module_in_text_or_without_signatures_is_said_to_be_so(tmp_path: Path, public: Path) -> None:
    text = write(tmp_path / "text", {"saved_model.pbtxt": "saved_model_schema_version: 1", "README.md": README})
    assert [finding.code for finding in publish(text, NAME, public, dry_run=True).findings] == ["text-form"]
    bare = write(tmp_path / "bare", {"saved_model.pb": g.saved_model(g.graph([X]), {}), "README.md": README})
    assert [finding.code for finding in publish(bare, NAME, public, dry_run=True).findings] == ["signatures-missing"]
