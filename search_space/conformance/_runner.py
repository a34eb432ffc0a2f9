"""A candidate opened in ONNX Runtime and fed in calls of any length, as plain arrays or as a device binds them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search_space.blocks._rotary import table_values
from search_space.export import Candidate
from search_space.graph.recipe import DATA_FILE
from search_space.load import state_dict

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Array = np.ndarray[Any, Any]
Tensor = dict[str, Any]
Values = Callable[[Tensor], Array]
States = dict[str, Array]


def recipe_values(tensor: Tensor) -> Array:
    """Values that a recipe's tensor allows. Not the device's bytes: both sides of a check only need the same ones."""
    fill, shape = tensor["fill"], tuple(tensor["shape"])
    random = np.random.default_rng(fill.get("seed", 0))
    if fill["kind"] == "uniform":
        return random.uniform(fill["low"], fill["high"], shape).astype(tensor["dtype"])
    if fill["kind"] == "bytes":
        return random.integers(0, 256, shape, dtype=np.uint8)
    if fill["kind"] == "constant":
        return np.full(shape, fill["value"], tensor["dtype"])
    if fill["kind"] == "values":
        return np.array(fill["values"], tensor["dtype"]).reshape(shape)
    if fill["kind"] == "cut":
        axis, start = fill["axis"], fill["start"]
        whole = recipe_values({**tensor, "fill": fill["fill"], "shape": fill["shape"]})
        return whole.take(range(start, start + shape[axis]), axis)
    return table_values(fill, shape[0]).astype(tensor["dtype"])


class GraphRunner:
    """A candidate opened in ONNX Runtime, with weights written to a temporary folder.

    Attributes:
        candidate: What runs.
        values: Stored arrays by name.
    """

    def __init__(self, candidate: Candidate, *, values: Values = recipe_values, exact: bool = False) -> None:
        """Open the graph.

        Args:
            candidate: The graph, its recipe and signature.
            values: Makes a tensor's values.
            exact: Run quantised products in float arithmetic.
        """
        import onnxruntime

        self.candidate = candidate
        self.values = {tensor["name"]: values(tensor) for tensor in candidate.recipe["tensors"]}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # failures are raised
        with tempfile.TemporaryDirectory() as folder:
            with (Path(folder) / DATA_FILE).open("wb") as file:
                file.truncate(candidate.recipe["size"])
                for tensor in candidate.recipe["tensors"]:
                    file.seek(tensor["offset"])
                    file.write(self.values[tensor["name"]].tobytes())
            path = Path(folder) / "model.onnx"
            path.write_bytes(in_float_arithmetic(candidate.graph) if exact else candidate.graph)
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def torch_state(self, *, strip: str = "") -> dict[str, Any]:
        """The weights as a torch state dict (see `search_space.load.state_dict`)."""
        return state_dict(self.candidate, self.values.__getitem__, strip=strip)

    def zero_states(self, *, batch: int, capacity: int) -> States:
        """The states at the start of a sequence, by input name: a concatenation has no rows yet."""
        return {
            state["input"]: np.zeros(
                _shape(state, batch=batch, rows=0 if _concatenated(state) else capacity), state["dtype"]
            )
            for state in self.candidate.signature["states"]
        }

    def feeds(self, x: Array, past: int) -> States:
        """Inputs other than states for one call after `past` tokens."""
        total = past + x.shape[1]
        by_role: dict[str, Array] = {
            "tokens": x,
            "hidden": x,
            "seqlens_k": np.full(x.shape[0], total - 1, np.int32),
            "total_length": np.array(total, np.int32),
        }
        return {entry["name"]: by_role[entry["role"]] for entry in self.candidate.signature["inputs"]}

    def call(self, x: Array, states: States, past: int) -> tuple[Array, States]:
        """One call after `past` tokens; returns the output and the new states by input name.

        x is [B, T] tokens for a layout and [B, T, D] for a block.
        """
        signature = self.candidate.signature
        names = [signature["logits"], *(state["output"] for state in signature["states"])]
        y, *new = self.session.run(names, {**self.feeds(x, past), **states})
        return y, {state["input"]: value for state, value in zip(signature["states"], new, strict=True)}

    def sequence(self, x: Array, calls: Sequence[int], *, capacity: int) -> tuple[list[Array], States]:
        """Feed x in pieces of the given lengths, handing states on as new arrays."""
        states = self.zero_states(batch=x.shape[0], capacity=capacity)
        outputs, past = [], 0
        for length in calls:
            y, states = self.call(x[:, past : past + length], states, past)
            outputs.append(y)
            past += length
        return outputs, states

    def bound_sequence(self, x: Array, calls: Sequence[int], *, capacity: int) -> tuple[list[Array], States]:
        """As `sequence`, in the way a device runs it: `in_place` states in one buffer for past and present.

        Growing caches start with NaN in every row: a device does not clean them between sequences. Concatenations lie
        at the front of buffers of `capacity` rows, bound with the rows that they have and get.
        """
        import onnxruntime

        signature, batch = self.candidate.signature, x.shape[0]
        buffers = {}
        for state in signature["states"]:
            start = np.zeros(_shape(state, batch=batch, rows=capacity), state["dtype"])
            if state["growing"]:
                start.fill(np.nan)
            first = onnxruntime.OrtValue.ortvalue_from_numpy(start)  # it shares the array's memory
            second = first if state["in_place"] else onnxruntime.OrtValue.ortvalue_from_numpy(start.copy())
            buffers[state["input"]] = (first, second)
        outputs, past = [], 0
        for length in calls:
            binding = self.session.io_binding()
            for name, value in self.feeds(np.ascontiguousarray(x[:, past : past + length]), past).items():
                binding.bind_cpu_input(name, value)
            for state in signature["states"]:
                before, after = buffers[state["input"]]
                dtype = np.dtype(state["dtype"]).type
                shapes = [_shape(state, batch=batch, rows=capacity)] * 2
                if _concatenated(state):
                    shapes = [_shape(state, batch=batch, rows=rows) for rows in (past, past + length)]
                binding.bind_input(state["input"], "cpu", 0, dtype, shapes[0], before.data_ptr())
                binding.bind_output(state["output"], "cpu", 0, dtype, shapes[1], after.data_ptr())
                buffers[state["input"]] = (after, before)
            binding.bind_output(signature["logits"])
            self.session.run_with_iobinding(binding)
            outputs.append(binding.copy_outputs_to_cpu()[-1])
            past += length
        new = {}
        for state in signature["states"]:
            rows = past if _concatenated(state) else capacity
            shape = _shape(state, batch=batch, rows=rows)
            # A copy: numpy() is a view that does not keep its buffer alive.
            new[state["input"]] = buffers[state["input"]][0].numpy().ravel()[: prod(shape)].reshape(shape).copy()
        return outputs, new


def _concatenated(state: dict[str, Any]) -> bool:
    return state["growing"] and not state["in_place"]


def _shape(state: dict[str, Any], *, batch: int, rows: int) -> list[int]:
    sizes = {"batch": batch, "capacity": rows}
    return [sizes[dim] if isinstance(dim, str) else dim for dim in state["shape"]]


def graph_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node of an ONNX graph, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from graph_nodes(inner)


def in_float_arithmetic(graph: bytes) -> bytes:
    """The graph with `accuracy_level` removed: quantised weights are then expanded, and nothing else is rounded."""
    import onnx

    model = onnx.load_from_string(graph)
    for node in graph_nodes(model.graph):
        kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return bytes(model.SerializeToString())
