"""Layout -> candidate: an ONNX graph without weights, the recipe of its weights, and how to drive it.

One graph serves prefill and decode: batch and length are dynamic, every carried state is an input and an output, and
logits are computed for the last position only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from search_space.blocks import Block, Lowering
from search_space.errors import ExportError
from search_space.graph.builder import MICROSOFT, GraphBuilder, Parameter
from search_space.graph.precision import PRECISIONS, QUANTIZATION, PrecisionName
from search_space.graph.recipe import RecipeWriter, StoredTensor
from search_space.layout import Layer, Layout, block_id

DEFAULT_CONTEXT = 4096
LOGITS = "logits"
HIDDEN_IN, HIDDEN_OUT = "hidden", "mixed"

LoweringChoice = Mapping[str, str]
"""Lowering name by block kind, or by `block_id` where specs of one kind differ; a kind goes before an id, and what is
left out uses its first lowering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What travels to a device.

    Attributes:
        graph: Serialised ONNX model; weights are references into ``weights.bin``.
        recipe: How the device makes ``weights.bin``.
        signature: Inputs with their roles, carried states and output.
        parameters: Trainable tensors and where the graph keeps them.
        stored: Every tensor of ``weights.bin``, in its order.
        lowerings: The lowering used for each block, by `block_id`.
        context: Most tokens that caches and position tables hold.
        precision: Storage of the weight matrices.
    """

    graph: bytes
    recipe: dict[str, Any]
    signature: dict[str, Any]
    parameters: tuple[Parameter, ...]
    stored: tuple[StoredTensor, ...]
    lowerings: Mapping[str, str]
    context: int
    precision: PrecisionName

    def trained_tensors(self) -> Iterator[StoredTensor]:
        """Stored tensors that hold trainable parameters (position tables are left out)."""
        names = {name for parameter in self.parameters for part in parameter.parts for name in part}
        return (tensor for tensor in self.stored if tensor.name in names)


def export_layout(
    layout: Layout,
    *,
    precision: PrecisionName = "int4",
    context: int = DEFAULT_CONTEXT,
    lowerings: LoweringChoice | None = None,
    seed: int = 0,
) -> Candidate:
    """Export a layout.

    Args:
        layout: What to export.
        precision: ``fp32``, ``int8`` or ``int4``.
        context: Most tokens that caches and position tables must hold.
        lowerings: Lowering by block kind or `block_id`.
        seed: Seed of the weights.

    Raises:
        ExportError: Unknown precision or lowering, or a context below 1.
    """
    _check(precision, context)
    g = GraphBuilder(precision=precision, context=context, depth=len(layout.layers), seed=seed)
    chosen = _Lowerings(lowerings or {})
    tokens = g.input("input_ids", "tokens", ir.DataType.INT64, ["batch", "tokens"])
    x, head_table = _embed(g, layout, tokens)
    x = _layers(g, layout, chosen, x)
    logits = _head(g, layout, x, head_table)
    g.output(LOGITS, logits, ["batch", 1, layout.embedding.vocab_size])
    return _candidate(g, chosen, graph_name(layout), LOGITS, layout.embedding.vocab_size)


def export_block(
    block: Block,
    width: int,
    *,
    precision: PrecisionName,
    context: int = 64,
    lowering: str | None = None,
    depth: int = 1,
    seed: int = 0,
) -> Candidate:
    """Export one block alone, to check its numbers: input and output [B, T, D], states as in a model.

    Raises:
        ExportError: Unknown precision or lowering.
    """
    _check(precision, context)
    g = GraphBuilder(precision=precision, context=context, depth=depth, seed=seed)
    chosen = _Lowerings({} if lowering is None else {block.kind: lowering})
    x = g.input(HIDDEN_IN, "hidden", ir.DataType.FLOAT, ["batch", "tokens", width])
    with g.scope("block"):
        y = chosen.build(g, block, width, x)
    g.output(HIDDEN_OUT, y, ["batch", "tokens", width])
    return _candidate(g, chosen, f"archsearch-{block.kind}-{width}", HIDDEN_OUT, 0)


def graph_name(layout: Layout) -> str:
    """What an exported graph calls itself: it tells which layout it was."""
    return f"archsearch-{layout.layout_id}"


def _check(precision: str, context: int) -> None:
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if context < 1:
        raise ExportError(f"context is {context}; it must be at least 1")


class _Lowerings:
    """Which lowering each block gets, remembered for the record."""

    def __init__(self, wanted: LoweringChoice) -> None:
        self.wanted = wanted
        self.used: dict[str, str] = {}

    def build(self, g: GraphBuilder, block: Block, width: int, x: ir.Value) -> ir.Value:
        return self._choose(block, width).build(g, block, width, x)

    def _choose(self, block: Block, width: int) -> Lowering:
        key, known = block_id(block, width), block.all_lowerings()
        name = self.wanted.get(block.kind) or self.wanted.get(key) or next(iter(known))
        if name not in known:
            raise ExportError(f"{block.kind} has no lowering {name!r}; it has {', '.join(known)}")
        self.used[key] = name
        return known[name]


def _embed(g: GraphBuilder, layout: Layout, tokens: ir.Value) -> tuple[ir.Value, tuple[StoredTensor, ...]]:
    embedding, width = layout.embedding, layout.width
    rank = embedding.rank or width
    shape = (embedding.vocab_size, rank)
    std = rank**-0.5 if not embedding.scaled else 0.02
    quantization = QUANTIZATION[g.precision]
    if quantization is None:
        stored: tuple[StoredTensor, ...] = (g.recipe.matrix("embedding.weight", shape, std=std),)
        x = g.op("Gather", g.external(stored[0]), tokens, axis=0)
        encoding = "plain"
    else:
        packed, scales = stored = g.quantized("embedding.weight", *shape, std)
        padded = quantization.blocks(rank) * quantization.block
        # The look-up wants [V, bytes], the product wants [V, blocks, bytes per block]: two views of the same bytes.
        rows = g.alias(packed, "rows", (shape[0], padded * quantization.bits // 8))
        x = g.op(
            "GatherBlockQuantized", rows, tokens, g.external(scales), domain=MICROSOFT,
            gather_axis=0, quantize_axis=1, block_size=quantization.block, bits=quantization.bits,
        )  # fmt: skip
        if padded != rank:
            x = g.op("Slice", x, g.ints(0), g.ints(rank), g.ints(-1))
        encoding = g.precision
    g.parameters.append(
        Parameter(name="embedding.weight", shape=shape, encoding=encoding, parts=(tuple(t.name for t in stored),))
    )
    if embedding.rank is not None:
        x = g.linear("embedding_up", x, rank, width)
    if embedding.scaled:
        x = g.op("Mul", x, g.float_scalar(width**0.5))
    return x, stored


def _layers(g: GraphBuilder, layout: Layout, chosen: _Lowerings, x: ir.Value) -> ir.Value:
    width, eps = layout.width, layout.norm_eps
    branch: ir.Value | None = None  # what the last block wants to add to the residual stream x
    for index, layer in enumerate(layout.layers):
        for name, block in _blocks(layer):
            with g.scope(f"layers.{index}"):
                if branch is None:
                    normed = g.rms_norm(f"{name}_norm", x, width, eps)
                else:
                    normed, x = g.add_rms_norm(f"{name}_norm", branch, x, width, eps)
                with g.scope(name):
                    branch = chosen.build(g, block, width, normed)
                if layout.post_norm:
                    branch = g.rms_norm(f"{name}_post_norm", branch, width, eps)
    return x if branch is None else g.op("Add", x, branch)


def _blocks(layer: Layer) -> Iterator[tuple[str, Block]]:
    if layer.mixer.kind != "none":
        yield "mixer", layer.mixer
    if layer.ffn is not None:
        yield "ffn", layer.ffn


def _head(g: GraphBuilder, layout: Layout, x: ir.Value, table: tuple[StoredTensor, ...]) -> ir.Value:
    embedding, width = layout.embedding, layout.width
    rank = embedding.rank or width
    last = g.op("Slice", x, g.ints(-1), g.ints(2**31 - 1), g.ints(1))
    last = g.rms_norm("norm", last, width, layout.norm_eps)
    if embedding.rank is not None:
        last = g.linear("head_down", last, width, rank)
    if not embedding.tied:
        return g.linear("head", last, rank, embedding.vocab_size)
    if QUANTIZATION[g.precision] is None:
        logits = g.op("Gemm", g.reshape(last, -1, rank), g.external(table[0]), transB=1)
        return g.reshape(logits, -1, 1, embedding.vocab_size)
    packed, scales = table
    return g.matmul_nbits(last, g.external(packed), g.external(scales), rank, embedding.vocab_size)


def _candidate(g: GraphBuilder, chosen: _Lowerings, name: str, output: str, vocab_size: int) -> Candidate:
    by_input = {state.input for state in g.states}
    signature = {
        "inputs": [
            {
                "name": value.name,
                "role": g.roles[value.name or ""],
                "dtype": str(value.dtype).lower(),
                "shape": [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ()],
            }
            for value in g.inputs
            if value.name not in by_input
        ],
        "states": [
            {
                "input": state.input,
                "output": state.output,
                "dtype": "float32",
                "shape": list(state.spec.shape),
                "growing": state.spec.growing,
                "in_place": state.spec.in_place,
            }
            for state in g.states
        ],
        "logits": output,
        "logits_positions": "last" if output == LOGITS else "all",
        "vocab_size": vocab_size,
    }
    graph = ir.to_proto(g.model(name)).SerializeToString(deterministic=True)
    recipe: RecipeWriter = g.recipe
    return Candidate(
        graph=graph,
        recipe=recipe.to_json(),
        signature=signature,
        parameters=tuple(g.parameters),
        stored=tuple(recipe.tensors),
        lowerings=dict(chosen.used),
        context=g.context,
        precision=g.precision,
    )
