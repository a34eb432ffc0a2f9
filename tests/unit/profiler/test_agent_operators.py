"""The histogram of operators: nodes of branches and loop bodies are in it, each of them once."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from profiler.agent.checks import operators

V, D = 5, 4
RUNTIME = {"threads": 1, "cores": None, "providers": [["CPUExecutionProvider", {}]], "session_config": {}}
SIGNATURE = {
    "inputs": [{"name": "input_ids", "role": "tokens", "dtype": "int64", "shape": ["batch", "T"]}],
    "states": [], "logits": "logits", "logits_positions": "last", "vocab_size": V,
}  # fmt: skip


def branching_model(folder: Path, scope: str = "") -> Path:
    """One token is negated; more are walked along by a Scan whose body has a Sin and a Tanh.

    With a `scope`, the If that decides has a name in it, and what is inside of it has none.
    """
    n, info, f = helper.make_node, helper.make_tensor_value_info, TensorProto.FLOAT
    steps = helper.make_graph(
        [n("Sin", ["item"], ["sin"], name="" if scope else "body/Sin"),
         n("Tanh", ["sin"], ["tanh"], name="" if scope else "body/Tanh")],
        "steps", [info("item", f, None)], [info("tanh", f, None)],
    )  # fmt: skip
    walk = helper.make_graph(
        [n("Scan", ["x"], ["walked"], name="Scan", body=steps, num_scan_inputs=1, scan_input_axes=[1],
           scan_output_axes=[1])],
        "walk", [], [info("walked", f, None)],
    )  # fmt: skip
    negate = helper.make_graph([n("Neg", ["x"], ["negated"], name="Neg")], "negate", [], [info("negated", f, None)])
    nodes = [
        n("Gather", ["table", "input_ids"], ["x"]),
        n("Shape", ["input_ids"], ["tokens"], start=1, end=2),
        n("Equal", ["tokens", "one"], ["single"]),
        n("If", ["single"], ["y"], name=f"{scope}/If_3" if scope else "", then_branch=negate, else_branch=walk),
        n("Slice", ["y", "minus", "end", "one"], ["last"]),
        n("MatMul", ["last", "head"], ["logits"]),
    ]
    ints = [
        helper.make_tensor(k, TensorProto.INT64, [1], [v]) for k, v in (("one", 1), ("minus", -1), ("end", 1 << 60))
    ]
    weights = [
        helper.make_tensor("table", f, [V, D], range(V * D)),
        helper.make_tensor("head", f, [D, V], range(D * V)),
    ]
    inputs, outputs = [info("input_ids", TensorProto.INT64, ["B", "T"])], [info("logits", f, ["B", 1, V])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, ints + weights)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("points", "missing"),
    [
        ([{"batch": 1, "prompt": 9, "decode": 3}], set()),
        ([{"batch": 2, "prompt": 1, "decode": 0}, {"batch": 1, "prompt": 9, "decode": 3}], set()),
        ([{"batch": 1, "prompt": 9, "decode": 0}], {"Neg"}),  # no single step is ever run
        ([{"batch": 1, "prompt": 1, "decode": 3}], {"Scan", "Sin", "Tanh"}),
    ],
)
def test_what_the_points_run_is_counted_once(tmp_path: Path, points, missing):
    loaded = []
    by_operator, by_provider, seconds = operators(
        branching_model(tmp_path), SIGNATURE, RUNTIME, points, tmp_path, loaded=lambda: loaded.append(True)
    )
    everything = {"Gather", "Shape", "Equal", "If", "Slice", "MatMul", "Neg", "Scan", "Sin", "Tanh"}
    assert by_operator == dict.fromkeys(everything - missing, 1)
    assert by_provider == {"CPUExecutionProvider": len(by_operator)}
    assert seconds > 0
    assert loaded
    assert not list(tmp_path.glob("trace*"))
