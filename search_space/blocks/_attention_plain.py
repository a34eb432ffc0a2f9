"""Attention on operators of the ONNX standard: matrix products and a softmax, or the `Attention` operator.

Their caches are what the standard can say: a concatenation of past and new rows, handed out as a new tensor. A window
carries its last W - 1 rows, zeros where there are none yet.

`attention` and what it needs serve other lowerings as well. Shape letters as in `_attention_lowerings`; b queries, L
keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_space.blocks import _attention_lowerings as common
from search_space.blocks._attention import Attention
from search_space.blocks._base import Block, StateSpec

if TYPE_CHECKING:
    from onnx_ir import Value

    from search_space.graph.builder import GraphBuilder

MASKED = -1e30
"""Added to a score that must not be seen; finite, so that a row of padding that sees nothing stays a number."""

_END = 2**31 - 1


def to_heads(g: GraphBuilder, spec: Attention, x: Value) -> Value:
    """[B, T, G K] -> [B, G, T, K]."""
    return g.op("Transpose", g.reshape(x, 0, -1, spec.kv_heads, spec.head_dim), perm=[0, 2, 1, 3])


def visible(
    g: GraphBuilder, spec: Attention, queries: Value, keys: Value, row: Value, *, empty: Value | None = None
) -> Value:
    """Which keys each query sees, bool [b, L]: itself and earlier ones, as far back as the window goes.

    Args:
        g: The graph.
        spec: The block.
        queries: b, int64 [1].
        keys: L, int64 [1].
        row: The first query's own place among the keys, int64 [1].
        empty: How many of the first keys are no keys (none where negative), int64 [1].
    """
    zero, one = g.reshape(g.ints(0)), g.reshape(g.ints(1))
    own = g.op("Add", g.op("Range", zero, g.reshape(queries), one), row)
    place = g.op("Range", zero, g.reshape(keys), one)
    age = g.op("Sub", g.op("Unsqueeze", own, g.ints(1)), place)
    seen = g.op("GreaterOrEqual", age, zero)
    if spec.visible is not None:
        seen = g.op("And", seen, g.op("Less", age, g.ints(spec.visible)))
    if empty is not None:
        seen = g.op("And", seen, g.op("GreaterOrEqual", place, empty))
    return seen


def attention(g: GraphBuilder, spec: Attention, query: Value, keys: Value, values: Value, seen: Value) -> Value:
    """The heads' outputs [B, b, H K].

    Args:
        g: The graph.
        spec: The block.
        query: [B, b, H K], rotated.
        keys: [B, G, L, K], rotated.
        values: [B, G, L, K].
        seen: bool [b, L].
    """
    groups, dim = spec.kv_heads, spec.head_dim
    repeat = spec.heads // groups
    # The queries of one group are rows of one product: its keys are read once.
    query = g.op("Transpose", g.reshape(query, 0, -1, groups, repeat, dim), perm=[0, 2, 3, 1, 4])  # B G R b K
    rows = g.reshape(query, 0, 0, -1, dim)
    scores = g.op("FusedMatMul", rows, keys, domain="com.microsoft", transB=1, alpha=spec.softmax_scale)
    length = g.op("Shape", keys, start=2, end=3)
    apart = g.op("Reshape", scores, g.op("Concat", g.ints(0, groups, repeat, -1), length, axis=0))
    bias = g.op("Where", seen, g.float_scalar(0.0), g.float_scalar(MASKED))
    weights = g.op("Softmax", g.op("Add", apart, bias), axis=-1)
    y = g.op("MatMul", g.op("Reshape", weights, g.op("Shape", scores)), values)
    y = g.op("Transpose", g.reshape(y, 0, groups, repeat, -1, dim), perm=[0, 3, 1, 2, 4])
    return g.reshape(y, 0, -1, spec.heads * dim)


def _states(spec: Block, width: int, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG001
    assert isinstance(spec, Attention)
    growing = spec.visible is None or context <= spec.visible
    rows = "capacity" if spec.visible is None or growing else max(1, spec.visible - 1)
    shape = ("batch", spec.kv_heads, rows, spec.head_dim)
    return tuple(StateSpec(name=name, shape=shape, growing=growing) for name in ("key", "value"))


def _attend_plain(g: GraphBuilder, spec: Attention, projected: common.Projected) -> Value:
    key, value = _states(spec, 0, g.context)
    past_key, past_value = g.state_input(key), g.state_input(value)
    query, new_key, new_value, past, tokens = _rotated(g, spec, projected)
    keys = g.op("Concat", past_key, to_heads(g, spec, new_key), axis=2)
    values = g.op("Concat", past_value, to_heads(g, spec, new_value), axis=2)
    seen = _seen(g, spec, key, past_key, past, tokens)
    y = attention(g, spec, query, keys, values, seen)
    g.state_output(key, _carried(g, key, keys))
    g.state_output(value, _carried(g, value, values))
    return y


def _attend_standard(g: GraphBuilder, spec: Attention, projected: common.Projected) -> Value:
    key, value = _states(spec, 0, g.context)
    past_key, past_value = g.state_input(key), g.state_input(value)
    query, new_key, new_value, past, tokens = _rotated(g, spec, projected)
    causal = key.growing  # nothing is ever out of sight
    y, keys, values = g.ops(
        "Attention",
        query,
        new_key,
        new_value,
        None if causal else _seen(g, spec, key, past_key, past, tokens),
        past_key,
        past_value,
        outputs=3,
        q_num_heads=spec.heads,
        kv_num_heads=spec.kv_heads,
        is_causal=1 if causal else None,
        scale=spec.softmax_scale,
    )
    g.state_output(key, _carried(g, key, keys))
    g.state_output(value, _carried(g, value, values))
    return y


def _rotated(g: GraphBuilder, spec: Attention, projected: common.Projected) -> tuple[Value, Value, Value, Value, Value]:
    query, key, value = projected.split(g, spec)
    past, tokens, _ = common.lengths(g, query)
    query = common.rotate(g, spec, query, spec.heads, past)
    return query, common.rotate(g, spec, key, spec.kv_heads, past), value, past, tokens


def _seen(g: GraphBuilder, spec: Attention, state: StateSpec, cache: Value, past: Value, tokens: Value) -> Value:
    held = past if state.growing else g.op("Shape", cache, start=2, end=3)
    empty = None if state.growing else g.op("Sub", held, past)
    return visible(g, spec, tokens, g.op("Add", held, tokens), held, empty=empty)


def _carried(g: GraphBuilder, state: StateSpec, rows: Value) -> Value:
    if state.growing:
        return rows
    kept = state.shape[2]
    assert isinstance(kept, int)
    return g.op("Slice", rows, g.ints(-kept), g.ints(_END), g.ints(2))


def _scores(spec: Block, tokens: int, context: int) -> int:
    """H T L: the scores of a call of T tokens over L visible keys exist at once."""
    assert isinstance(spec, Attention)
    keys = context if spec.visible is None else min(context, tokens + spec.visible - 1)
    return spec.heads * tokens * keys


PLAIN = common.lowering(
    _attend_plain, "matrix products and a softmax; the cache is copied at every call", _states, _scores
)
STANDARD = common.lowering(
    _attend_standard, "the standard's Attention operator; the cache is copied at every call", _states, _scores
)
