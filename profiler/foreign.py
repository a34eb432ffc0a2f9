"""Reads an ONNX file from elsewhere and says how to drive it, or why that is not possible.

Understood are decoder graphs in the convention of the ONNX Runtime GenAI builder:
    input_ids, attention_mask and position_ids of shape [batch, n]; position_ids of shape [3, batch, n] where rotary
    positions are of time, height and width, all three the same for text; seqlens_k and total_sequence_length;
    past_key_values.N.key / .value -> present.N.key / .value, growing: in place where a GroupQueryAttention node writes
    them, a new tensor at every call where a Concat or the standard's Attention makes them; of fixed size where the
    node says that they hold a window;
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
from profiler.foreign_states import Dim, Value, state, text
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
POSITION_AXES = 3
"""Of a multimodal rotary embedding (Wang et al. 2024, arXiv:2409.12191): time, height and width."""
SIGNATURE_NAME = "signature.json"


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


_ROTARY_TABLES = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (2, 3), "MRotaryEmbedding": (2, 3)}
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


def _signature(path: Path, inputs: list[Value], outputs: Mapping[str, Value], graph: Any) -> dict[str, Any]:
    """How a graph of the GenAI builder's convention is driven."""
    driven, states = [], []
    for value in inputs:
        role = _ROLES.get(value.name)
        if role is not None:
            driven.append(_driven(path, value, role))
        elif value.name.startswith("past"):
            states.append(state(path, value, outputs, graph))
        else:
            raise ForeignModelError(
                f"{path}: input {value.name!r} {text(value)} is not understood",
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


def _own_signature(path: Path, inputs: list[Value], outputs: Mapping[str, Value]) -> dict[str, Any] | None:
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


def _value(path: Path, info: Any) -> Value:
    import onnx

    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or not tensor.HasField("shape"):
        raise ForeignModelError(f"{path}: {info.name!r} is no tensor of known rank")
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        dims.append(int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param))
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dtype = {"float": "float32", "double": "float64"}.get(name, name)
    return Value(info.name, dtype, tuple(dims))


def _driven(path: Path, value: Value, role: str) -> dict[str, Any]:
    rank = _RANKS.get(role)
    axes = role == "position_ids" and len(value.shape) == 3 and value.shape[0] == POSITION_AXES
    if (rank is not None and len(value.shape) != rank + axes) or (role == "total_length" and len(value.shape) > 1):
        raise ForeignModelError(f"{path}: input {value.name!r} {text(value)} has another rank than expected")
    if value.dtype not in _TYPES[role]:
        allowed = " or ".join(_TYPES[role])
        raise ForeignModelError(f"{path}: input {value.name!r} {text(value)} is understood as {allowed} only")
    sizes = value.shape[axes:]
    if fixed := [dim for dim in sizes if isinstance(dim, int) and not (role == "total_length" and dim == 1)]:
        raise ForeignModelError(
            f"{path}: input {value.name!r} {text(value)} has a fixed size {fixed[0]}",
            hint="Export with dynamic batch and sequence axes: one graph must serve prefill and single steps.",
        )
    shapes: dict[str, list[Dim]] = {
        "tokens": ["batch", "T"],
        "position_ids": [*([POSITION_AXES] * axes), "batch", "T"],
        "attention_mask": ["batch", "total"],
        "seqlens_k": ["batch"],
    }
    return {"name": value.name, "role": role, "dtype": value.dtype, "shape": shapes.get(role, list(value.shape))}


def _logits(path: Path, outputs: Mapping[str, Value]) -> Value:
    logits = outputs.get("logits")
    if logits is None:
        raise ForeignModelError(f"{path}: no output 'logits'; its outputs: {', '.join(outputs) or 'none'}")
    if len(logits.shape) != 3 or not isinstance(logits.shape[2], int) or logits.shape[2] < 1:
        raise ForeignModelError(f"{path}: output 'logits' {text(logits)} is not [batch, positions, vocabulary]")
    if logits.dtype not in ("float32", "float16"):
        raise ForeignModelError(f"{path}: output 'logits' {text(logits)} is understood as float32 or float16 only")
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
