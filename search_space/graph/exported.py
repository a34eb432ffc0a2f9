"""The lowering `exported`: what torch.onnx.export makes of a block's module, merged into the graph under construction.

Matrices of `nn.Linear` become products at the graph's precision, as in every other lowering; other parameters stay
float32. Nothing else is changed: the operators are those that the exporter chose.
"""

from __future__ import annotations

import hashlib
from math import prod

import numpy as np
import onnx_ir as ir

from search_space.blocks._base import EXPORTED, Block
from search_space.errors import ExportError
from search_space.graph.builder import MICROSOFT, GraphBuilder
from search_space.graph.export_cache import exported_model
from search_space.graph.precision import QUANTIZATION
from search_space.graph.torch_export import HIDDEN, POSITION, Trainable, trainable_of

INLINE_BYTES = 1 << 10
"""Constants up to this size lie in the graph; larger ones in the data file."""

CONSTANT_BYTES = 1 << 16
"""Largest constant: its values travel as text in the recipe."""

_SPREAD = 0.1
"""Half the range of a parameter that the module initialises with one value (a norm, a bias)."""


def build(g: GraphBuilder, block: Block, width: int, x: ir.Value) -> ir.Value:
    """The block as torch exports it: [B, T, D] -> [B, T, D].

    Raises:
        ExportError: Its module cannot be exported, or holds what a graph without weights cannot carry.
    """
    return _Merge(g, block, width, x).result()


class _Merge:
    """Writes the nodes of an exported module into a builder's graph, in their order."""

    def __init__(self, g: GraphBuilder, block: Block, width: int, x: ir.Value) -> None:
        self.g = g
        self.block = block
        self.states = block.lowered_states(EXPORTED, width, context=g.context)
        model = exported_model(block, width, self.states)
        self.source = model.graph
        self.trainable = {f"weight.{p.name}": p for p in trainable_of(model)}
        self.values: dict[ir.Value, ir.Value] = {}
        self.matrices: dict[str, tuple[str, ...]] = {}  # stored tensors of a Linear that has occurred
        self.done: set[ir.Node] = set()
        for value in self.source.inputs:
            if value.name == HIDDEN:
                self.values[value] = x
        self.x = x

    def result(self) -> ir.Value:
        past = [self.g.state_input(state) for state in self.states]
        names = {f"past.{state.name}": value for state, value in zip(self.states, past, strict=True)}
        for value in self.source.inputs:
            if value.name in names:
                self.values[value] = names[value.name]
        for node in self.source:
            if node not in self.done:
                self.node(node)
        self.require_all_used()
        y, *new = (self.value(output) for output in self.source.outputs)
        taken = {self.x, y, *past}
        for state, value in zip(self.states, new, strict=True):
            # An output is named after its state: it cannot also be an input, or another output.
            own = self.g.op("Identity", value) if value in taken or value.producer() is None else value
            taken.add(own)
            self.g.state_output(state, own)
        return self.g.op("Identity", y) if y is self.x else y

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, value: ir.Value) -> ir.Value:
        """The builder's value of one of the module's; inputs and constants are made when they are first read."""
        if value not in self.values:
            if value.name == POSITION:
                self.values[value] = self.position()
            elif value.name in self.trainable:
                self.values[value] = self.weight(self.trainable[value.name])
            elif (matrix := _transposed(value, self.trainable)) is not None:
                self.values[value] = self.weight(matrix)
            else:
                self.values[value] = self.constant(value)
        return self.values[value]

    def position(self) -> ir.Value:
        """Tokens already seen, an int64 scalar: those visible at the end of the call, less those of the call."""
        total = self.g.op("Cast", self.g.total_length(), to=int(ir.DataType.INT64))
        length = self.g.op("Squeeze", self.g.op("Shape", self.x, start=1, end=2))
        return self.g.op("Sub", total, length)

    def weight(self, parameter: Trainable) -> ir.Value:
        if parameter.linear:
            raise ExportError(
                f"{self.block.kind}: the matrix {parameter.name!r} of an nn.Linear is also used in another way than "
                "x @ W.T, which packed weights cannot be",
                hint="make it an nn.Parameter: it then stays float32 at every precision",
            )
        low, high = _range(parameter)
        return self.g.weight(parameter.name, parameter.shape, low=low, high=high)

    def constant(self, value: ir.Value) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None, f"{value.name} is no input, and nothing makes it"
        array = tensor.numpy()
        name = f"constant_{array.dtype}_{'x'.join(map(str, array.shape))}_{_digest(array)}"
        if array.nbytes <= INLINE_BYTES:
            return self.g.inline(name, array)
        if array.nbytes <= CONSTANT_BYTES and array.dtype == np.float32:
            fill = {"kind": "values", "values": array.ravel().tolist()}
            return self.g.constant(name, array.shape, fill)
        raise ExportError(
            f"{self.block.kind}: its module holds a constant of {array.nbytes >> 10} KiB ({list(array.shape)}, "
            f"{array.dtype}); a graph travels without such tables (float32 up to {CONSTANT_BYTES >> 10} KiB, others up "
            f"to {INLINE_BYTES >> 10} KiB)",
            hint="compute it in `forward`, make it a parameter, or give the block a lowering of its own",
        )

    def require_all_used(self) -> None:
        made = {parameter.name for parameter in self.g.parameters}
        for parameter in self.trainable.values():
            if self.g.path(parameter.name) not in made:
                raise ExportError(f"{self.block.kind}: parameter {parameter.name!r} of its module has no effect")

    # -- nodes ---------------------------------------------------------------------------------------------------

    def node(self, node: ir.Node) -> None:
        if _transposed(node.outputs[0], self.trainable) is not None:
            return  # read by the products behind it
        product = _product(node, self.trainable)
        if product is not None:
            self.product(node, *product)
            return
        if node.op_type == "Constant" and node.domain == "":
            self.values[node.outputs[0]] = self.constant(_constant_of(node))
            return
        if node.domain not in ("", "ai.onnx", MICROSOFT) or any(a.type in _GRAPHS for a in node.attributes.values()):
            raise ExportError(
                f"{self.block.kind} cannot be exported by torch: its module becomes a {node.op_type} node with a graph "
                "or function of its own inside, which is not supported",
                hint="a lowering of its own, or tensor operations without control flow",
            )
        inputs = [None if value is None else self.value(value) for value in node.inputs]
        attributes = dict(node.attributes.items())
        made = self.g.ops(node.op_type, *inputs, outputs=len(node.outputs), domain=node.domain, **attributes)
        for old, new in zip(node.outputs, made, strict=True):
            self.values[old] = new
            if not old.name:
                new.name = ""  # an optional output that is left out

    def product(self, node: ir.Node, parameter: Trainable, bias: ir.Value | None) -> None:
        """``x @ W.T (+ b)`` with the matrix of a Linear, at the graph's precision."""
        name = parameter.name.removesuffix(".weight")
        outputs, inputs = parameter.shape
        x = node.inputs[0]
        assert x is not None
        last = node.outputs[0]
        if bias is None and (add := _bias_of(last, name, self.trainable)) is not None:
            self.done.add(add)
            bias, last = _other(add, last), add.outputs[0]
        own = bias is not None and bias.name == f"weight.{name}.bias" and bias not in self.values
        if name not in self.matrices:
            y = self.g.linear(name, self.value(x), inputs, outputs, bias=own)
            (self.matrices[name],) = self.g.parameters[-1].parts
            if own:
                assert bias is not None
                stored = next(t for t in self.g.recipe.tensors if t.name == self.g.path(f"{name}.bias"))
                self.values[bias] = self.g.external(stored)
        else:
            y, own = self.again(self.matrices[name], self.value(x), inputs, outputs), False
        if bias is not None and not own:
            y = self.g.op("Add", y, self.value(bias))
        self.values[last] = y

    def again(self, names: tuple[str, ...], x: ir.Value, inputs: int, outputs: int) -> ir.Value:
        """A product with a matrix that is already stored: the module calls one Linear more than once."""
        by_name = {tensor.name: tensor for tensor in self.g.recipe.tensors}
        stored = [self.g.external(by_name[name]) for name in names]
        if QUANTIZATION[self.g.precision] is None:
            return self.g.op("MatMul", x, stored[0])
        return self.g.matmul_nbits(x, stored[0], stored[1], inputs, outputs)


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _is_linear(value: ir.Value | None, trainable: dict[str, Trainable]) -> bool:
    return value is not None and value.name in trainable and trainable[value.name].linear


def _transposed(value: ir.Value, trainable: dict[str, Trainable]) -> Trainable | None:
    """The Linear whose matrix this value is, transposed."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or not _is_linear(node.inputs[0], trainable):
        return None
    perm = node.attributes["perm"].value if "perm" in node.attributes else (1, 0)
    return trainable[node.inputs[0].name or ""] if tuple(perm) == (1, 0) and node.inputs[0] is not None else None


def _product(node: ir.Node, trainable: dict[str, Trainable]) -> tuple[Trainable, ir.Value | None] | None:
    """The parameter and the bias of a node that is ``x @ W.T (+ b)``; None for any other node."""
    if node.op_type == "MatMul":
        right = node.inputs[1]
        parameter = None if right is None else _transposed(right, trainable)
        return None if parameter is None else (parameter, None)
    if node.op_type == "Gemm" and _is_linear(node.inputs[1], trainable):
        wanted = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}
        defaults = {**wanted, "transB": 0}
        matrix = node.inputs[1]
        assert matrix is not None
        if all((node.attributes[k].value if k in node.attributes else defaults[k]) == v for k, v in wanted.items()):
            return trainable[matrix.name or ""], node.inputs[2] if len(node.inputs) > 2 else None
    return None


def _bias_of(y: ir.Value, name: str, trainable: dict[str, Trainable]) -> ir.Node | None:
    """The node that adds the bias of the Linear `name` to its product, if nothing else reads the product."""
    uses = list(y.uses())
    if len(uses) != 1 or y.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    other = _other(uses[0].node, y)
    bias = f"weight.{name}.bias"
    return uses[0].node if other is not None and other.name == bias and bias in trainable else None


def _other(add: ir.Node, one: ir.Value) -> ir.Value | None:
    return add.inputs[1] if add.inputs[0] is one else add.inputs[0]


def _constant_of(node: ir.Node) -> ir.Value:
    """The value of a `Constant` node, whichever attribute holds it."""
    value = node.outputs[0]
    value.const_value = ir.convenience.get_const_tensor(value)
    return value


def _range(parameter: Trainable) -> tuple[float, float]:
    """Values to draw a parameter from: matrices have a standard deviation of 1/sqrt(inputs), vectors their own range.

    A vector's range is what the module's initialisation gives it, so that decays and gates work where they should.
    """
    if len(parameter.shape) > 1:
        bound = (3.0 / prod(parameter.shape[1:])) ** 0.5
        return -bound, bound
    low, high = parameter.low, parameter.high
    if not np.isfinite([low, high]).all():
        return -_SPREAD, _SPREAD
    return (low - _SPREAD, high + _SPREAD) if low == high else (low, high)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
