"""What `publish` says of modules that TensorFlow wrote: nothing of good ones, and all that is odd in the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubclient.publishing import Published, publish
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")


def dry(directory: str | Path, to: Path) -> Published:
    return publish(directory, "acme/m/1", to, dry_run=True)


@pytest.mark.parametrize(
    "name", ["tf1/text", "tf1/image", "tf1/partitioned", "tf2/text_embedding", "tf2/two_signatures"]
)
def test_of_a_module_in_order_nothing_but_its_missing_page_is_said(name: str, modules: Modules, tmp_path: Path) -> None:
    assert [finding.code for finding in dry(modules(name), tmp_path).findings] == ["docs-missing"]


def test_the_common_signature_is_named(modules: Modules, tmp_path: Path) -> None:
    assert dry(modules("tf1/image"), tmp_path).common_signatures() == {"image feature vector": "image_feature_vector"}
    assert dry(modules("tf2/text_embedding"), tmp_path).common_signatures() == {"text embedding": "default"}


def test_files_python_and_paths_in_a_graph_are_said(tmp_path: Path) -> None:
    class Odd(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])  # type: ignore[untyped-decorator]
        def __call__(self, name: Any) -> Any:
            tf.io.write_file("/srv/somewhere/log.txt", name)
            return tf.io.read_file(tf.py_function(lambda text: text, [name], tf.string))

    odd = Odd()
    tf.saved_model.save(odd, str(tmp_path / "odd"), signatures=odd.__call__)
    said = [(finding.code, finding.detail.rpartition(": ")[2]) for finding in dry(tmp_path / "odd", tmp_path).findings]
    assert said[1:] == [
        ("calls-python", "EagerPyFunc"),
        ("touches-files", "ReadFile"),
        ("touches-files", "WriteFile"),
        ("absolute-path", "the graph names /srv/somewhere/log.txt, a place that other machines may not have"),
    ]
