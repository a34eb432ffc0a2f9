"""Full and sliding-window attention as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_space.blocks._attention import Attention
from search_space.blocks._base import Block, Lowering

if TYPE_CHECKING:
    from onnx_ir import Value

    from search_space.graph.builder import GraphBuilder


def _position_tables(g: GraphBuilder, spec: Attention) -> tuple[Value, Value]:
    # One pair of tables for all layers with the same base; the kernel reads cos and sin of [position, rotary_dim / 2].
    rotary = spec.rotary_dim
    tables = []
    for part in ("cos", "sin"):
        fill = {"kind": "rope", "part": part, "theta": spec.rope_theta, "rotary_dim": rotary}
        tables.append(g.constant(f"rope.{spec.rope_theta:g}.{rotary}.{part}", (g.context, rotary // 2), fill))
    return tables[0], tables[1]


def _head_norm(g: GraphBuilder, spec: Attention, name: str, x: Value, heads: int) -> Value:
    # The kernel has inputs for these norms, but its CPU version refuses them (ONNX Runtime 1.31).
    normed = g.rms_norm(name, g.reshape(x, 0, -1, heads, spec.head_dim), spec.head_dim, spec.qk_norm_eps)
    return g.reshape(normed, 0, -1, heads * spec.head_dim)


def lower_group_query(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
    """ONNX Runtime's `GroupQueryAttention`: rotary, cache update and softmax inside one kernel; x and y are [B, T, D].

    Its CPU kernel takes a call of several tokens after earlier ones at batch 1 only.
    """
    assert isinstance(spec, Attention)
    heads, groups, dim = spec.heads, spec.kv_heads, spec.head_dim
    sizes = [heads * dim, groups * dim, groups * dim, *([heads * dim] if spec.output_gate else [])]
    projected = g.linear("qkv", x, width, sum(sizes))
    query, new_k, new_v, gate = projected, None, None, None
    if spec.qk_norm:
        query, new_k, new_v, *rest = g.split(projected, sizes)
        query = _head_norm(g, spec, "q_norm", query, heads)
        new_k = _head_norm(g, spec, "k_norm", new_k, groups)
        gate = rest[0] if rest else None
    elif spec.output_gate:
        query, gate = g.split(projected, (sum(sizes[:3]), sizes[3]))
    cos, sin = _position_tables(g, spec)
    key, value = spec.states(width, context=g.context)
    windowed = not key.growing
    y, new_key, new_value = g.ops(
        "GroupQueryAttention",
        query,  # packed q, k and v when there is no norm between projection and rotation
        new_k,
        new_v,
        g.state_input(key),
        g.state_input(value),
        g.seqlens_k(),
        g.total_length(),
        cos,
        sin,
        outputs=3,
        domain="com.microsoft",
        num_heads=heads,
        kv_num_heads=groups,
        do_rotary=1,
        scale=spec.softmax_scale,
        local_window_size=spec.visible if spec.visible is not None else -1,
        sliding_window_cache=1 if windowed else None,
    )
    g.state_output(key, new_key)
    g.state_output(value, new_value)
    if gate is not None:
        y = g.op("Mul", y, g.op("Sigmoid", gate))
    return g.linear("out_proj", y, heads * dim, width, residual=True)


GROUP_QUERY = Lowering(build=lower_group_query, note="GroupQueryAttention with the cache updated in place")
