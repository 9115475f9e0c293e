"""The decisions of a plan, on graphs made by hand: what is kept, restored and initialised, and what is refused."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubclient.capi.graph_def import Graph
from hubclient.capi.plan import Initialization, Plan, Restore, plan
from hubclient.capi.wire import encode, fields, messages
from hubclient.contract.errors import NotAModule
from hubclient.model_errors import ModuleBroken, ModuleUnsupported, SignatureNotFound, VariantNotFound
from tests.support import graph_bytes as g
from tests.support.archives import field

X, PREFIX = g.node("x", "Placeholder", dtype=g.dtype()), g.node("prefix", "Placeholder", dtype=g.dtype(g.STRING))
USES_W = g.node("y", "Use", "x", "w")
SIGNATURE = {"serving_default": (["x:0"], ["y:0"])}

Planner = Callable[..., Plan]


@pytest.fixture
def planned(tmp_path: Path) -> Planner:
    """The plan of these bytes, of a module with a checkpoint and the asset words.txt."""

    def of(data: bytes, names: Sequence[str] | None = None) -> Plan:
        (tmp_path / "saved_model.pb").write_bytes(data)
        for file in ("variables/variables.index", "assets/words.txt"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
        return plan(str(tmp_path), ("serve",), names)

    return of


def model(*nodes: bytes, library: Sequence[bytes] = (), collections: Mapping[str, bytes] | None = None) -> bytes:
    """A model with one signature, from x to y, and without a saver."""
    return g.saved_model(g.graph([X, *nodes], library), SIGNATURE, collections=collections)


def with_saver(body: Sequence[bytes], arguments: Sequence[str], inputs: Sequence[str], *nodes: bytes) -> bytes:
    """y uses w, and the saver is a function of TensorFlow 2."""
    call = g.node("restore", "StatefulPartitionedCall", *inputs, f=g.function("restorer"))
    graph = g.graph([X, PREFIX, g.variable("w"), USES_W, call, *nodes], [g.define("restorer", body, arguments)])
    return g.saved_model(graph, SIGNATURE, restore_op="restore")


def kept(made: Plan) -> tuple[set[str], set[str]]:
    """The nodes and the functions of the planned graph."""
    graph = Graph(made.graph_def, (0, len(made.graph_def)))
    return set(graph.node_places), set(graph.function_places)


def test_what_a_signature_does_not_reach_is_left_out(planned: Planner) -> None:
    made = planned(model(g.node("y", "Neg", "x:0", "^first"), g.node("first", "NoOp"), g.node("other", "Neg", "x")))
    assert kept(made)[0] == {"x", "y", "first"}
    assert list(messages(made.graph_def, (0, len(made.graph_def)), 4))  # versions
    assert (made.restores, made.checkpoint, made.initializations) == ((), None, ())


def test_a_loop_in_the_graph_and_nodes_that_are_to_be_beside_another_are_kept(planned: Planner) -> None:
    loop = g.node("merge", "Merge", "x", "next"), g.node("next", "NextIteration", "merge", _class=g.beside("rock"))
    assert kept(planned(model(g.node("y", "Exit", "merge"), *loop, g.node("rock", "NoOp"))))[0] == {
        *("x", "y", "merge", "next", "rock")
    }


def test_functions_are_kept_however_they_are_referred_to(planned: Planner) -> None:
    bodies = {
        "called": [g.node("call", "as_an_operation")],
        "as_an_operation": [g.node("if", "If", then_branch=g.function("branch"))],
        "branch": [g.node("case", "Case", branches=g.functions("one", "two"))],
        "one": [g.node("nested", "Map", f=g.function("two", {"g": g.function("in_an_attribute")}))],
        "two": [g.node("back", "Call", f=g.function("called"))],
        "in_an_attribute": [],
        "gradient": [g.node("call", "of_gradient")],
        "of_gradient": [],
        "unused": [],
    }
    library = [g.define(name, body) for name, body in bodies.items()]
    graph = g.graph(
        [X, g.node("y", "Call", "x", f=g.function("called"))], library, {"one": "gradient", "unused": "one"}
    )
    made = planned(g.saved_model(graph, SIGNATURE))
    assert kept(made)[1] == bodies.keys() - {"unused"}
    graph_after = Graph(made.graph_def, (0, len(made.graph_def)))
    assert {name: of for name, (of, _) in graph_after.gradients.items()} == {"one": "gradient"}


def test_grappler_is_switched_off_wherever_a_function_is_called(planned: Planner) -> None:
    own = encode(1, b"device")
    call = {"f": g.function("inner"), "config_proto": g.string(own)}
    inner = [g.node("a", "Neg"), g.node("b", "Call", **call), g.node("c", "Neg"), g.node("d", "Call", **call)]
    made = planned(
        model(g.node("y", "Call", "x", **call), library=[g.define("inner", inner, ["x"])]),
    )
    graph = Graph(made.graph_def, (0, len(made.graph_def)))
    nodes = [graph.node("y"), *graph.function_nodes("inner").values()]
    assert [node.name for node in nodes] == ["y", "a", "b", "c", "d"]
    without_grappler = encode(10, encode(10, encode(19, 1)))
    assert [node.string(b"config_proto") for node in nodes] == [
        *(own + without_grappler, None, own + without_grappler, None, own + without_grappler)
    ]
    assert graph.function("inner").calls == ("inner",)


@pytest.mark.parametrize(
    ("constant", "sizes", "expected"),
    [(2 << 20, (1,), True), (1 << 10, (1,), False), (2 << 20, (1000, 1000), False), (2 << 20, (400, 1000), True)],
)
def test_grappler_is_kept_for_large_constants_unless_the_variables_are_larger(
    constant: int, sizes: tuple[int, ...], expected: bool, planned: Planner
) -> None:
    weights = g.node("weights", "Const", dtype=g.dtype(), value=field(8, field(4, bytes(constant))))
    words = g.node("words", "Const", dtype=g.dtype(g.STRING), value=field(8, field(8, bytes(8 << 20))))
    call = g.node("c", "Call", f=g.function("f"), config_proto=g.string(b""))
    nodes = g.variable("w", sizes=sizes), g.node("y", "Use", "x", "w", "c", "words"), call, words
    data = model(
        *nodes, library=[g.define("f", [weights])], collections={"variables": g.variables_of(g.variable_def("w"))}
    )
    made = planned(data)
    assert made.keep_grappler is expected
    node = Graph(made.graph_def, (0, len(made.graph_def))).node("c")
    assert (node.string(b"config_proto") == b"") is expected


def test_a_savers_function_tells_the_keys(planned: Planner) -> None:
    body = [
        *g.restore("one", ["unused", "key/of/w"], ["", "4 0,2"], "file_prefix"),
        *g.restore("two", ["key/of/v"], prefix="file_prefix"),
        g.node("i", "Identity", "one:tensors:1"),
        g.node("j", "Identity", "i:output:0"),
        g.node("assign", "AssignVariableOp", "a", "j:output:0"),
        g.node("assign_1", "AssignVariableOp", "b", "two:tensors:0"),
        g.node("done", "Identity", "file_prefix", "^assign"),
    ]
    others = g.variable("v"), g.node("same", "Identity", "w")
    made = planned(with_saver(body, ["file_prefix", "a", "b"], ["prefix", "same", "v"], *others))
    assert made.restores == (Restore("key/of/w", "4 0,2", g.FLOAT, "w", is_resource=True),)
    assert made.checkpoint is not None
    assert made.checkpoint.endswith("/variables/variables")
    assert kept(made) == ({"x", "w", "y"}, set())


def test_a_constant_of_many_equal_strings_may_be_written_short(planned: Planner) -> None:
    body = [
        *g.restore("r", ["w", "v"], [""], "file_prefix"),
        g.node("assign", "AssignVariableOp", "a", "r:tensors:1"),
    ]
    made = planned(with_saver(body, ["file_prefix", "a"], ["prefix", "w"]))
    assert [(restore.key, restore.slice_spec) for restore in made.restores] == [("v", "")]


def test_another_node_of_the_same_variable_is_restored_for_it(planned: Planner) -> None:
    body = [*g.restore("r", ["k"], prefix="file_prefix"), g.node("assign", "AssignVariableOp", "a", "r:tensors:0")]
    made = planned(with_saver(body, ["file_prefix", "a"], ["prefix", "alias"], g.variable("alias", shared="w")))
    assert [restore.node for restore in made.restores] == ["alias"]
    assert "alias" in kept(made)[0]


def test_a_savers_nodes_tell_the_keys_of_all_shards(planned: Planner) -> None:
    ref = g.node("w", "VariableV2", dtype=g.dtype(), shape=g.shape(2))
    nodes = [
        *(PREFIX, ref, g.variable("v"), g.node("y", "Use", "x", "w", "v")),
        *(*g.restore("r1", ["kw"]), g.node("a1", "Assign", "w", "r1"), g.node("shard_1", "NoOp", "^a1")),
        *(*g.restore("r2", ["k", "kv"], ["", "6 2,2"]), g.node("i", "Identity", "r2:1")),
        *(g.node("a2", "AssignVariableOp", "v", "i"), g.node("shard_2", "NoOp", "^a2")),
        g.node("restore_all", "NoOp", "^shard_1", "^shard_2"),
    ]
    made = planned(g.saved_model(g.graph([X, *nodes]), SIGNATURE, restore_op="restore_all"))
    assert sorted(made.restores) == [
        Restore("kv", "6 2,2", g.FLOAT, "v", is_resource=True),
        Restore("kw", "", g.FLOAT, "w", is_resource=False),
    ]


def test_without_a_saver_variables_tell_their_keys_and_parts(planned: Planner) -> None:
    packed = field(2, bytes([7, 4])) + field(3, bytes([3, 0])) + field(4, bytes([2, 4]))
    unpacked = field(2, 7) + field(2, 4) + field(3, 5) + field(3, 0) + field(4, 2) + field(4, 4)
    names = "w", "part_1", "part_2", "unused"
    nodes = [g.variable(name) for name in names]
    definitions = [
        *(g.variable_def("w"), g.variable_def("part_1", field(1, "whole") + packed)),
        *(g.variable_def("part_2", field(1, "whole") + unpacked), g.variable_def("unused"), g.variable_def("gone")),
    ]
    made = planned(
        model(
            *nodes,
            g.node("y", "Use", "x", "w", "part_1", "part_2"),
            collections={"variables": g.variables_of(*definitions)},
        )
    )
    assert [(restore.key, restore.slice_spec) for restore in made.restores] == [
        *(("w", ""), ("whole", "7 4 3,2:0,4"), ("whole", "7 4 5,2:0,4"))
    ]


@pytest.mark.parametrize(
    "body",
    [
        [g.node("import", "LookupTableImportV2", "a", "r:tensors:0")],
        [g.node("cast", "Cast", "r:tensors:0"), g.node("assign", "AssignVariableOp", "a", "cast:y:0")],
        [
            g.node("again", "AssignVariableOp", "a", "r:tensors:1"),
            g.node("one", "AssignVariableOp", "a", "r:tensors:0"),
        ],
        [g.node("call", "PartitionedCall", "a", f=g.function("restorer"))],
    ],
)
def test_what_is_restored_in_an_unknown_way_is_unsupported_if_it_is_wanted(body: list[bytes], planned: Planner) -> None:
    body = [*g.restore("r", ["k", "l"], prefix="file_prefix"), *body]
    with pytest.raises(ModuleUnsupported, match="how 'w' is restored"):
        planned(with_saver(body, ["file_prefix", "a"], ["prefix", "w"]))
    assert planned(with_saver(body, ["file_prefix", "a"], ["prefix", "v"], g.variable("v"))).restores == ()


def test_any_resource_that_is_restored_in_an_unknown_way_is_unsupported(planned: Planner) -> None:
    nodes = [
        *(
            PREFIX,
            g.node("trees", "TreesResourceHandleOp"),
            g.node("y", "Predict", "x", "trees"),
            *g.restore("r", ["k"]),
        ),
        *(g.node("read", "TreesDeserialize", "trees", "r"), g.node("restore", "NoOp", "^read")),
    ]
    with pytest.raises(ModuleUnsupported, match="how 'trees' is restored"):
        planned(g.saved_model(g.graph([X, *nodes]), SIGNATURE, restore_op="restore"))


TABLE = g.node("t", "HashTableV2", shared_name=g.string("table"))
OTHER_TABLE = g.node("u", "HashTableV2", shared_name=g.string("other"))


def test_of_the_initial_operation_only_what_a_signature_can_see_is_run(planned: Planner) -> None:
    nodes = [
        *(TABLE, OTHER_TABLE, g.node("y", "Find", "x", "t"), g.node("keys", "Const", dtype=g.dtype())),
        *(g.node("fill_t", "InitializeTableV2", "t", "keys"), g.node("fill_u", "InitializeTableV2", "u", "keys")),
        *(g.node("group", "NoOp", "^fill_u", "^fill_t"), g.node("init", "NoOp", "^group", "^group")),
    ]
    for key in ("saved_model_main_op", "legacy_init_op", "table_initializer"):
        made = planned(model(*nodes, collections={key: g.nodes_of("init")}))
        assert made.initializations == (Initialization({}, ("fill_t",)),)
        assert kept(made)[0] == {"x", "y", "t", "keys", "fill_t"}


def test_a_table_that_another_one_is_filled_from_is_filled_too(planned: Planner) -> None:
    nodes = [
        *(TABLE, OTHER_TABLE, g.node("y", "Find", "x", "t"), g.node("keys", "Const", dtype=g.dtype())),
        *(g.node("found", "LookupTableExportV2", "u"), g.node("fill_t", "InitializeTableV2", "t", "found")),
        *(g.node("fill_u", "InitializeTableV2", "u", "keys"), g.node("init", "NoOp", "^fill_u", "^fill_t")),
    ]
    (initialization,) = planned(model(*nodes, collections={"legacy_init_op": g.nodes_of("init")})).initializations
    assert initialization.targets == ("fill_u", "fill_t")


def test_what_an_operation_changes_is_found_in_functions_and_in_doubt_it_is_run(planned: Planner) -> None:
    made_inside = g.define("make", [g.node("table", "HashTableV2", shared_name=g.string("inside"))])
    nodes = [
        *(g.node("t", "Call", f=g.function("make")), g.node("y", "Find", "x", "t"), OTHER_TABLE),
        *(g.node("fill_t", "Call", "t"), g.node("fill_u", "Call", "u"), g.node("unknown", "Call")),
        g.node("init", "NoOp", "^fill_t", "^fill_u", "^unknown"),
    ]
    data = model(*nodes, library=[made_inside], collections={"saved_model_main_op": g.nodes_of("init")})
    assert [each.targets for each in planned(data).initializations] == [("fill_t", "unknown")]


def test_files_are_fed_to_placeholders_and_written_into_constants(planned: Planner, tmp_path: Path) -> None:
    nodes = [
        *(
            TABLE,
            g.node("y", "Find", "x", "t"),
            g.node("p", "Placeholder"),
            g.node("c", "Const", value=g.strings("old")),
        ),
        g.node("fill", "Call", "t", "p", "c"),
    ]
    words = str(tmp_path / "assets" / "words.txt")
    files = {"p:0": "words.txt", "c:0": "words.txt", "unused:0": "missing"}
    fill = {"table_initializer": g.nodes_of("fill")}
    for data in (
        g.saved_model(g.graph([X, *nodes]), SIGNATURE, assets=files, collections=fill),
        model(*nodes, collections=fill | {"saved_model_assets": g.assets_of(files)}),
    ):
        made = planned(data)
        assert made.initializations == (Initialization({"p:0": words}, ("fill",)),)
        graph = Graph(made.graph_def, (0, len(made.graph_def)))
        assert graph.node("c").tensor_strings() == [words]


@pytest.mark.parametrize("file", ["", "/etc/passwd", "../saved_model.pb", "a/../../b", "a\0b"])
def test_a_file_outside_of_the_module_is_refused(file: str, planned: Planner) -> None:
    data = g.saved_model(
        g.graph([X, g.node("y", "Read", "x", "p"), g.node("p", "Const")]), SIGNATURE, assets={"p": file}
    )
    with pytest.raises(ModuleBroken, match="outside of its directory"):
        planned(data)


def test_only_the_initializers_of_variables_that_the_checkpoint_has_not_are_run(planned: Planner) -> None:
    names = "w", "local", "unused"
    nodes = [g.variable(name) for name in names] + [
        g.node(f"{name}/Assign", "AssignVariableOp", name) for name in names
    ]
    made = planned(
        model(
            *nodes,
            g.node("y", "Use", "x", "w", "local"),
            collections={
                "variables": g.variables_of(g.variable_def("w")),
                "local_variables": g.variables_of(g.variable_def("local"), g.variable_def("unused")),
            },
        )
    )
    assert made.initializations == (Initialization({}, ("local/Assign",)),)
    assert [restore.node for restore in made.restores] == ["w"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no graph"),
        (b"\x0a\xff", "cut off"),
        (field(2, field(1, field(4, "serve"))), "0 graphs"),
        (model(), "no node 'y'"),
        (model(g.node("y", "Neg", "gone:1")), "no node 'gone'"),
        (model(g.node("y", "Neg"), g.node("y", "Neg")), "a second node"),
        (model(g.node("y", "Neg"), library=[g.define("f", []), g.define("f", [])]), "a second node or function"),
        (model(b"\x0a\x01y\x12\x7f"), "cut off"),
        (model(b"\x0a\x01y\x12\x01\xff"), "not UTF-8"),
        (model(b"\x0a\x01y" + b"\xff" * 11), "too long"),
        (model(b"\x0a\x01y\x0b"), "wire type 3"),
        (model(g.node("y", "Neg"), collections={"legacy_init_op": g.nodes_of("gone")}), "no node 'gone'"),
        (model(g.node("y", "Neg"), collections={"legacy_init_op": g.nodes_of("y", "x")}), "2 initial operations"),
        (with_saver([], ["file_prefix"], ["prefix", "w"]), "takes 1 arguments and gets 2"),
        (g.saved_model(g.graph([X]), {"s": ([""], [])}), "names no tensor"),
    ],
)
def test_what_is_damaged_is_said(data: bytes, message: str, planned: Planner) -> None:
    with pytest.raises(ModuleBroken, match=message):
        planned(data)


def test_functions_nested_without_end_are_refused(planned: Planner) -> None:
    nested = b""
    for _ in range(1000):
        nested = g.function("f", {"f": nested})
    with pytest.raises(ModuleBroken, match="nested more than"):
        planned(model(g.node("y", "Call", f=nested)))


def test_a_module_without_such_a_file_variant_or_signature_is_said_to_be_so(tmp_path: Path, planned: Planner) -> None:
    with pytest.raises(NotAModule, match=r"no .*saved_model\.pb"):
        plan(str(tmp_path), ("serve",))
    (tmp_path / "saved_model.pbtxt").touch()
    with pytest.raises(ModuleUnsupported, match="text form"):
        plan(str(tmp_path), ("serve",))
    data = model(g.node("y", "Neg", "x"))
    with pytest.raises(SignatureNotFound, match="it has 'serving_default'"):
        planned(data, ["nonsense"])
    with pytest.raises(VariantNotFound, match=r"has \['serve'\]"):
        plan(str(tmp_path), ("train",))
    with (tmp_path / "saved_model.pb").open("r+b") as file:
        file.truncate(1 << 31)
    with pytest.raises(ModuleBroken, match="larger than"):
        plan(str(tmp_path), ("serve",))


def test_chains_and_crowds_are_planned_in_time_that_grows_with_the_file(planned: Planner) -> None:
    count = 3000
    tables = [g.node(f"t{i}", "HashTableV2") for i in range(count)]
    chain = [g.node("keys0", "Const")] + [g.node(f"keys{i}", "Identity", f"keys{i - 1}") for i in range(1, count)]
    fills = [g.node(f"fill{i}", "Fill", f"t{i}", f"keys{count - 1}") for i in range(count)]
    library = [g.define(f"f{i}", [g.node("c", "Call", f=g.function(f"f{i + 1}"))]) for i in range(count)]
    calls = [g.node(f"c{i}", "Call", f=g.function(f"f{i}")) for i in range(count)]
    made = planned(
        model(
            *(*tables, *chain, *fills, *calls, g.node("y", "Use", "x", "t7", *(f"c{i}" for i in range(count)))),
            library=library,
            collections={"table_initializer": g.nodes_of(*(f"fill{i}" for i in range(count)))},
        )
    )
    assert made.initializations[0].targets[0] == "fill7"
    assert len(made.initializations[0].targets) > count // 2  # looking at each would have taken too long


def test_fields_that_it_does_not_know_are_skipped(planned: Planner) -> None:
    unknown = field(100, "text") + field(101, 7) + bytes.fromhex("b10600000000000000000d00000000")
    made = planned(model(g.node("y", "Neg", "x") + unknown, library=[g.define("f", []) + unknown]) + unknown)
    node = Graph(made.graph_def, (0, len(made.graph_def))).node("y")
    assert [number for number, *_ in fields(made.graph_def, node.start, node.end)][-4:] == [100, 101, 102, 1]


EXAMPLE = with_saver(
    [*g.restore("r", ["k"], prefix="file_prefix"), g.node("assign", "AssignVariableOp", "a", "r:tensors:0")],
    ["file_prefix", "a"],
    ["prefix", "w"],
)


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_give_a_plan_or_an_error_of_ours(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    chance = random.Random(seed)
    data = bytearray(EXAMPLE)
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.mkdir(exist_ok=True)
    (path / "saved_model.pb").write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
    with contextlib.suppress(ModuleBroken, ModuleUnsupported, VariantNotFound):
        plan(str(path), ("serve",))
