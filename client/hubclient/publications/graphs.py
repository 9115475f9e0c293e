"""What the graphs of a module do beside computing: files that they touch, Python that they call, paths of one machine.

Law: what is said can run. Operations count that signatures and initial operations reach, and those in functions, which
TensorFlow 2's objects may call; not those of the saver, whose trade files are. What nobody could load is an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from hubclient.capi import meta_graph
from hubclient.capi.graph_def import Graph
from hubclient.capi.meta_graph import MetaGraph
from hubclient.capi.node_def import STRING, Node
from hubclient.capi.reaching import Reach, node_name
from hubclient.exports.operations import PYTHON
from hubclient.model_errors import ModuleBroken
from hubclient.publications.findings import Finding

# Operations of TensorFlow whose input is the name of a file (its api_def). Tables that are made from an asset are not
# among them, nor are what reads with a reader that one of them made.
READS = frozenset(
    (
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "LMDBDataset",
        "LMDBReader",
        "LoadAndRemapMatrix",
        "LoadDataset",
        "MatchingFiles",
        "MatchingFilesDataset",
        "ReadFile",
        "RecordInput",
        "Restore",
        "RestoreSlice",
        "RestoreV2",
        "SqlDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "TFRecordReader",
        "TFRecordReaderV2",
        "TextLineDataset",
        "TextLineReader",
        "TextLineReaderV2",
        "WholeFileReader",
        "WholeFileReaderV2",
    )
)
WRITES = frozenset(
    (
        "CreateSummaryDbWriter",
        "CreateSummaryFileWriter",
        "DatasetToTFRecord",
        "MergeV2Checkpoints",
        "Save",
        "SaveDataset",
        "SaveDatasetV2",
        "SaveSlices",
        "SaveV2",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "WriteFile",
    )
)
_ABSOLUTE = re.compile(r"(?:/[^/\s]+){2,}/?|[A-Za-z]:[\\/]\S+|(?:file|gs|hdfs|s3)://\S+")


def findings(directory: str, variants: Collection[tuple[str, ...]], files: Collection[str]) -> Iterator[Finding]:
    """What the variants with these tags do; `files` are those of the module, by their paths in it.

    Raises `ModuleBroken` for a graph that refers to what it does not have, and for an asset that is not there.
    """
    operations: set[str] = set()
    paths: set[str] = set()
    has_checkpoint = "variables/variables.index" in files
    for tags in sorted(set(variants)):
        variant = meta_graph.read(directory, tags)
        _check_assets(variant, files)
        for node in _running(variant):
            operations.add(node.op)
            if (path := _absolute_path(node)) is not None and node.name not in map(node_name, variant.assets):
                paths.add(path)
            if node.op == "VarHandleOp" and variant.restore_op and not has_checkpoint:
                raise ModuleBroken(f"{directory} has variables, but no variables/variables.index with their values")
    for found, code, what in (
        (operations & PYTHON, "calls-python", "calls Python while it runs, which only the process that made it has"),
        (operations & READS, "touches-files", "reads files of whoever runs it"),
        (operations & WRITES, "touches-files", "writes files of whoever runs it"),
    ):
        if found:
            yield Finding(code, f"the graph {what}: {', '.join(sorted(found))}")
    for path in sorted(paths):
        yield Finding("absolute-path", f"the graph names {path}, a place that other machines may not have")


def _check_assets(variant: MetaGraph, files: Collection[str]) -> None:
    for name in variant.assets.values():
        if f"assets/{name}" not in files:
            raise ModuleBroken(f"the module refers to the asset {name!r}, and has no such file below assets/")


def _running(variant: MetaGraph) -> Iterator[Node]:
    graph = Graph(variant.data, variant.graph)
    saver, running = Reach(graph), Reach(graph)
    saver.add(name for name in (variant.save_tensor, variant.restore_op) if name)
    running.add(_entrances(variant))
    yield from running.nodes.values()
    for function in graph.function_places.keys() - saver.functions:
        yield from graph.function_nodes(function).values()


def _entrances(variant: MetaGraph) -> Iterator[str]:
    """Tensors and operations at which a run of the graph may begin."""
    for signature in variant.signatures.values():
        for spec in (*signature.inputs.values(), *signature.outputs.values()):
            yield from (name for name in (spec.name, *spec.components) if name)
    yield from (name for name in (variant.init_op, *variant.table_initializers) if name)


def _absolute_path(node: Node) -> str | None:
    """The path that a constant consists of. Lists are left alone: words of a vocabulary look like anything."""
    if node.op != "Const" or node.type(b"dtype") != STRING:
        return None
    try:
        texts = node.tensor_strings()
    except ModuleBroken:  # it is no text, so no path
        return None
    return texts[0] if len(texts) == 1 and _ABSOLUTE.fullmatch(texts[0]) else None
