"""Branches and loops: graphs inside a graph, under names of their own, that may use what lies outside."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from search_space.graph.builder import GraphBuilder


def built(body):
    """A graph from x [T, 2] to y, where `body(g, x)` makes y."""
    g = GraphBuilder(precision="fp32", context=8, depth=1, seed=0)
    x = g.input("x", "hidden", ir.DataType.FLOAT, ["tokens", 2])
    with g.scope("block"):
        y = body(g, x)
    g.output("y", y, ["rows", 2])
    model = ir.to_proto(g.model("test"))
    onnx.checker.check_model(model)
    return model


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.asarray(x, np.float32)})[0]


def nested(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nested(attribute.g)


def branching(g, x):
    def then():
        return [g.op("Add", x, x)]

    def otherwise():
        return [x]  # made outside: handed through

    single = g.op("Equal", g.op("Shape", x, end=1), g.ints(1))
    return g.branch(single, then=then, otherwise=otherwise, outputs=1)[0]


def looping(g, x):
    count = g.reshape(g.op("Shape", x, end=1))

    def body(index):
        row = g.op("Gather", x, index, axis=0)
        return g.op("Mul", row, g.op("Cast", index, to=ir.DataType.FLOAT))

    return g.loop(count, body)


def test_a_branch_computes_the_side_that_is_asked_for():
    model = built(branching)
    np.testing.assert_array_equal(run(model, [[1, 2]]), [[2, 4]])
    np.testing.assert_array_equal(run(model, [[1, 2], [3, 4]]), [[1, 2], [3, 4]])


@pytest.mark.parametrize("rows", [1, 4])
def test_a_loop_stacks_what_its_iterations_make(rows):
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    np.testing.assert_array_equal(run(built(looping), x), x * np.arange(rows)[:, None])


def test_names_are_unique_inside_and_outside():
    graph = built(lambda g, x: looping(g, branching(g, looping(g, x)))).graph
    names = [node.name for node in nested(graph)]
    values = [name for node in nested(graph) for name in node.output]
    assert all(name.startswith("block/") for name in names)
    assert len(set(names)) == len(names) > 10
    assert len(set(values)) == len(values)


def test_constants_lie_in_the_main_graph():
    graph = built(branching).graph
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    assert len(inner) == 2
    assert not any(body.initializer for body in inner)


def test_a_side_that_fails_leaves_the_graph_as_it_was():
    g = GraphBuilder(precision="fp32", context=8, depth=1, seed=0)
    condition = g.input("c", "tokens", ir.DataType.BOOL, [])

    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        g.branch(condition, then=fails, otherwise=fails, outputs=1)
    g.output("y", g.op("Not", condition), [])
    assert [node.op_type for node in ir.to_proto(g.model("test")).graph.node] == ["Not"]
