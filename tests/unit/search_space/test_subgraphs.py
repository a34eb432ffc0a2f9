"""Nodes inside nodes: branches and scans built by GraphBuilder, run by ONNX Runtime."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from search_space.conformance import graph_nodes
from search_space.graph.builder import GraphBuilder


@pytest.fixture
def g():
    return GraphBuilder(precision="fp32", context=8, depth=1, seed=0)


def vector_input(g):
    return g.input("x", "hidden", ir.DataType.FLOAT, ["tokens", 2])


def finished(g):
    model = onnx.load_from_string(ir.to_proto(g.model("test")).SerializeToString())
    onnx.checker.check_model(model)
    return model


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.asarray(x, np.float32)})


def several_rows(g, x):
    return g.op("Greater", g.op("Gather", g.op("Shape", x), g.ints(0)), g.ints(1))


def test_a_branch_runs_what_the_condition_says(g):
    x = vector_input(g)
    with g.scope("block"):
        doubled = g.op("Mul", x, g.float_scalar(2.0))
        y, z = g.branch(
            several_rows(g, x),
            lambda: (g.op("Add", doubled, g.float_scalar(10.0)), x),  # captured, and passed through
            lambda: (doubled, g.op("Neg", x)),
            outputs=2,
        )
    g.output("y", y, ["tokens", 2])
    g.output("z", z, ["tokens", 2])
    model = finished(g)
    np.testing.assert_array_equal(run(model, [[1, 2], [3, 4]]), [[[12, 14], [16, 18]], [[1, 2], [3, 4]]])
    np.testing.assert_array_equal(run(model, [[1, 2]]), [[[2, 4]], [[-1, -2]]])


def test_a_scan_carries_states_along_the_first_axis(g):
    x = vector_input(g)
    start = g.op("Mul", g.op("Gather", x, g.ints(0)), g.float_scalar(0.0))
    (total,), (running, same) = g.scan(
        lambda states, items: ([total := g.op("Add", states[0], items[0])], [total, items[0]]), [start], [x], outputs=2
    )
    g.output("total", total, [1, 2])
    g.output("running", running, ["tokens", 1, 2])
    g.output("same", same, ["tokens", 2])
    total, running, same = run(finished(g), [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(total, [[9, 12]])
    np.testing.assert_array_equal(running[:, 0], [[1, 2], [4, 6], [9, 12]])
    np.testing.assert_array_equal(same, [[1, 2], [3, 4], [5, 6]])


def test_subgraphs_nest_and_keep_the_blocks_name_while_constants_stay_outside(g):
    x = vector_input(g)

    def walk():
        start = g.op("Gather", x, g.ints(0))
        (total,), _ = g.scan(
            lambda states, items: ([g.op("Add", states[0], g.op("Mul", items[0], g.float_scalar(0.5)))], []),
            [start], [x], outputs=0,
        )  # fmt: skip
        return (total,)

    with g.scope("layers.0"):
        (y,) = g.branch(several_rows(g, x), walk, lambda: (g.op("Neg", x),), outputs=1)
    g.output("y", y, [1, 2])
    model = finished(g)
    nodes = list(graph_nodes(model.graph))
    assert {"If", "Scan", "Add", "Mul", "Neg"} <= {node.op_type for node in nodes}
    assert len({node.name for node in nodes}) == len(nodes)
    assert all(node.name.startswith("layers.0/") for node in nodes)
    inner = [attribute.g for node in nodes for attribute in node.attribute if attribute.type == attribute.GRAPH]
    assert len(inner) == 3
    assert not any(subgraph.initializer for subgraph in inner)
    np.testing.assert_array_equal(run(model, [[1, 2], [3, 4]])[0], [[3, 5]])
    np.testing.assert_array_equal(run(model, [[1, 2]])[0], [[-1, -2]])


def test_a_wrong_number_of_results_is_found_where_it_is_written(g):
    x = vector_input(g)
    with pytest.raises(AssertionError, match="else_branch returns 2 values, 1 were announced"):
        g.branch(several_rows(g, x), lambda: (x,), lambda: (x, x), outputs=1)
    with pytest.raises(AssertionError, match="the body returns 0 states of 1"):
        g.scan(lambda states, items: ([], []), [x], [x], outputs=0)


def test_a_state_cannot_leave_from_inside(g):
    from search_space.blocks._base import StateSpec

    state = StateSpec(name="s", shape=(2,))
    x = vector_input(g)

    def leave():
        g.state_output(state, g.op("Neg", x))
        return (x,)

    with pytest.raises(AssertionError, match="return it from the subgraph first"):
        g.branch(several_rows(g, x), leave, lambda: (x,), outputs=1)
