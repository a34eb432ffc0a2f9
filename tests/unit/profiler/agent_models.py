"""Small real graphs, their recipes and signatures, and jobs made of them, for the tests of the agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from profiler.agent.weights import DTYPES, tensor_values, write_weights
from profiler.agent_bundle import agent_bytes, agent_name

V, D, HEADS, KV, HEAD = 512, 64, 4, 2, 16
_ONNX = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


class Recipe:
    """Collects tensors and makes external initialisers of them."""

    def __init__(self) -> None:
        self.tensors: list[dict[str, Any]] = []
        self.size = 0

    def uniform(self, name: str, *shape: int, scale: float = 0.2) -> onnx.TensorProto:
        fill = {"kind": "uniform", "seed": 1000 + len(self.tensors), "low": -scale, "high": scale}
        return self.add(name, "float32", shape, fill)

    def add(self, name: str, dtype: str, shape: tuple[int, ...], fill: dict[str, Any]) -> onnx.TensorProto:
        nbytes = int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize
        step = 4096 if nbytes >= 65536 else 64
        offset = -(-self.size // step) * step
        self.tensors.append({"name": name, "dtype": dtype, "shape": list(shape), "offset": offset, "fill": fill})
        self.size = offset + nbytes
        proto = onnx.TensorProto(name=name, data_type=_ONNX[dtype], dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", nbytes)):
            proto.external_data.add(key=key, value=str(value))
        return proto

    def json(self) -> dict[str, Any]:
        return {"format": 1, "size": self.size, "tensors": self.tensors}


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def _ints(name: str, *values: int) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def hybrid(scale: float = 0.2) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """Embedding, a causal convolution with state, grouped-query attention with a shared cache, last-position logits."""
    r = Recipe()
    f, i64, i32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
    weights = [r.uniform("embed", V, D), *(r.uniform(f"w{i}", D) for i in range(3))]
    weights += [r.uniform("wq", D, D), r.uniform("wk", D, KV * HEAD), r.uniform("wv", D, KV * HEAD)]
    weights += [r.uniform("wo", D, D), r.uniform("head", D, V, scale=scale)]
    constants = [_ints("0", 0), _ints("1", 1), _ints("2", 2), _ints("-1", -1), _ints("-2", -2), _ints("end", 1 << 60)]
    shifts = [("0", "-2"), ("1", "-1"), ("2", "end")]
    n = helper.make_node
    nodes = [
        n("Gather", ["embed", "input_ids"], ["x"]),
        n("Concat", ["past_conv", "x"], ["padded"], axis=1),
        *(n("Slice", ["padded", a, b, "1"], [f"s{i}"]) for i, (a, b) in enumerate(shifts)),
        *(n("Mul", [f"s{i}", f"w{i}"], [f"m{i}"]) for i in range(3)),
        n("Add", ["m0", "m1"], ["m01"]), n("Add", ["m01", "m2"], ["c"]),
        n("Slice", ["padded", "-2", "end", "1"], ["present_conv"]),
        *(n("MatMul", ["c", f"w{p}"], [p]) for p in "qkv"),
        n("GroupQueryAttention", ["q", "k", "v", "past_key", "past_value", "seqlens_k", "total"],
          ["a", "present_key", "present_value"], domain="com.microsoft", num_heads=HEADS, kv_num_heads=KV),
        n("MatMul", ["a", "wo"], ["o"]), n("Add", ["o", "c"], ["z"]),
        n("Slice", ["z", "-1", "end", "1"], ["last"]), n("MatMul", ["last", "head"], ["logits"]),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    cache = ["B", KV, "S", HEAD]
    inputs = [
        info("input_ids", i64, ["B", "T"]), info("past_conv", f, ["B", 2, D]), info("past_key", f, cache),
        info("past_value", f, cache), info("seqlens_k", i32, ["B"]), info("total", i32, []),
    ]  # fmt: skip
    outputs = [
        info("logits", f, ["B", 1, V]), info("present_conv", f, ["B", 2, D]), info("present_key", f, cache),
        info("present_value", f, cache),
    ]  # fmt: skip
    conv = {"dtype": "float32", "shape": ["batch", 2, D], "growing": False}
    kv = {"dtype": "float32", "shape": ["batch", KV, "capacity", HEAD], "growing": True}
    signature = {
        "inputs": [
            {"name": "input_ids", "role": "tokens", "dtype": "int64", "shape": ["batch", "T"]},
            {"name": "seqlens_k", "role": "seqlens_k", "dtype": "int32", "shape": ["batch"]},
            {"name": "total", "role": "total_length", "dtype": "int32", "shape": []},
        ],
        "states": [
            {"input": "past_conv", "output": "present_conv", **conv},
            {"input": "past_key", "output": "present_key", **kv},
            {"input": "past_value", "output": "present_value", **kv},
        ],
        "logits": "logits", "logits_positions": "last", "vocab_size": V,
    }  # fmt: skip
    return _model(nodes, inputs, outputs, weights + constants), r.json(), signature


def masked(axes: int = 0) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """As a foreign model looks: attention mask of growing length, position ids, logits of every position.

    With `axes`, positions have so many, and what is used is their mean.
    """
    r = Recipe()
    f, i64 = TensorProto.FLOAT, TensorProto.INT64
    weights = [r.uniform("embed", V, D), r.uniform("head", D, V)]
    n = helper.make_node
    nodes = [
        n("Gather", ["embed", "input_ids"], ["x"]),
        n("Cast", ["attention_mask"], ["mask"], to=f), n("ReduceSum", ["mask", "axes"], ["length"], keepdims=1),
        n("Cast", ["position_ids"], ["cast"], to=f),
        n("ReduceMean", ["cast"], ["position"], keepdims=0, axes=[0]) if axes else n("Abs", ["cast"], ["position"]),
        n("Sub", ["length", "position"], ["left"]),
        n("Unsqueeze", ["left", "last"], ["left3"]), n("MatMul", ["x", "head"], ["y"]),
        n("Div", ["y", "left3"], ["logits"]),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    more = [axes] if axes else []
    inputs = [info(name, i64, [*lead, "B", dim]) for name, lead, dim in
              (("input_ids", [], "T"), ("attention_mask", [], "total"), ("position_ids", more, "T"))]  # fmt: skip
    roles = {"input_ids": "tokens", "attention_mask": "attention_mask", "position_ids": "position_ids"}
    signature = {
        "inputs": [
            {"name": k, "role": v, "dtype": "int64", "shape": [*(more if k == "position_ids" else []), "batch", "T"]}
            for k, v in roles.items()
        ],
        "states": [], "logits": "logits", "logits_positions": "all", "vocab_size": V,
    }  # fmt: skip
    constants = [_ints("axes", 1), _ints("last", 2)]
    outputs = [info("logits", f, ["B", "T", V])]
    return _model(nodes, inputs, outputs, weights + constants), r.json(), signature


def concatenated() -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """A cache that is a concatenation: logits are those of the mean embedding of all tokens so far, and of no others.

    A second state of fixed size is carried along: the sum of the embeddings of the last call.
    """
    r = Recipe()
    f, i64 = TensorProto.FLOAT, TensorProto.INT64
    weights = [r.uniform("embed", V, D), r.uniform("head", D, V)]
    n = helper.make_node
    nodes = [
        n("Gather", ["embed", "input_ids"], ["x"]), n("Unsqueeze", ["x", "1"], ["rows"]),
        n("Concat", ["past_key_values.0.key", "rows"], ["present.0.key"], axis=2),
        n("ReduceMean", ["present.0.key"], ["mean"], axes=[2], keepdims=0),
        n("ReduceSum", ["x", "1"], ["sum"], keepdims=1), n("Mul", ["past.1.sum", "0.0"], ["nothing"]),
        n("Add", ["sum", "nothing"], ["present.1.sum"]), n("MatMul", ["mean", "head"], ["logits"]),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    inputs = [
        info("input_ids", i64, ["B", "T"]), info("past_key_values.0.key", f, ["B", 1, "S", D]),
        info("past.1.sum", f, ["B", 1, D]),
    ]  # fmt: skip
    outputs = [
        info("logits", f, ["B", 1, V]), info("present.0.key", f, ["B", 1, "S + T", D]),
        info("present.1.sum", f, ["B", 1, D]),
    ]  # fmt: skip
    signature = {
        "inputs": [{"name": "input_ids", "role": "tokens", "dtype": "int64", "shape": ["batch", "T"]}],
        "states": [
            {"input": "past_key_values.0.key", "output": "present.0.key", "dtype": "float32",
             "shape": ["batch", 1, "capacity", D], "growing": True, "in_place": False},
            {"input": "past.1.sum", "output": "present.1.sum", "dtype": "float32", "shape": ["batch", 1, D],
             "growing": False},
        ],
        "logits": "logits", "logits_positions": "last", "vocab_size": V,
    }  # fmt: skip
    constants = [_ints("1", 1), helper.make_tensor("0.0", f, [], [0.0])]
    return _model(nodes, inputs, outputs, weights + constants), r.json(), signature


def block() -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """A running sum over positions times a matrix: its output depends on state carried between calls."""
    r = Recipe()
    f = TensorProto.FLOAT
    n = helper.make_node
    nodes = [
        n("CumSum", ["x", "axis"], ["sums"]), n("Add", ["sums", "past"], ["s"]),
        n("Slice", ["s", "-1", "end", "axes"], ["present"]), n("MatMul", ["s", "w"], ["y"]),
    ]  # fmt: skip
    axis = helper.make_tensor("axis", TensorProto.INT64, [], [1])
    weights = [r.uniform("w", 8, 8), axis, _ints("-1", -1), _ints("end", 1 << 60), _ints("axes", 1)]
    info = helper.make_tensor_value_info
    inputs = [info("x", f, ["B", "T", 8]), info("past", f, ["B", 1, 8])]
    outputs = [info("y", f, ["B", "T", 8]), info("present", f, ["B", 1, 8])]
    state = {"input": "past", "output": "present", "dtype": "float32", "shape": ["batch", 1, 8], "growing": False}
    signature = {
        "inputs": [{"name": "x", "role": "hidden", "dtype": "float32", "shape": ["batch", "T", 8]}],
        "states": [state], "logits": "", "logits_positions": "last", "vocab_size": 0,
    }  # fmt: skip
    return _model(nodes, inputs, outputs, weights), r.json(), signature


def block_check(**changes: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A check of `block` with expectations by numpy, and its files."""
    graph, recipe, signature = block()
    w = tensor_values(recipe["tensors"][0]).astype(np.float64)
    carried = np.zeros(8)
    calls = []
    for seed, tokens in ((5, 7), (6, 1)):
        fill = {"kind": "uniform", "seed": seed, "low": -1.0, "high": 1.0}
        x = tensor_values({"dtype": "float32", "shape": [1, tokens, 8], "fill": fill})[0].astype(np.float64)
        sums = np.cumsum(x, axis=0) + carried
        carried = sums[-1]
        flat = (sums @ w).ravel()
        where = np.linspace(0, flat.size - 1, 6).round().astype(int)
        calls.append({"tokens": tokens, "fill": fill, "expected": flat[where].tolist()})
    check = {
        "name": "running sum", "graph": "check0.onnx", "recipe": "check0.json", "signature": signature, "output": "y",
        "calls": calls, "tolerance": 1e-4, **changes,
    }  # fmt: skip
    return check, {"check0.onnx": graph, "check0.json": json.dumps(recipe).encode()}


def job(signature: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A quick job; `protocol`, `limits`, `cooling` and `runtime` are merged, everything else replaced."""
    base: dict[str, Any] = {
        "format": 1, "job_id": "job-1", "label": "a test", "model": {"graph": "model.onnx", "recipe": "recipe.json"},
        "signature": signature,
        "runtime": {"threads": 1, "cores": None, "providers": [["CPUExecutionProvider", {}]], "session_config": {}},
        "points": [{"batch": 1, "prompt": 12, "decode": 6}],
        "protocol": {
            "min_processes": 2, "max_processes": 2, "target_half_width": 0.5, "time_budget_s": 5.0, "min_repeats": 2,
            "max_repeats": 3, "warmup_tolerance": 1e3, "max_warmups": 2, "max_other_cpu": 1.0, "memory_pass": False,
            "seed": 7,
        },
        "limits": {"memory_mib": None, "timeout_s": 60.0},
        "cooling": {"max_other_cpu": 1.0, "max_temperature_c": None, "timeout_s": 5.0},
        "checks": [],
    }  # fmt: skip
    for key, value in changes.items():
        base[key] = {**base[key], **value} if key in {"protocol", "limits", "cooling", "runtime"} else value
    return base


def folder_of(work: Path, order: dict[str, Any], files: dict[str, bytes]) -> Path:
    """Lay out a job folder and the agent as on a device."""
    work.mkdir(parents=True, exist_ok=True)
    agent = work / agent_name()
    agent.write_bytes(agent_bytes())
    folder = work / "jobs" / order["job_id"]
    folder.mkdir(parents=True)
    for name, content in {**files, "job.json": json.dumps(order).encode()}.items():
        (folder / name).write_bytes(content)
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the agent on a job folder."""
    agent = folder.parent.parent / agent_name()
    return subprocess.Popen([sys.executable, str(agent), "run", str(folder)])


def result_of(folder: Path) -> dict[str, Any]:
    """What the agent wrote."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def measure(work: Path, parts: tuple[bytes, Any, Any], checks: Any = None, **changes: Any) -> dict[str, Any]:
    """Run one job to its end."""
    graph, recipe, signature = parts
    files = {"model.onnx": graph, "recipe.json": json.dumps(recipe).encode()}
    if checks is not None:
        changes["checks"] = [checks[0]]
        files |= checks[1]
    order = job(signature, **changes)
    if "path" in order["model"]:
        files = {name: content for name, content in files.items() if name.startswith("check")}
    folder = folder_of(work, order, files)
    with start(folder) as agent:
        try:
            assert agent.wait(timeout=60) == 0
        finally:
            agent.kill()
    return result_of(folder)


def unpack(folder: Path, model: tuple[bytes, Any, Any]) -> Path:
    """Write a graph and its data for a session of the test's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model[0])
    write_weights(model[1], folder / "weights.bin")
    return folder / "model.onnx"
