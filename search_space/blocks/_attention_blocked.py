"""Attention by blocks of queries: what a block cannot see is never computed, and T x T scores never exist.

A block of b queries meets the keys from its first query's window to its last query, b + W - 1 of them (all earlier
ones without a window), in a `Loop` of matrix products: O(T W), where the fused kernel (ONNX Runtime 1.31) takes as long
for a window as for everything.
Single tokens have one query and nothing to save: they go to `GroupQueryAttention`, whose cache both ways share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_space.blocks import _attention_lowerings as common
from search_space.blocks import _attention_plain as plain
from search_space.blocks._attention import Attention

if TYPE_CHECKING:
    from onnx_ir import Value

    from search_space.graph.builder import GraphBuilder

BLOCK = 64
"""Most queries of one block: of 32 to 256 the fastest, or as fast, at 128 to 2,048 tokens where this was written
(x86-64, one thread). Twice as many take twice the memory for scores."""

SMALL_BLOCK = 32
"""Fewest queries of a full block: with a window smaller than `BLOCK`, blocks shrink with it down to this."""


def block_size(spec: Attention) -> int:
    """Most queries of one block."""
    return BLOCK if spec.visible is None else max(SMALL_BLOCK, min(BLOCK, spec.visible))


def _attend(g: GraphBuilder, spec: Attention, projected: common.Projected) -> Value:
    key, value = spec.states(0, context=g.context)
    past_key, past_value = g.state_input(key), g.state_input(value)
    single = g.op("Equal", g.op("Shape", projected.first, start=1, end=2), g.ints(1))
    y, keys, values = g.branch(
        single,
        then=lambda: common.group_query(g, spec, projected, (key, past_key), (value, past_value)),
        otherwise=lambda: _prefill(g, spec, projected, (past_key, past_value)),
        outputs=3,
    )
    g.state_output(key, keys)
    g.state_output(value, values)
    return y


def _prefill(
    g: GraphBuilder, spec: Attention, projected: common.Projected, caches: tuple[Value, Value]
) -> tuple[Value, Value, Value]:
    past, tokens, total = common.lengths(g, projected.first)
    query, key, value = projected.split(g, spec)
    query = common.rotate(g, spec, query, spec.heads, past)
    key = common.rotate(g, spec, key, spec.kv_heads, past)
    capacity = g.op("Shape", caches[0], start=2, end=3)
    held, kept = (_rows_in_use(g, spec, count, capacity) for count in (past, total))
    keys, values = (
        g.op("Concat", g.op("Slice", cache, g.ints(0), held, g.ints(2)), plain.to_heads(g, spec, new), axis=2)
        for cache, new in zip(caches, (key, value), strict=True)
    )
    y = _by_blocks(g, spec, query, keys, values, held, tokens)
    new_keys, new_values = (_cache(g, rows, kept, capacity) for rows in (keys, values))
    return y, new_keys, new_values


def _rows_in_use(g: GraphBuilder, spec: Attention, total: Value, capacity: Value) -> Value:
    """Rows that `GroupQueryAttention` has in its cache after `total` tokens, int64 [1].

    A sliding cache of C rows fills up; the token that finds it full first moves the last W - 1 rows to the front. So
    W + (total - W) mod (C - W + 1) rows are in use from the W-th token on, however the calls were cut.
    """
    if spec.visible is None:
        return total
    window = g.ints(spec.visible)
    beyond = g.op("Max", g.op("Sub", total, window), g.ints(0))
    cycle = g.op("Add", g.op("Sub", g.op("Max", capacity, window), window), g.ints(1))
    return g.op("Add", g.op("Min", total, window), g.op("Mod", beyond, cycle))


def _cache(g: GraphBuilder, rows: Value, kept: Value, capacity: Value) -> Value:
    """The last `kept` of the rows [B, G, L, K] at the front of a cache of `capacity`.

    The past cache may lie where this is written; `rows` is a copy that was made before.
    """
    length = g.op("Shape", rows, start=2, end=3)
    last = g.op("Slice", rows, g.op("Sub", length, kept), length, g.ints(2))
    free = g.op("Concat", g.ints(0), g.op("Sub", capacity, kept), axis=0)
    return g.op("Pad", last, free, None, g.ints(2))


def _by_blocks(
    g: GraphBuilder, spec: Attention, query: Value, keys: Value, values: Value, held: Value, tokens: Value
) -> Value:
    """The heads' outputs [B, T, H K]: query [B, T, H K] is row `held` and following of keys and values [B, G, L, K]."""
    axis_1, axis_2 = g.ints(1), g.ints(2)
    # As few blocks as possible, of equal size b: less than one query per block is padding.
    count = _ceil_div(g, tokens, g.ints(block_size(spec)))
    size = _ceil_div(g, tokens, count)
    padding = g.op("Sub", g.op("Mul", size, count), tokens)
    padded = g.op("Pad", query, g.op("Concat", g.ints(0), padding, axis=0), None, axis_1)

    def block(index: Value) -> Value:
        first = g.op("Mul", g.reshape(index, 1), size)
        row = g.op("Add", first, held)
        begin = g.ints(0)
        if spec.visible is not None:
            begin = g.op("Max", g.op("Sub", row, g.ints(spec.visible - 1)), begin)
        end = g.op("Add", row, size)
        part = g.op("Slice", padded, first, g.op("Add", first, size), axis_1)
        seen_keys, seen_values = (g.op("Slice", cache, begin, end, axis_2) for cache in (keys, values))
        length = g.op("Shape", seen_keys, start=2, end=3)
        mask = plain.visible(g, spec, size, length, g.op("Sub", row, begin))
        return plain.attention(g, spec, part, seen_keys, seen_values, mask)

    blocks = g.op("Transpose", g.loop(g.reshape(count), block), perm=[1, 0, 2, 3])  # n B b HK -> B n b HK
    y = g.reshape(blocks, 0, -1, spec.heads * spec.head_dim)
    return g.op("Slice", y, g.ints(0), tokens, axis_1)


def _ceil_div(g: GraphBuilder, a: Value, b: Value) -> Value:
    return g.op("Div", g.op("Sub", g.op("Add", a, b), g.ints(1)), b)


BLOCKED = common.lowering(_attend, "prefill by blocks of queries on plain operators; steps by GroupQueryAttention")
BANDED = common.lowering(
    _attend, "prefill by blocks of queries that see their window only; steps by GroupQueryAttention"
)
