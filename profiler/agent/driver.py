"""Drives a graph through its signature: buffers and bindings made once, state fed back without copies.

Shapes: B batch, T tokens of one call, V vocabulary. A KV cache that is kept in place is one buffer, bound as past and
as present. A state of fixed size has two buffers that change roles at every call, hence two bindings per T. So has a KV
cache that is a concatenation (growing, not in place): S rows are bound as past and S + T as present, hence a binding
for every S. Such bindings are made when a sequence first comes there, the warm-up's, and kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from .protocol import JobFailure, Json
from .weights import tensor_values

Array = npt.NDArray[Any]
_CPU = "cpu"
_ALIGNMENT = 64
_TYPES = {
    "float32": np.float32, "float16": np.float16, "uint8": np.uint8, "int8": np.int8, "int32": np.int32,
    "int64": np.int64, "bool": np.bool_,
}  # fmt: skip


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """A zeroed array that starts at a multiple of 64 bytes."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    array: Array = raw[start : start + size].view(kind).reshape(shape)
    return array


def _made_up(seed: int, shape: tuple[int, ...]) -> Array:
    """Seeded values in [-0.1, 0.1): states of that size neither vanish nor blow up."""
    fill = {"kind": "uniform", "seed": seed, "low": -0.1, "high": 0.1}
    return tensor_values({"dtype": "float32", "shape": shape, "fill": fill})


@dataclass
class _State:
    input: str
    output: str
    sides: tuple[Array, Array]
    keep: bool  # growing: what lies behind the valid length is never read
    rows: int | None  # the axis of a concatenation's rows

    def shape(self, rows: int) -> list[int]:
        """The shape to bind when a concatenation has that many rows."""
        return [rows if axis == self.rows else size for axis, size in enumerate(self.sides[0].shape)]


class Driver:
    """One session at one point: states and the position in the sequence.

    Raises:
        JobFailure: The signature names something that the graph does not have, or a dtype that we cannot make.
    """

    def __init__(self, session: ort.InferenceSession, signature: Json, *, batch: int, capacity: int) -> None:
        self.session = session
        self.signature = signature
        self.batch = batch
        self.capacity = capacity
        self.past = 0
        self.side = 0
        self._pretending = False
        self.states = [self._state(entry) for entry in signature["states"]]
        self.outputs: dict[str, Any] = {output.name: output for output in session.get_outputs()}
        self._check_names()

    def _state(self, entry: Json) -> _State:
        sizes: dict[str, int] = {"batch": self.batch, "capacity": self.capacity}
        shape = tuple(sizes[dim] if isinstance(dim, str) else int(dim) for dim in entry["shape"])
        dtype = numpy_type(entry["dtype"])
        growing = bool(entry["growing"])
        first = zeros(shape, dtype)
        in_place = bool(entry.get("in_place", growing))
        second = first if in_place else zeros(shape, dtype)
        rows = None
        if growing and not in_place:
            if entry["shape"].count("capacity") != 1:
                raise JobFailure("failed", f"state {entry['input']!r} is a concatenation without one axis 'capacity'")
            rows = entry["shape"].index("capacity")
        return _State(entry["input"], entry["output"], (first, second), growing, rows)

    def _check_names(self) -> None:
        there = {value.name for value in self.session.get_inputs()}
        wanted = {entry["name"] for entry in self.signature["inputs"]} | {state.input for state in self.states}
        if there != wanted:
            odd = ", ".join(sorted(there ^ wanted))
            raise JobFailure("failed", f"the signature and the graph do not have the same inputs: {odd}")
        if missing := [state.output for state in self.states if state.output not in self.outputs]:
            raise JobFailure("failed", f"the graph has no output {missing[0]!r}")

    def reset(self) -> None:
        """Begin a new sequence: empty caches, zero states."""
        self.past = 0
        self.side = 0
        for state in self.states:
            if not state.keep:
                state.sides[0].fill(0)

    def pretend(self, depth: int) -> None:
        """Begin in the middle of a sequence: `depth` tokens are said to have passed, and states hold made-up values.

        The time of a step depends on how much there is to look back at, not on what was said; only its output does.
        """
        for number, state in enumerate(self.states):
            if not (state.keep and self._pretending):  # of a cache, only rows behind `depth` are ever written
                values = _made_up(number, state.sides[0].shape)
                np.copyto(state.sides[0], values, casting="same_kind")
        self._pretending = True
        self.past = depth
        self.side = 0

    def call(self, tokens: int, *, output: str | None = None) -> Call:
        """Prepare calls of T = `tokens`; `output` names one that is handed out instead of the logits."""
        return Call(self, tokens, output)


class Call:
    """Calls of one length T. `tokens` or `hidden` is written before `run`, `logits` read after it.

    Attributes:
        tokens: int [B, T], or None for a block.
        hidden: float [B, T, d], or None for a model.
        logits: float [B, V], the last position's; a view of the bound output. None for a block.
    """

    def __init__(self, driver: Driver, length: int, output: str | None) -> None:
        self._driver = driver
        self._length = length
        self._output = output
        self._run = driver.session.run_with_iobinding
        self.tokens: Array | None = None
        self.hidden: Array | None = None
        self.logits: Array | None = None
        self._totals: list[tuple[Array, int]] = []  # filled with total + offset at every call
        self._positions: tuple[Array, Array] | None = None
        self._mask: tuple[str, Any, int] | None = None
        self._buffers: list[tuple[str, Array]] = []
        self._keep: list[Array] = []
        for entry in driver.signature["inputs"]:
            self._input(entry)
        self._bound = self._bind_logits() if output is None else None
        self._grows = any(state.rows is not None for state in driver.states)
        self._sides = any(state.sides[0] is not state.sides[1] for state in driver.states)
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}  # by side and, of concatenations, past rows
        self._last: ort.IOBinding | None = None
        if not self._grows:
            for side in range(1 + self._sides):
                self._bindings[side, 0] = self._binding(side, 0)

    def _input(self, entry: Json) -> None:
        batch, length = self._driver.batch, self._length
        name, role, dtype = entry["name"], entry["role"], numpy_type(entry["dtype"])
        if role == "attention_mask":
            ones = zeros((batch * self._driver.capacity,), dtype)
            ones.fill(1)
            self._keep.append(ones)
            self._mask = (name, dtype, ones.ctypes.data)
            return
        if role == "tokens":
            buffer = self.tokens = zeros((batch, length), dtype)
        elif role == "hidden":
            buffer = self.hidden = zeros((batch, length, int(entry["shape"][-1])), dtype)
        elif role == "position_ids":
            axes = tuple(int(size) for size in entry["shape"][:-2])  # the same positions along each
            buffer = zeros((*axes, batch, length), dtype)
            self._positions = (buffer, np.arange(length, dtype=dtype))
        elif role == "seqlens_k":
            buffer = zeros((batch, 1) if len(entry["shape"]) == 2 else (batch,), dtype)
            self._totals.append((buffer, -1))
        elif role == "total_length":
            buffer = zeros((1,) if entry["shape"] else (), dtype)
            self._totals.append((buffer, 0))
        else:
            raise JobFailure("failed", f"input {name!r} has the unknown role {role!r}")
        self._buffers.append((name, buffer))

    def _bind_logits(self) -> tuple[str, Array]:
        signature, batch = self._driver.signature, self._driver.batch
        name = signature["logits"]
        if name not in self._driver.outputs:
            raise JobFailure("failed", f"the graph has no output {name!r}")
        value = self._driver.outputs[name]
        size = value.shape[-1] if isinstance(value.shape[-1], int) else int(signature["vocab_size"])
        positions = self._length if signature["logits_positions"] == "all" else 1
        shape = (batch, size) if len(value.shape) == 2 else (batch, positions, size)
        buffer = zeros(shape, numpy_type(value.type))
        vocabulary = min(size, int(signature["vocab_size"]))
        self.logits = (buffer if buffer.ndim == 2 else buffer[:, -1, :])[:, :vocabulary]
        return name, buffer

    def _binding(self, side: int, past: int) -> ort.IOBinding:
        binding = self._driver.session.io_binding()
        for name, buffer in self._buffers:
            bind_input(binding, name, buffer)
        if self._bound is not None:
            bind_output(binding, *self._bound)
        else:
            binding.bind_output(self._output, _CPU)
        for state in self._driver.states:
            bind_input(binding, state.input, state.sides[side], state.shape(past))
            bind_output(binding, state.output, state.sides[1 - side], state.shape(past + self._length))
        return binding

    def _binding_now(self) -> ort.IOBinding:
        driver = self._driver
        key = (driver.side if self._sides else 0, driver.past if self._grows else 0)
        binding = self._bindings.get(key)
        if binding is None:
            if driver.past + self._length > driver.capacity:
                raise JobFailure("failed", f"the caches were made for {driver.capacity} tokens, and this is one more")
            binding = self._bindings[key] = self._binding(*key)
        return binding

    def run(self) -> None:
        """Run the graph on what the input buffer holds, and move on by T tokens.

        Allocates nothing, but for the bindings of a concatenation the first time that a sequence has come so far.
        """
        driver = self._driver
        past = driver.past
        total = past + self._length
        binding = self._last = self._binding_now()
        if self._positions is not None:
            np.add(self._positions[1], past, out=self._positions[0])
        for buffer, offset in self._totals:
            buffer.fill(total + offset)
        if self._mask is not None:
            name, dtype, address = self._mask
            binding.bind_input(name, _CPU, 0, dtype, [driver.batch, total], address)
        self._run(binding)
        driver.past = total
        driver.side = 1 - driver.side

    def result(self) -> Array:
        """A copy of the named output of the last `run`."""
        assert self._last is not None, "run first"
        return np.array(self._last.get_outputs()[0].numpy())  # bound before the states


def bind_input(binding: ort.IOBinding, name: str, buffer: Array, shape: list[int] | None = None) -> None:
    """Bind an array's own memory as an input, under its own shape or a smaller one."""
    binding.bind_input(name, _CPU, 0, buffer.dtype.type, shape or list(buffer.shape), buffer.ctypes.data)


def bind_output(binding: ort.IOBinding, name: str, buffer: Array, shape: list[int] | None = None) -> None:
    """Bind an array's own memory as an output, under its own shape or a smaller one."""
    binding.bind_output(name, _CPU, 0, buffer.dtype.type, shape or list(buffer.shape), buffer.ctypes.data)


def numpy_type(name: str) -> Any:
    """Numpy's type for a dtype of a signature or of onnxruntime (`tensor(float)`).

    Raises:
        JobFailure: Numpy has no such type.
    """
    plain = name.removeprefix("tensor(").removesuffix(")")
    plain = {"float": "float32", "double": "float64"}.get(plain, plain)
    try:
        return _TYPES[plain]
    except KeyError:
        raise JobFailure("failed", f"dtype {name!r} is none of {', '.join(_TYPES)}") from None
