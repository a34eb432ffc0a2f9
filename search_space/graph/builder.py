"""Builds one ONNX graph whose weights live in an external file that does not exist yet.

Blocks call `GraphBuilder`: `op` for a node, `branch` and `scan` for nodes with subgraphs, `linear` for a product with
trainable weights at the graph's precision, `weight` for other trainable tensors, `state_input` and `state_output` for
what is carried from call to call. The builder names everything after the scope it happens in
(``layers.3.mixer/MatMulNBits_7``), so that a runtime profile can be summed per block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from search_space.blocks._base import StateSpec
from search_space.graph.nodes import NodeWriter
from search_space.graph.precision import QUANTIZATION, PrecisionName
from search_space.graph.recipe import DATA_FILE, Cut, RecipeWriter, StoredTensor, quantized_scale

if TYPE_CHECKING:
    import numpy as np

OPSET = 23
"""Last opset in which every standard operator used here has an ONNX Runtime CPU kernel (official limit of 1.31: 26)."""

IR_VERSION = 11
MICROSOFT = "com.microsoft"
_DTYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "uint8": ir.DataType.UINT8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A trainable tensor of the torch model and where the graph keeps it.

    Attributes:
        name: Name in the torch model's state dict.
        shape: Shape in the torch model.
        encoding: ``plain``; ``transposed`` (stored [inputs, outputs]); or ``int8`` / ``int4`` (packed values and
            scales).
        parts: For each slice along the first torch dimension, the names of its stored tensors.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    parts: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        """Trainable values."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBinding:
    """A carried state as graph input and output."""

    spec: StateSpec
    input: str
    output: str


class GraphBuilder(NodeWriter):
    """A graph under construction.

    Attributes:
        precision: Precision of every `linear`.
        context: Most tokens that the graph's caches and position tables must hold.
        depth: Number of layers; outputs of residual branches start smaller by sqrt(2 depth), as in GPT-2.
        parameters: Trainable tensors so far.
        states: Carried states so far.
    """

    def __init__(self, *, precision: PrecisionName, context: int, depth: int, seed: int) -> None:
        super().__init__()
        self.precision = precision
        self.context = context
        self.depth = depth
        self.recipe = RecipeWriter(seed)
        self.parameters: list[Parameter] = []
        self.states: list[StateBinding] = []
        self.inputs: list[ir.Value] = []
        self.roles: dict[str, str] = {}
        self._outputs: list[ir.Value] = []
        self._state_outputs: list[ir.Value] = []
        self._initializers: dict[str, ir.Value] = {}

    # -- graph edges ---------------------------------------------------------------------------------------------

    def input(self, name: str, role: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        """A graph input, made on first use; `role` tells the agent what to feed."""
        for value in self.inputs:
            if value.name == name:
                return value
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        self.inputs.append(value)
        self.roles[name] = role
        return value

    def seqlens_k(self) -> ir.Value:
        """Input [B]: tokens visible at the end of this call, minus one (the form `GroupQueryAttention` wants)."""
        return self.input("seqlens_k", "seqlens_k", ir.DataType.INT32, ["batch"])

    def total_length(self) -> ir.Value:
        """Scalar input: tokens visible at the end of this call."""
        return self.input("total_sequence_length", "total_length", ir.DataType.INT32, [])

    def state_input(self, spec: StateSpec) -> ir.Value:
        """The past value of a state: a float32 graph input of its shape."""
        name = f"past.{self.path(spec.name)}"
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(spec.shape))
        self.inputs.append(value)
        self.states.append(StateBinding(spec=spec, input=name, output=f"present.{self.path(spec.name)}"))
        return value

    def state_output(self, spec: StateSpec, value: ir.Value) -> None:
        """Declare `value` to be the state after this call."""
        assert not self.in_subgraph, "a state is an output of the main graph: return it from the subgraph first"
        value.name = f"present.{self.path(spec.name)}"
        value.shape = ir.Shape(spec.shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self._state_outputs.append(value)

    def output(self, name: str, value: ir.Value, shape: Sequence[int | str]) -> None:
        """Declare a graph output of float32."""
        value.name = name
        value.shape = ir.Shape(shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self._outputs.append(value)

    # -- small constants, and short forms of common nodes --------------------------------------------------------

    def ints(self, *values: int) -> ir.Value:
        """A small int64 vector kept inside the graph; equal vectors are shared."""
        return self._inline("ints_" + "_".join(map(str, values)), ir.DataType.INT64, values, (len(values),))

    def float_scalar(self, value: float) -> ir.Value:
        """A float32 scalar kept inside the graph."""
        return self._inline(f"float_{value!r}", ir.DataType.FLOAT, (value,), ())

    def _inline(self, name: str, dtype: ir.DataType, values: Sequence[float], shape: tuple[int, ...]) -> ir.Value:
        import numpy as np

        return self.inline(name, np.array(values, dtype=dtype.numpy()).reshape(shape))

    def inline(self, name: str, array: np.ndarray) -> ir.Value:
        """A small array kept inside the graph; equal names are one."""
        if name not in self._initializers:
            tensor = ir.Tensor(array, name=name)
            value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
            value.const_value = tensor
            self._initializers[name] = value
        return self._initializers[name]

    def split(self, x: ir.Value, sizes: Sequence[int]) -> Sequence[ir.Value]:
        """Split the last axis into parts of these sizes."""
        return self.ops("Split", x, self.ints(*sizes), outputs=len(sizes), axis=-1)

    def reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        """Reshape; 0 keeps a dimension, -1 is solved for."""
        return self.op("Reshape", x, self.ints(*shape))

    def silu(self, x: ir.Value) -> ir.Value:
        """``x * sigmoid(x)`` in one kernel: QuickGELU with alpha 1."""
        return self.op("QuickGelu", x, domain=MICROSOFT, alpha=1.0)

    # -- weights -------------------------------------------------------------------------------------------------

    def external(self, tensor: StoredTensor) -> ir.Value:
        """The graph value of a stored tensor."""
        if tensor.name not in self._initializers:
            self._view(tensor, tensor.name, tensor.shape)
        return self._initializers[tensor.name]

    def alias(self, tensor: StoredTensor, suffix: str, shape: tuple[int, ...]) -> ir.Value:
        """A second view of a stored tensor's bytes under another shape: stored once, mapped twice."""
        return self._view(tensor, f"{tensor.name}.{suffix}", shape)

    def _view(self, tensor: StoredTensor, name: str, shape: tuple[int, ...]) -> ir.Value:
        dtype = _DTYPES[tensor.dtype]
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        value.const_value = ir.ExternalTensor(
            location=DATA_FILE,
            offset=tensor.offset,
            length=tensor.nbytes,
            dtype=dtype,
            shape=ir.Shape(shape),
            name=name,
        )
        self._initializers[name] = value
        return value

    def weight(self, name: str, shape: tuple[int, ...], *, low: float, high: float) -> ir.Value:
        """A trainable float32 tensor, drawn uniformly from [low, high)."""
        full = self.path(name)
        tensor = self.recipe.uniform(full, shape, low=low, high=high)
        self.parameters.append(Parameter(name=full, shape=shape, encoding="plain", parts=((full,),)))
        return self.external(tensor)

    def constant(self, name: str, shape: tuple[int, ...], fill: dict[str, Any]) -> ir.Value:
        """A float32 tensor that is not trained (a position table); equal names are one tensor."""
        if name in self._initializers:
            return self._initializers[name]
        return self.external(self.recipe.add(name, "float32", shape, fill))

    def linear(
        self, name: str, x: ir.Value, inputs: int, outputs: int, *, bias: bool = False, residual: bool = False
    ) -> ir.Value:
        """``x @ W.T (+ b)`` with trainable W [outputs, inputs] at the graph's precision.

        Args:
            name: Name of the torch `Linear`.
            x: [..., inputs].
            inputs: Input features.
            outputs: Output features.
            bias: Add a trainable float32 bias.
            residual: The result is added to the residual stream: start smaller by sqrt(2 depth).

        Returns:
            [..., outputs].
        """
        (y,) = self.linear_parts(name, x, inputs, (outputs,), bias=bias, residual=residual)
        return y

    def linear_parts(
        self,
        name: str,
        x: ir.Value,
        inputs: int,
        outputs: Sequence[int],
        *,
        bias: bool = False,
        residual: bool = False,
    ) -> list[ir.Value]:
        """One trainable matrix applied as several products, one for each slice of its rows (see `linear`).

        Its values are those that it has as a whole.

        Raises:
            ValueError: A bias of several products, which nothing needs.
        """
        std = inputs**-0.5 / ((2 * self.depth) ** 0.5 if residual else 1.0)
        single = len(outputs) == 1
        if bias and not single:
            raise ValueError(f"{name}: a bias goes with one product")
        results, parts = [], []
        for index, rows in enumerate(outputs):
            whole = self.path(f"{name}.weight")
            part = whole if single else f"{whole}.{index}"
            b = self.weight(f"{name}.bias", (rows,), low=-0.1, high=0.1) if bias else None
            cut = Cut(whole=whole, rows=sum(outputs), start=sum(outputs[:index]))
            y, stored = self._product(part, x, inputs, rows, std, b, cut)
            results.append(y)
            parts.append(stored)
        encoding = "transposed" if self.precision == "fp32" else self.precision
        self.parameters.append(
            Parameter(
                name=self.path(f"{name}.weight"), shape=(sum(outputs), inputs), encoding=encoding, parts=tuple(parts)
            )
        )
        return results

    def _product(
        self, name: str, x: ir.Value, inputs: int, outputs: int, std: float, bias: ir.Value | None, cut: Cut
    ) -> tuple[ir.Value, tuple[str, ...]]:
        quantization = QUANTIZATION[self.precision]
        if quantization is None:
            tensor = self.recipe.matrix(name, (inputs, outputs), std=std, cut=replace(cut, axis=1))
            y = self.op("MatMul", x, self.external(tensor))
            return (y if bias is None else self.op("Add", y, bias)), (name,)
        packed, scales = self.quantized(name, outputs, inputs, std, cut)
        y = self.matmul_nbits(x, self.external(packed), self.external(scales), inputs, outputs, bias)
        return y, (packed.name, scales.name)

    def quantized(
        self, name: str, outputs: int, inputs: int, std: float, cut: Cut | None = None
    ) -> tuple[StoredTensor, StoredTensor]:
        """Stored tensors of a matrix [N, K] at the graph's precision: packed values and scales [N, blocks].

        Args:
            name: Full name; the tensors are called `name`.packed and `name`.scales.
            outputs: Rows N.
            inputs: Columns K, quantised in blocks.
            std: Standard deviation that the values have once they are expanded.
            cut: Which rows of a larger matrix it has; None for one of its own.
        """
        quantization = QUANTIZATION[self.precision]
        assert quantization is not None
        scale = quantized_scale(quantization.bits, std)
        cuts = [None if cut is None else replace(cut, whole=f"{cut.whole}.{kind}") for kind in ("packed", "scales")]
        packed = self.recipe.packed(f"{name}.packed", quantization.packed_shape(outputs, inputs), cut=cuts[0])
        scales = self.recipe.uniform(
            f"{name}.scales", (outputs, quantization.blocks(inputs)), low=0.75 * scale, high=1.25 * scale, cut=cuts[1]
        )
        return packed, scales

    def matmul_nbits(
        self, x: ir.Value, packed: ir.Value, scales: ir.Value, inputs: int, outputs: int, bias: ir.Value | None = None
    ) -> ir.Value:
        """``x @ W.T (+ b)`` with block-quantised W in int8 arithmetic: [..., inputs] -> [..., outputs]."""
        quantization = QUANTIZATION[self.precision]
        assert quantization is not None
        operands = [x, packed, scales] if bias is None else [x, packed, scales, None, None, bias]
        return self.op(
            "MatMulNBits",
            *operands,
            domain=MICROSOFT,
            K=inputs,
            N=outputs,
            bits=quantization.bits,
            block_size=quantization.block,
            accuracy_level=4,
        )

    def rms_norm(self, name: str, x: ir.Value, size: int, eps: float) -> ir.Value:
        """RMSNorm over the last axis with a trainable weight (Zhang & Sennrich 2019, arXiv:1910.07467)."""
        weight = self.weight(f"{name}.weight", (size,), low=0.9, high=1.1)
        return self.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=eps, stash_type=1)

    def add_rms_norm(
        self, name: str, x: ir.Value, residual: ir.Value, size: int, eps: float
    ) -> tuple[ir.Value, ir.Value]:
        """``s = x + residual; return RMSNorm(s), s`` over [B, T, size] in one pass over memory."""
        weight = self.weight(f"{name}.weight", (size,), low=0.9, high=1.1)
        normed, mean, inverse, total = self.ops(
            "SkipSimplifiedLayerNormalization", x, residual, weight, outputs=4, domain=MICROSOFT, epsilon=eps
        )
        mean.name = inverse.name = ""  # statistics for training: an empty name tells the kernel to leave them out
        return normed, total

    # -- result --------------------------------------------------------------------------------------------------

    def model(self, name: str) -> ir.Model:
        """The finished model."""
        graph = ir.Graph(
            inputs=self.inputs,
            outputs=[*self._outputs, *self._state_outputs],
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET, MICROSOFT: 1},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="archsearch")
