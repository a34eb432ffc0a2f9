"""Full and sliding-window attention as ONNX nodes.

What every lowering shares, and the first of them. Beside the shape letters of every block: G key-value heads, W
window, R = H / G query heads per key-value head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search_space.blocks._attention import Attention
from search_space.blocks._base import Block, Lowering, States, StateSpec
from search_space.blocks._rotary import rope_name

if TYPE_CHECKING:
    from onnx_ir import Value

    from search_space.graph.builder import GraphBuilder

Attend = Callable[["GraphBuilder", Attention, "Projected"], "Value"]
"""The heads' outputs [B, T, H K] of projected queries, keys and values; reads and declares the states."""


class Projected:
    """Queries, keys and values before rotation.

    Attributes:
        packed: [B, T, (H + 2 G) K], or None where norms came between.
        parts: [B, T, H K], [B, T, G K] and [B, T, G K] where they came apart.
    """

    def __init__(self, packed: Value | None, parts: tuple[Value, Value, Value] | None) -> None:
        self.packed = packed
        self.parts = parts

    @property
    def first(self) -> Value:
        """The packed tensor or the queries: [B, T, ...]."""
        value = self.packed if self.parts is None else self.parts[0]
        assert value is not None
        return value

    def split(self, g: GraphBuilder, spec: Attention) -> tuple[Value, Value, Value]:
        """Queries, keys and values apart."""
        if self.parts is not None:
            return self.parts
        assert self.packed is not None
        dim = spec.head_dim
        query, key, value = g.split(self.packed, (spec.heads * dim, spec.kv_heads * dim, spec.kv_heads * dim))
        return query, key, value


def lowering(
    attend: Attend, note: str, states: States | None = None, scratch: Callable[[Block, int, int], int] | None = None
) -> Lowering:
    """A lowering that differs from others only between the projections; x and y are [B, T, D]."""

    def build(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
        assert isinstance(spec, Attention)
        projected, gate = _project(g, spec, width, x)
        y = attend(g, spec, projected)
        if gate is not None:
            y = g.op("Mul", y, g.op("Sigmoid", gate))
        return g.linear("out_proj", y, spec.heads * spec.head_dim, width, residual=True)

    return Lowering(build=build, note=note, states=states, scratch=scratch)


def _project(g: GraphBuilder, spec: Attention, width: int, x: Value) -> tuple[Projected, Value | None]:
    heads, groups, dim = spec.heads, spec.kv_heads, spec.head_dim
    sizes = [heads * dim, groups * dim, groups * dim, *([heads * dim] if spec.output_gate else [])]
    projected = g.linear("qkv", x, width, sum(sizes))
    if spec.qk_norm:
        query, key, value, *rest = g.split(projected, sizes)
        query = _head_norm(g, spec, "q_norm", query, heads)
        key = _head_norm(g, spec, "k_norm", key, groups)
        return Projected(None, (query, key, value)), rest[0] if rest else None
    if spec.output_gate:
        packed, gate = g.split(projected, (sum(sizes[:3]), sizes[3]))
        return Projected(packed, None), gate
    return Projected(projected, None), None


def _head_norm(g: GraphBuilder, spec: Attention, name: str, x: Value, heads: int) -> Value:
    # The kernel has inputs for these norms, but its CPU version refuses them (ONNX Runtime 1.31).
    normed = g.rms_norm(name, g.reshape(x, 0, -1, heads, spec.head_dim), spec.head_dim, spec.qk_norm_eps)
    return g.reshape(normed, 0, -1, heads * spec.head_dim)


def position_tables(g: GraphBuilder, spec: Attention) -> tuple[Value, Value] | tuple[None, None]:
    """Cosines and sines [position, rotary_dim / 2]; one pair for all layers with the same base."""
    if not spec.rotary_dim:
        return None, None
    fill, shape = spec.rope_fill(), (g.context, spec.rotary_dim // 2)
    cos, sin = (g.constant(f"{rope_name(fill)}.{part}", shape, {**fill, "part": part}) for part in ("cos", "sin"))
    return cos, sin


def rotate(g: GraphBuilder, spec: Attention, x: Value, heads: int, past: Value) -> Value:
    """Rotate [B, T, heads K] at positions from `past` ([1]) on; as it is where nothing is to be rotated."""
    cos, sin = position_tables(g, spec)
    if cos is None:
        return x
    return g.op(
        "RotaryEmbedding", x, past, cos, sin,
        domain="com.microsoft", num_heads=heads, rotary_embedding_dim=spec.rotary_dim,
    )  # fmt: skip


def lengths(g: GraphBuilder, x: Value) -> tuple[Value, Value, Value]:
    """int64 [1] each: tokens before this call, tokens T of this call ([B, T, ...]), and their sum."""
    tokens = g.op("Shape", x, start=1, end=2)
    total = g.reshape(g.op("Cast", g.total_length(), to=7), 1)
    return g.op("Sub", total, tokens), tokens, total


def group_query(
    g: GraphBuilder, spec: Attention, projected: Projected, key: tuple[StateSpec, Value], value: tuple[StateSpec, Value]
) -> tuple[Value, Value, Value]:
    """ONNX Runtime's `GroupQueryAttention`: rotary, cache update and softmax inside one kernel.

    Its CPU kernel takes a call of several tokens after earlier ones at batch 1 only.

    Args:
        g: The graph.
        spec: The block.
        projected: Queries, keys and values.
        key: A cache [B, G, rows, K] that the kernel extends, and its past value.
        value: The same for values.

    Returns:
        The heads' outputs [B, T, H K] and both caches.
    """
    query, new_key, new_value = projected.parts or (projected.packed, None, None)
    cos, sin = position_tables(g, spec)
    y, keys, values = g.ops(
        "GroupQueryAttention",
        query,  # packed q, k and v when there is no norm between projection and rotation
        new_key,
        new_value,
        key[1],
        value[1],
        g.seqlens_k(),
        g.total_length(),
        cos,
        sin,
        outputs=3,
        domain="com.microsoft",
        num_heads=spec.heads,
        kv_num_heads=spec.kv_heads,
        do_rotary=1 if cos is not None else None,
        scale=spec.softmax_scale,
        local_window_size=spec.visible if spec.visible is not None else -1,
        sliding_window_cache=1 if not key[0].growing else None,
    )
    return y, keys, values


def _attend_group_query(g: GraphBuilder, spec: Attention, projected: Projected) -> Value:
    key, value = spec.states(0, context=g.context)
    y, keys, values = group_query(g, spec, projected, (key, g.state_input(key)), (value, g.state_input(value)))
    g.state_output(key, keys)
    g.state_output(value, values)
    return y


GROUP_QUERY = lowering(_attend_group_query, "GroupQueryAttention with the cache updated in place")
