"""Reads an ONNX file from elsewhere and says how to drive it, or why that is not possible.

Understood are decoder graphs in the convention of the ONNX Runtime GenAI builder:
    input_ids, attention_mask and position_ids of shape [batch, n]; seqlens_k and total_sequence_length;
    past_key_values.N.key / .value -> present.N.key / .value, growing: in place where a GroupQueryAttention node writes
    them, a new tensor at every call where a Concat or the standard's Attention makes them;
    every other past state (past.N.conv, past.N.recurrent, past_conv.N, ...) of fixed size, paired by name with an
    output of the same type and shape;
    one output `logits` of shape [batch, n, vocabulary], for the last position or for all.
A `signature.json` beside the file, as `archsearch export` writes it, says it all; it is checked against the graph.
External data is never loaded; its files must exist.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from profiler.errors import ForeignModelError
from profiler.workloads import Workload

MAX_GRAPH_BYTES = 2**31 - 1
_ROLES = {
    "input_ids": "tokens",
    "attention_mask": "attention_mask",
    "position_ids": "position_ids",
    "seqlens_k": "seqlens_k",
    "total_sequence_length": "total_length",
    "total_length": "total_length",
}
_RANKS = {"tokens": 2, "attention_mask": 2, "position_ids": 2, "seqlens_k": 1}
_TYPES = {
    "tokens": ("int64",),
    "attention_mask": ("int64",),
    "position_ids": ("int64",),
    "seqlens_k": ("int32",),
    "total_length": ("int32", "int64"),
}
SIGNATURE_NAME = "signature.json"
_STATE_TYPES = ("float32", "float16", "bfloat16", "int8", "uint8", "int32", "int64")
_KV = re.compile(r"past_key_values\.(\d+)\.(key|value)")
Dim = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModel:
    """A graph from elsewhere that can be measured.

    Attributes:
        path: The .onnx file, absolute.
        signature: How it is driven, as jobs carry it.
        producer: Who wrote the file, or "".
        data_files: External data files, absolute, each once.
        weight_bytes: Bytes of its initialisers without the rotary tables; what two of them share counts once.
        graph_name: What the graph calls itself.
        max_context: Positions that its rotary tables hold, or None where it has none.
    """

    path: Path
    signature: Mapping[str, Any]
    producer: str
    data_files: tuple[Path, ...]
    weight_bytes: int
    graph_name: str
    max_context: int | None

    def require_context(self, workload: Workload) -> None:
        """Refuse a workload that goes beyond the rotary tables: ONNX Runtime would fail in the middle of it.

        Raises:
            ForeignModelError: A point's prompt and decode steps need more positions than there are.
        """
        longest = max(workload.points, key=lambda point: point.context)
        if self.max_context is not None and longest.context > self.max_context:
            raise ForeignModelError(
                f"{self.path}: its rotary tables hold {self.max_context} positions; {longest.text} of the workload "
                f"{workload.name} needs {longest.context}",
                hint=f"Export it again with at least {longest.context} positions (--context), or measure fewer.",
            )

    def content_id(self) -> str:
        """Sha256 over the graph file and its external data files, in hex. Reads them all once.

        Raises:
            ForeignModelError: A file cannot be read any more.
        """
        digest = hashlib.sha256()
        try:
            for file in (self.path, *self.data_files):
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise ForeignModelError(f"{error.filename}: cannot be read: {error.strerror}") from error
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Value:
    name: str
    dtype: str
    shape: tuple[Dim, ...]


def inspect(path: Path) -> ForeignModel:
    """Read a graph's inputs, outputs and states.

    Raises:
        ForeignModelError: The file is missing, is not ONNX, lacks its external data, or has an input or output that is
            not understood; the message names it.
    """
    model = _load(path)
    try:
        return _understand(path, model)
    except (TypeError, ValueError, LookupError, AttributeError) as error:  # such as names that are no text
        raise ForeignModelError(f"{path}: a damaged ONNX file") from error


def _understand(path: Path, model: Any) -> ForeignModel:
    initialised = {tensor.name for tensor in model.graph.initializer}
    inputs = [_value(path, info) for info in model.graph.input if info.name not in initialised]
    outputs = {info.name: _value(path, info) for info in model.graph.output}
    data_files = _data_files(path, model.graph)
    return ForeignModel(
        path=path.absolute(),
        signature=_own_signature(path, inputs, outputs) or _signature(path, inputs, outputs, model.graph),
        producer=model.producer_name,
        data_files=data_files,
        weight_bytes=_weight_bytes(model.graph),
        graph_name=model.graph.name,
        max_context=_max_context(model.graph),
    )


_ROTARY_TABLES = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (2, 3)}
"""Which inputs of an operator are cosine and sine tables [positions, half the rotary dims]."""


def _rotary_tables(graph: Any) -> set[str]:
    return {
        node.input[place]
        for inner in _with_subgraphs(graph)
        for node in inner.node
        for place in _ROTARY_TABLES.get(node.op_type, ())
        if len(node.input) > place and node.input[place]
    }


def _with_subgraphs(graph: Any) -> Iterator[Any]:
    """The graph and those of its branches and loop bodies, which may hold weights and tables of their own."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _with_subgraphs(inner)


def _initializers(graph: Any) -> Iterator[Any]:
    return (tensor for inner in _with_subgraphs(graph) for tensor in inner.initializer)


def _max_context(graph: Any) -> int | None:
    """Rows of the shortest rotary table."""
    tables = _rotary_tables(graph)
    return min(
        (int(tensor.dims[0]) for tensor in _initializers(graph) if tensor.name in tables and tensor.dims), default=None
    )


def _weight_bytes(graph: Any) -> int:
    """Bytes of the weights: a table that is mapped twice (embedding and head) counts once, rotary tables not at all."""
    tables = _rotary_tables(graph)
    sizes: dict[Any, int] = {}
    for number, tensor in enumerate(_initializers(graph)):
        if tensor.name in tables:
            continue
        size = (prod(tensor.dims) * _bits(tensor.data_type) + 7) // 8
        place: Any = number
        if tensor.data_location == tensor.EXTERNAL:
            entry = {item.key: item.value for item in tensor.external_data}
            place = (entry.get("location"), entry.get("offset"), entry.get("length"))
        sizes[place] = size
    return sum(sizes.values())


def _bits(data_type: int) -> int:
    """Bits of one element: the first number in the type's name (INT4, FLOAT8E4M3FN) or what the name stands for."""
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type)
    number = re.search(r"\d+", name)
    return int(number[0]) if number else {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}.get(name, 0)


def _signature(path: Path, inputs: list[_Value], outputs: Mapping[str, _Value], graph: Any) -> dict[str, Any]:
    """How a graph of the GenAI builder's convention is driven."""
    driven, states = [], []
    for value in inputs:
        role = _ROLES.get(value.name)
        if role is not None:
            driven.append(_driven(path, value, role))
        elif value.name.startswith("past"):
            states.append(_state(path, value, outputs, graph))
        else:
            raise ForeignModelError(
                f"{path}: input {value.name!r} {_text(value)} is not understood",
                hint=f"Understood are {', '.join(_ROLES)} and past states whose names start with 'past'.",
            )
    if not any(item["role"] == "tokens" for item in driven):
        raise ForeignModelError(
            f"{path}: no input 'input_ids'; its inputs: {', '.join(v.name for v in inputs) or 'none'}"
        )
    logits = _logits(path, outputs)
    return {
        "inputs": driven,
        "states": states,
        "logits": logits.name,
        "logits_positions": "last" if logits.shape[1] == 1 else "all",
        "vocab_size": logits.shape[2],
    }


def _own_signature(path: Path, inputs: list[_Value], outputs: Mapping[str, _Value]) -> dict[str, Any] | None:
    """The signature beside one of our exports, or None where there is none."""
    file = path.absolute().parent / SIGNATURE_NAME
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
        driven, states = found["inputs"], found["states"]
        taken = {value.name: value for value in inputs}
        named = [(taken[item["name"]], item) for item in driven] + [(taken[item["input"]], item) for item in states]
        named += [(outputs[item["output"]], item) for item in states]
        fits = (
            {item["name"] for item in driven} | {item["input"] for item in states} == set(taken)
            and all(value.dtype == item["dtype"] and _fits(value.shape, item["shape"]) for value, item in named)
            and {item["role"] for item in driven} <= set(_ROLES.values())
            and all(isinstance(item["growing"], bool) for item in states)
            and found["logits_positions"] in ("last", "all")
            and _logits(path, outputs).name == found["logits"]
            and _logits(path, outputs).shape[2] == found["vocab_size"]
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ForeignModelError(f"{file}: not the signature of {path.name}: {error!r}"[:300]) from error
    if not fits:
        raise ForeignModelError(
            f"{file}: it does not describe {path.name}",
            hint="Export again, or move the graph away from the signature of another one.",
        )
    return dict(found)


def _fits(shape: tuple[Dim, ...], said: list[Dim]) -> bool:
    """Whether a signature's shape can be that of a value: sizes are equal, symbols are ones that the agent knows."""
    return len(shape) == len(said) and all(
        b in ("batch", "capacity", "tokens", "total", "T") if isinstance(b, str) else a == b
        for a, b in zip(shape, said, strict=True)
    )


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ForeignModelError(f"{path}: a folder, not an ONNX file", hint=f"Try {path / 'model.onnx'}.")
        if size > MAX_GRAPH_BYTES:
            raise ForeignModelError(f"{path}: {size} bytes is more than an ONNX graph file can hold")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ForeignModelError(f"{path}: no such file") from error
    except OSError as error:
        raise ForeignModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, whose place in the library has moved
        raise ForeignModelError(f"{path}: not an ONNX file, or damaged ({len(data)} bytes)") from error
    if not model.ir_version or not model.graph.node:
        raise ForeignModelError(f"{path}: not an ONNX file: it holds no graph")
    return model


def _value(path: Path, info: Any) -> _Value:
    import onnx

    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or not tensor.HasField("shape"):
        raise ForeignModelError(f"{path}: {info.name!r} is no tensor of known rank")
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        dims.append(int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param))
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dtype = {"float": "float32", "double": "float64"}.get(name, name)
    return _Value(info.name, dtype, tuple(dims))


def _text(value: _Value) -> str:
    return f"({value.dtype} {list(value.shape)})"


def _driven(path: Path, value: _Value, role: str) -> dict[str, Any]:
    rank = _RANKS.get(role)
    if (rank is not None and len(value.shape) != rank) or (role == "total_length" and len(value.shape) > 1):
        raise ForeignModelError(f"{path}: input {value.name!r} {_text(value)} has another rank than expected")
    if value.dtype not in _TYPES[role]:
        allowed = " or ".join(_TYPES[role])
        raise ForeignModelError(f"{path}: input {value.name!r} {_text(value)} is understood as {allowed} only")
    if fixed := [dim for dim in value.shape if isinstance(dim, int) and not (role == "total_length" and dim == 1)]:
        raise ForeignModelError(
            f"{path}: input {value.name!r} {_text(value)} has a fixed size {fixed[0]}",
            hint="Export with dynamic batch and sequence axes: one graph must serve prefill and single steps.",
        )
    shapes: dict[str, list[Dim]] = {
        "tokens": ["batch", "T"],
        "position_ids": ["batch", "T"],
        "attention_mask": ["batch", "total"],
        "seqlens_k": ["batch"],
    }
    return {"name": value.name, "role": role, "dtype": value.dtype, "shape": shapes.get(role, list(value.shape))}


def _state(path: Path, value: _Value, outputs: Mapping[str, _Value], graph: Any) -> dict[str, Any]:
    if value.dtype not in _STATE_TYPES:
        raise ForeignModelError(f"{path}: state {value.name!r} {_text(value)} is of a type that cannot be carried")
    output = _partner(path, value, outputs)
    if _KV.fullmatch(value.name):
        return _growing(path, value, output, graph)
    shape: list[Dim] = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, str) and axis > 0 and "batch" not in dim.lower():
            raise ForeignModelError(f"{path}: state {value.name!r} {_text(value)}: the size of {dim!r} is not known")
        shape.append("batch" if isinstance(dim, str) else dim)
    if shape.count("batch") != 1:
        raise ForeignModelError(f"{path}: state {value.name!r} {_text(value)} has no batch axis of its own")
    known = [
        (a, b) for a, b in zip(value.shape, output.shape, strict=True) if isinstance(a, int) and isinstance(b, int)
    ]
    if any(a != b for a, b in known):
        raise ForeignModelError(f"{path}: state {value.name!r} {_text(value)} becomes {output.name!r} {_text(output)}")
    return {"input": value.name, "output": output.name, "dtype": value.dtype, "shape": shape, "growing": False}


def _partner(path: Path, value: _Value, outputs: Mapping[str, _Value]) -> _Value:
    """The output that carries a state on: the same name with `present` for `past_key_values` or `past`."""
    for prefix in ("past_key_values", "past"):
        if value.name.startswith(prefix):
            found = outputs.get("present" + value.name.removeprefix(prefix))
            if found is not None:
                if found.dtype != value.dtype or len(found.shape) != len(value.shape):
                    raise ForeignModelError(
                        f"{path}: state {value.name!r} {_text(value)} becomes {found.name!r} {_text(found)}"
                    )
                return found
    raise ForeignModelError(f"{path}: no output carries the state {value.name!r} on", hint="'present...' was expected.")


def _growing(path: Path, value: _Value, output: _Value, graph: Any) -> dict[str, Any]:
    """A KV cache [batch, heads, positions, head dim]: extended in place, or concatenated with what is new."""
    if len(value.shape) != 4 or not isinstance(value.shape[1], int):
        raise ForeignModelError(f"{path}: KV cache {value.name!r} {_text(value)} is not [batch, heads, positions, dim]")
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
        raise ForeignModelError(f"{path}: KV cache {value.name!r} {_text(value)}: its head dimension is not known")
    shape: list[Dim] = ["batch", value.shape[1], "capacity", head_dim]
    if _concatenates(node, value):
        if isinstance(value.shape[2], int):
            raise ForeignModelError(
                f"{path}: KV cache {value.name!r} {_text(value)} gets longer at every call, and says a fixed length",
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


def _concatenates(node: Any, value: _Value) -> bool:
    """Whether a node makes a cache longer by appending rows to a copy of it."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Concat":
        axis = next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 0)
        return axis in (2, -2) and bool(node.input[0] == value.name)
    return bool(node.op_type == "Attention" and value.name in node.input[4:6])


def _head_dim(node: Any, graph: Any) -> int | None:
    """Head dimension of an attention node: its output's width (recorded, or its consumer's) over its heads."""
    heads = next((int(attribute.i) for attribute in node.attribute if attribute.name == "num_heads"), 0)
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
                width = next((int(attribute.i) for attribute in consumer.attribute if attribute.name == "K"), 0)
            elif consumer.op_type == "MatMul" and len(sizes.get(consumer.input[1], ())) == 2:
                width = int(sizes[consumer.input[1]][0])
    return width // heads if heads and width and width % heads == 0 else None


def _logits(path: Path, outputs: Mapping[str, _Value]) -> _Value:
    logits = outputs.get("logits")
    if logits is None:
        raise ForeignModelError(f"{path}: no output 'logits'; its outputs: {', '.join(outputs) or 'none'}")
    if len(logits.shape) != 3 or not isinstance(logits.shape[2], int) or logits.shape[2] < 1:
        raise ForeignModelError(f"{path}: output 'logits' {_text(logits)} is not [batch, positions, vocabulary]")
    if logits.dtype not in ("float32", "float16"):
        raise ForeignModelError(f"{path}: output 'logits' {_text(logits)} is understood as float32 or float16 only")
    return logits


def _data_files(path: Path, graph: Any) -> tuple[Path, ...]:
    """External data files named by initialisers, checked to exist and to be long enough."""
    folder = path.absolute().parent
    needed: dict[str, int] = {}
    for tensor in _initializers(graph):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        location = entry.get("location", "")
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise ForeignModelError(f"{path}: tensor {tensor.name!r} has its data at {location!r}, outside the folder")
        try:
            end = int(entry.get("offset") or 0) + int(entry.get("length") or 0)
        except ValueError as error:
            raise ForeignModelError(f"{path}: tensor {tensor.name!r} has damaged external data fields") from error
        needed[location] = max(needed.get(location, 0), end)
    for location, end in needed.items():
        file = folder / location
        if not file.is_file():
            raise ForeignModelError(f"{path}: its external data file {location!r} is missing in {folder}")
        if file.stat().st_size < end:
            raise ForeignModelError(
                f"{path}: its external data file {location!r} is cut short ({file.stat().st_size} < {end})"
            )
    return tuple(folder / location for location in needed)
