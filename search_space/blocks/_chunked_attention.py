"""The recurrences of GLA and Gated DeltaNet in plain operators: chunks of tokens in a prefill, one step in decode.

Inside a chunk the recurrence is unrolled into matrix products, and only the state goes from chunk to chunk. With
S_0 the state before the chunk, g_t the logarithm of the decay at token t and G_ts = g_(s+1) + ... + g_t (Yang et al.
2023, arXiv:2312.06635, section 4; for the delta rule Yang et al. 2024, arXiv:2412.06464, section 3.3):

    gated        o_t = (q_t exp(G_t0)) S_0 + sum_(s<=t) (q_t exp(G_ts) k_s) v_s
                 S_C = exp(G_C0) S_0 + sum_s (k_s exp(G_Cs)) v_s
    gated_delta  the same with u_s in place of v_s, where (I + L) u = b (v - exp(G_t0) k_t S_0),
                 L_ts = b_t exp(G_ts) (k_t k_s) for s < t

Every exponent is a sum of log decays over the tokens between two others, taken over just those tokens and never as a
difference of long sums: it is not positive, and as exact when the decays are strong as when they are weak.

Shape letters beside the usual ones: N chunks, C tokens of a chunk. Inside a chunk tensors are [N, B, H, C, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from search_space.blocks._base import StateSpec

if TYPE_CHECKING:
    from onnx_ir import Value

    from search_space.graph.builder import GraphBuilder

CHUNK = 16
"""Tokens of a chunk, a power of two from 4 on. On CPUs 16 and 32 do equally well for GLA; the delta rule prefers 16,
as do short calls, which are filled up to a whole chunk."""

EXACT_NEUMANN = 4
"""Side of the blocks that are inverted by a Neumann series. Longer series cancel: with equal keys and no decay the
powers of L hold binomial coefficients."""


def lower_gated(g: GraphBuilder, state: StateSpec, query: Value, key: Value, value: Value, decay: Value) -> Value:
    """S_t = diag(exp(decay_t)) S_(t-1) + k_t v_t^T;  o_t = S_t^T q_t / sqrt(K).

    Args:
        g: The graph.
        state: The recurrent state, [B, H, K, V].
        query: [B, T, H K].
        key: [B, T, H K].
        value: [B, T, H V].
        decay: Logarithm of the decay, [B, T, H K].

    Returns:
        [B, T, H V].
    """
    H, K, V = _sizes(state)

    def step(past: Value) -> Sequence[Value]:
        k, a = (g.reshape(x, 0, H, K, 1) for x in (key, g.op("Exp", decay)))
        written = g.op("Mul", k, g.reshape(value, 0, H, 1, V))
        present = g.op("Add", g.op("Mul", a, past), written)
        return _read(g, query, present, state), present

    def chunks(past: Value) -> Sequence[Value]:
        cut = _Chunks(g, query)
        q, k, v, a = (cut.split(x, H, d) for x, d in ((query, K), (key, K), (value, V), (decay, K)))
        q = g.op("Mul", q, g.float_scalar(K**-0.5))
        inner = _decayed_products(g, q, k, a, K)
        since_start = g.op("Exp", g.op("MatMul", _until(g, CHUNK), a))
        to_end = g.op("Exp", g.op("MatMul", _after(g, CHUNK), a))
        whole = g.reshape(_last(g, since_start), 0, 0, 0, K, 1)

        def body(states: Sequence[Value], items: Sequence[Value]) -> tuple[list[Value], list[Value]]:
            (S,), (q_in, inside, k_out, v_c, d) = states, items
            o = g.op("Add", g.op("MatMul", q_in, S), g.op("MatMul", inside, v_c))
            new = g.op("Add", g.op("Mul", d, S), g.op("MatMul", _transposed(g, k_out, 4), v_c))
            return [new], [o]

        items = [g.op("Mul", q, since_start), inner, g.op("Mul", k, to_end), v, whole]
        (present,), (o,) = g.scan(body, [past], items, outputs=1)
        return cut.join(o, H * V), present

    return _switch(g, state, query, step, chunks)


def lower_gated_delta(
    g: GraphBuilder, state: StateSpec, query: Value, key: Value, value: Value, decay: Value, beta: Value
) -> Value:
    """S_t = exp(decay_t) S_(t-1) + beta_t k_t (v_t - exp(decay_t) S_(t-1)^T k_t)^T;  o_t = S_t^T q_t / sqrt(K).

    Args:
        g: The graph.
        state: The recurrent state, [B, H, K, V].
        query: [B, T, H K].
        key: [B, T, H K], each no longer than one.
        value: [B, T, H V].
        decay: Logarithm of the decay, [B, T, H].
        beta: What part of the old value is overwritten, [B, T, H], from 0 to 1.

    Returns:
        [B, T, H V].
    """
    H, K, V = _sizes(state)

    def step(past: Value) -> Sequence[Value]:
        a, b = (g.reshape(x, 0, H, 1, 1) for x in (g.op("Exp", decay), beta))
        kept = g.op("Mul", a, past)
        stored = g.op("MatMul", g.reshape(key, 0, H, 1, K), kept)
        change = g.op("Mul", b, g.op("Sub", g.reshape(value, 0, H, 1, V), stored))
        present = g.op("Add", kept, g.op("Mul", g.reshape(key, 0, H, K, 1), change))
        return _read(g, query, present, state), present

    def chunks(past: Value) -> Sequence[Value]:
        cut = _Chunks(g, query)
        q, k, v = (cut.split(x, H, d) for x, d in ((query, K), (key, K), (value, V)))
        a, b = (cut.split(x, H, 1) for x in (decay, beta))
        q, k_b = g.op("Mul", q, g.float_scalar(K**-0.5)), g.op("Mul", k, b)
        # Row t, column s: the sum of a over s+1..t, and zero for s >= t.
        between = g.op("Exp", g.op("MatMul", _until(g, CHUNK), g.op("Mul", a, _before(g, CHUNK))))
        since_start = g.op("Exp", g.op("MatMul", _until(g, CHUNK), a))
        to_end = g.reshape(_last(g, between), 0, 0, 0, CHUNK, 1)
        k_turned = _transposed(g, k, 5)
        inner = g.op("Mul", g.op("MatMul", q, k_turned), g.op("Mul", between, _until(g, CHUNK)))
        L = g.op("Mul", g.op("MatMul", k_b, k_turned), g.op("Mul", between, _before(g, CHUNK)))
        solved = _unit_lower_inverse(g, L)
        u = g.op("MatMul", solved, g.op("Mul", v, b))
        read = g.op("MatMul", solved, g.op("Mul", k_b, since_start))

        def body(states: Sequence[Value], items: Sequence[Value]) -> tuple[list[Value], list[Value]]:
            (S,), (reads, u_c, inside, k_out, d) = states, items
            stored, o = g.ops("Split", g.op("MatMul", reads, S), outputs=2, axis=2, num_outputs=2)
            change = g.op("Sub", u_c, stored)
            new = g.op("Add", g.op("Mul", d, S), g.op("MatMul", _transposed(g, k_out, 4), change))
            return [new], [g.op("Add", o, g.op("MatMul", inside, change))]

        reads = g.op("Concat", read, g.op("Mul", q, since_start), axis=3)
        items = [reads, u, inner, g.op("Mul", k, to_end), _last(g, since_start)]
        (present,), (o,) = g.scan(body, [past], items, outputs=1)
        return cut.join(o, H * V), present

    return _switch(g, state, query, step, chunks)


Form = Callable[["Value"], Sequence["Value"]]


def _switch(g: GraphBuilder, state: StateSpec, x: Value, step: Form, chunks: Form) -> Value:
    """One step where x [B, T, ...] holds one token, chunks where it holds more; each turns S into (y, S)."""
    past = g.state_input(state)
    one = g.op("Equal", g.op("Shape", x, start=1, end=2), g.ints(1))
    y, present = g.branch(one, lambda: step(past), lambda: chunks(past), outputs=2)
    g.state_output(state, present)
    return y


def _sizes(state: StateSpec) -> tuple[int, int, int]:
    _, heads, key_dim, value_dim = state.shape
    assert isinstance(heads, int)
    assert isinstance(key_dim, int)
    assert isinstance(value_dim, int)
    return heads, key_dim, value_dim


def _read(g: GraphBuilder, query: Value, S: Value, state: StateSpec) -> Value:
    """S^T q / sqrt(K) for one token: [B, 1, H K] and [B, H, K, V] -> [B, 1, H V]."""
    H, K, V = _sizes(state)
    q = g.op("Mul", g.reshape(query, 0, H, 1, K), g.float_scalar(K**-0.5))
    return g.reshape(g.op("MatMul", q, S), 0, 1, H * V)


class _Chunks:
    """Cuts [B, T, H D] into chunks and puts them together again.

    The last chunk is filled up with zeros: nothing is read or written there, and a decay of exp(0) keeps the state.
    """

    def __init__(self, g: GraphBuilder, x: Value) -> None:
        self._g = g
        self._tokens = g.op("Shape", x, start=1, end=2)
        missing = g.op("Mod", g.op("Neg", self._tokens), g.ints(CHUNK))
        self._pads = g.op("Concat", g.ints(0), missing, axis=0)

    def split(self, x: Value, heads: int, dim: int) -> Value:
        """[B, T, H D] -> [N, B, H, C, D]."""
        g = self._g
        padded = g.op("Pad", x, self._pads, None, g.ints(1))
        return g.op("Transpose", g.reshape(padded, 0, -1, CHUNK, heads, dim), perm=[1, 0, 3, 2, 4])

    def join(self, x: Value, features: int) -> Value:
        """[N, B, H, C, D] -> [B, T, H D]."""
        g = self._g
        padded = g.reshape(g.op("Transpose", x, perm=[1, 0, 3, 2, 4]), 0, -1, features)
        return g.op("Slice", padded, g.ints(0), self._tokens, g.ints(1))


# -- matrices of zeros and ones ----------------------------------------------------------------------------------------


def _mask(g: GraphBuilder, name: str, size: int, chosen: Callable[[int, int], bool]) -> Value:
    values = [float(chosen(t, s)) for t in range(size) for s in range(size)]
    return g.constant(f"mask.{name}.{size}", (size, size), {"kind": "values", "values": values})


def _until(g: GraphBuilder, size: int) -> Value:
    """Row t chooses the tokens 0..t."""
    return _mask(g, "until", size, lambda t, s: s <= t)


def _before(g: GraphBuilder, size: int) -> Value:
    """Row t chooses the tokens 0..t-1."""
    return _mask(g, "before", size, lambda t, s: s < t)


def _after(g: GraphBuilder, size: int) -> Value:
    """Row t chooses the tokens t+1 and later."""
    return _mask(g, "after", size, lambda t, s: s > t)


# -- pieces of the algebra ---------------------------------------------------------------------------------------------


def _transposed(g: GraphBuilder, x: Value, rank: int) -> Value:
    """Swap the last two axes; the runtime turns this and the product after it into one kernel."""
    return g.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


def _last(g: GraphBuilder, x: Value) -> Value:
    """The last row of each chunk: [N, B, H, C, D] -> [N, B, H, 1, D]."""
    return g.op("Slice", x, g.ints(-1), g.ints(2**31 - 1), g.ints(3))


def _decayed_products(g: GraphBuilder, q: Value, k: Value, decay: Value, K: int) -> Value:
    """The lower triangle of sum_i q_ti k_si exp(G_tsi): [N, B, H, C, K] three times -> [N, B, H, C, C].

    exp(G_ts) is exp(G_tm) exp(G_ms) for every m between: for pairs of neighbouring blocks of 1, 2, 4, ... tokens, m
    is the border between the two. So no exponent is ever positive, however strong the gates are.
    """
    result = g.reshape(g.op("ReduceSum", g.op("Mul", q, k), g.ints(-1), keepdims=1), 0, 0, 0, CHUNK, 1, 1)
    size = 1
    while size < CHUNK:
        later_q, later_decay = (_half(g, x, size, K, 1) for x in (q, decay))
        earlier_k = _half(g, k, size, K, 0)
        if size == 1:
            later = g.op("Mul", later_q, g.op("Exp", later_decay))
            cross = g.op("ReduceSum", g.op("Mul", later, earlier_k), g.ints(-1), keepdims=1)
        else:
            earlier_decay = _half(g, decay, size, K, 0)
            later = g.op("Mul", later_q, g.op("Exp", g.op("MatMul", _until(g, size), later_decay)))
            earlier = g.op("Mul", earlier_k, g.op("Exp", g.op("MatMul", _after(g, size), earlier_decay)))
            cross = g.op("MatMul", later, _transposed(g, earlier, 6))
        first, second = (_half(g, result, size, size, half) for half in (0, 1))
        upper = g.op("Pad", first, g.ints(0, size), None, g.ints(5))
        result = g.op("Concat", upper, g.op("Concat", cross, second, axis=5), axis=4)
        size *= 2
    return g.reshape(result, 0, 0, 0, CHUNK, CHUNK)


def _half(g: GraphBuilder, x: Value, size: int, width: int, half: int) -> Value:
    """The first or second block of each pair of neighbours: [N, B, H, C, W] -> [N, B, H, pairs, size, W]."""
    pairs = g.reshape(x, 0, 0, 0, CHUNK // (2 * size), 2, size * width)
    chosen = g.op("Gather", pairs, g.ints(half), axis=4)
    return g.reshape(chosen, 0, 0, 0, -1, size, width)


def _unit_lower_inverse(g: GraphBuilder, L: Value) -> Value:
    """(I + L)^-1 for strictly lower triangular L, [..., C, C].

    Diagonal blocks first, then blocks of twice the size from them: the inverse of [[A, 0], [B, D]] has
    -D^-1 B A^-1 below the diagonal. Every intermediate value is an entry of an inverse, and so as small as those are,
    unlike the powers of L in a series over the whole chunk.
    """
    size = EXACT_NEUMANN
    identity = _mask(g, "identity", CHUNK, lambda t, s: t == s)
    blocks = g.op("Mul", L, _mask(g, f"blocks_{size}", CHUNK, lambda t, s: t // EXACT_NEUMANN == s // EXACT_NEUMANN))
    # (I + L)^-1 = (I - L)(I + L^2) where L^4 = 0
    squared = g.op("Add", identity, g.op("MatMul", blocks, blocks))
    result = g.op("MatMul", g.op("Sub", identity, blocks), squared)
    while size < CHUNK:
        cross = g.op("Mul", L, _mask(g, f"cross_{size}", CHUNK, _below_the_diagonal(size)))
        result = g.op("Sub", result, g.op("MatMul", g.op("MatMul", result, cross), result))
        size *= 2
    return result


def _below_the_diagonal(size: int) -> Callable[[int, int], bool]:
    """In a diagonal block of twice that size, the lower left quarter."""
    return lambda t, s: t // (2 * size) == s // (2 * size) and t // size > s // size
