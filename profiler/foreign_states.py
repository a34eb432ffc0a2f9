"""States of a graph from elsewhere: how each is paired with an output, and what shape it is carried in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.errors import ForeignModelError

WINDOW_SLACK = 16
"""Rows of a window-sized cache beyond its window. The operator leaves their number to the caller (its attribute
`sliding_window_cache`; at least the window), and it decides how often old rows are moved out. This is what
onnxruntime-genai 0.18 allocates on CPUs, where no `cache_slack` in genai_config.json says otherwise."""

_STATE_TYPES = ("float32", "float16", "bfloat16", "int8", "uint8", "int32", "int64")
_KV = re.compile(r"past_key_values\.(\d+)\.(key|value)")
Dim = int | str


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output as the graph declares it."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]


def text(value: Value) -> str:
    """Type and shape, for messages."""
    return f"({value.dtype} {list(value.shape)})"


def state(path: Path, value: Value, outputs: Mapping[str, Value], graph: Any) -> dict[str, Any]:
    """A state as signatures have it.

    Raises:
        ForeignModelError: It is not carried on in a way that is understood.
    """
    if value.dtype not in _STATE_TYPES:
        raise ForeignModelError(f"{path}: state {value.name!r} {text(value)} is of a type that cannot be carried")
    output = _partner(path, value, outputs)
    if _KV.fullmatch(value.name):
        return _growing(path, value, output, graph)
    shape: list[Dim] = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, str) and axis > 0 and "batch" not in dim.lower():
            raise ForeignModelError(f"{path}: state {value.name!r} {text(value)}: the size of {dim!r} is not known")
        shape.append("batch" if isinstance(dim, str) else dim)
    if shape.count("batch") != 1:
        raise ForeignModelError(f"{path}: state {value.name!r} {text(value)} has no batch axis of its own")
    known = [
        (a, b) for a, b in zip(value.shape, output.shape, strict=True) if isinstance(a, int) and isinstance(b, int)
    ]
    if any(a != b for a, b in known):
        raise ForeignModelError(f"{path}: state {value.name!r} {text(value)} becomes {output.name!r} {text(output)}")
    return {"input": value.name, "output": output.name, "dtype": value.dtype, "shape": shape, "growing": False}


def _partner(path: Path, value: Value, outputs: Mapping[str, Value]) -> Value:
    """The output that carries a state on: the same name with `present` for `past_key_values` or `past`."""
    for prefix in ("past_key_values", "past"):
        if value.name.startswith(prefix):
            found = outputs.get("present" + value.name.removeprefix(prefix))
            if found is not None:
                if found.dtype != value.dtype or len(found.shape) != len(value.shape):
                    raise ForeignModelError(
                        f"{path}: state {value.name!r} {text(value)} becomes {found.name!r} {text(found)}"
                    )
                return found
    raise ForeignModelError(f"{path}: no output carries the state {value.name!r} on", hint="'present...' was expected.")


def _growing(path: Path, value: Value, output: Value, graph: Any) -> dict[str, Any]:
    """A KV cache [batch, heads, positions, head dim]: extended in place, or concatenated with what is new."""
    if len(value.shape) != 4 or not isinstance(value.shape[1], int):
        raise ForeignModelError(f"{path}: KV cache {value.name!r} {text(value)} is not [batch, heads, positions, dim]")
    users = [node for node in graph.node if value.name in node.input]
    node = next((node for node in users if output.name in node.output), None)
    if node is None or not (node.op_type == "GroupQueryAttention" or _concatenates(node, value)):
        used_by = ", ".join(sorted({user.op_type for user in users})) or "nothing"
        raise ForeignModelError(
            f"{path}: KV cache {value.name!r} is not made longer in a way that is understood (used by {used_by})",
            hint=f"{output.name!r} was expected from GroupQueryAttention, from Concat along the positions (axis 2), or "
            "from the standard's Attention.",
        )
    head_dim = value.shape[3] if isinstance(value.shape[3], int) else _head_dim(node, graph)
    if head_dim is None:
        raise ForeignModelError(f"{path}: KV cache {value.name!r} {text(value)}: its head dimension is not known")
    shape: list[Dim] = ["batch", value.shape[1], "capacity", head_dim]
    if node.op_type == "GroupQueryAttention" and _whole(node, "sliding_window_cache"):
        shape[2] = _window_rows(path, value, _whole(node, "local_window_size"))
        return {
            "input": value.name, "output": output.name, "dtype": value.dtype, "shape": shape, "growing": False,
            "in_place": True,
        }  # fmt: skip
    if _concatenates(node, value):
        if isinstance(value.shape[2], int):
            raise ForeignModelError(
                f"{path}: KV cache {value.name!r} {text(value)} gets longer at every call, and says a fixed length",
                hint="Export with a dynamic axis for past positions.",
            )
        return {
            "input": value.name, "output": output.name, "dtype": value.dtype, "shape": shape, "growing": True,
            "in_place": False,
        }  # fmt: skip
    if isinstance(value.shape[2], int):
        shape[2] = value.shape[2]
        return {
            "input": value.name, "output": output.name, "dtype": value.dtype, "shape": shape, "growing": False,
            "in_place": True,
        }  # fmt: skip
    return {"input": value.name, "output": output.name, "dtype": value.dtype, "shape": shape, "growing": True}


def _window_rows(path: Path, value: Value, window: int) -> int:
    """Rows of a cache that holds a window: what the graph says, or what its usual runtime allocates."""
    rows = value.shape[2] if isinstance(value.shape[2], int) else window + WINDOW_SLACK
    if not 0 < window <= rows:
        raise ForeignModelError(f"{path}: KV cache {value.name!r} {text(value)} cannot hold a window of {window}")
    return rows


def _whole(node: Any, name: str) -> int:
    """A whole-number attribute, 0 where the node has none of this name."""
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)


def _concatenates(node: Any, value: Value) -> bool:
    """Whether a node makes a cache longer by appending rows to a copy of it."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Concat":
        axis = _whole(node, "axis")
        return axis in (2, -2) and bool(node.input[0] == value.name)
    return bool(node.op_type == "Attention" and value.name in node.input[4:6])


def _head_dim(node: Any, graph: Any) -> int | None:
    """Head dimension of an attention node: its output's width (recorded, or its consumer's) over its heads."""
    heads = _whole(node, "num_heads")
    width = 0
    for info in graph.value_info:
        if info.name == node.output[0] and info.type.tensor_type.shape.dim:
            width = int(info.type.tensor_type.shape.dim[-1].dim_value)
    if not width:
        sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        for consumer in graph.node:
            if node.output[0] not in consumer.input:
                continue
            if consumer.op_type == "MatMulNBits":
                width = _whole(consumer, "K")
            elif consumer.op_type == "MatMul" and len(sizes.get(consumer.input[1], ())) == 2:
                width = int(sizes[consumer.input[1]][0])
    return width // heads if heads and width and width % heads == 0 else None
