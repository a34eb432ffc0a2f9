"""What GLA and Gated DeltaNet share: the recurrent state, the kernel that updates it, and the gated norm at its end.

The kernel returns o_t = S_t^T q_t / sqrt(K) for each of H heads. After it comes y = W_out(RMSNorm(o) * silu(z)): the
norm over the V dimensions of each head, with one weight for all heads, and z a projection of the block's input (Yang
et al. 2023, arXiv:2312.06635).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_space.blocks._base import StateSpec

if TYPE_CHECKING:
    import torch
    from onnx_ir import Value
    from torch import nn

    from search_space.graph.builder import GraphBuilder


def recurrent_state(heads: int, key_dim: int, value_dim: int) -> StateSpec:
    """One matrix per head: [B, H, K, V], whatever the context."""
    return StateSpec(name="recurrent", shape=("batch", heads, key_dim, value_dim))


def lower_recurrence(
    g: GraphBuilder, state: StateSpec, query: Value, key: Value, value: Value, *gates: Value, rule: str
) -> Value:
    """ONNX Runtime's `LinearAttention`.

    Args:
        g: The graph.
        state: From `recurrent_state`; gives H and K.
        query: [B, T, H K].
        key: [B, T, H K].
        value: [B, T, H V].
        gates: What the rule needs beside them: the logarithm of the decay, [B, T, H K] or [B, T, H]; for
            ``gated_delta`` also beta, [B, T, H].
        rule: Which recurrence, the operator's `update_rule`.

    Returns:
        [B, T, H V].
    """
    _, heads, key_dim, _ = state.shape
    assert isinstance(key_dim, int)
    o, new_state = g.ops(
        "LinearAttention", query, key, value, g.state_input(state), *gates, outputs=2, domain="com.microsoft",
        update_rule=rule, q_num_heads=heads, kv_num_heads=heads, scale=key_dim**-0.5,
    )  # fmt: skip
    g.state_output(state, new_state)
    return o


def lower_gated_output(
    g: GraphBuilder, o: Value, gate: Value, *, heads: int, value_dim: int, width: int, eps: float
) -> Value:
    """Gated norm of o [B, T, H V] by gate [B, T, H V], then the output projection to [B, T, D].

    Three kernels: ONNX Runtime's one for all, `GatedRMSNorm`, takes so much longer on CPU that a block loses a tenth
    to a fifth of its prefill to it, and nothing is won in decode.
    """
    normed = g.rms_norm("norm", g.reshape(o, 0, -1, heads, value_dim), value_dim, eps)
    y = g.op("Mul", g.reshape(normed, 0, -1, heads * value_dim), g.silu(gate))
    return g.linear("out_proj", y, heads * value_dim, width, residual=True)


def torch_gated_norm(norm: nn.Module, o_BTHV: torch.Tensor, gate_BTF: torch.Tensor) -> torch.Tensor:
    """``norm(o) * silu(gate)`` over heads laid side by side: [B, T, H V]."""
    from torch.nn import functional as F

    normed: torch.Tensor = norm(o_BTHV)
    return (normed * F.silu(gate_BTF.view_as(o_BTHV))).flatten(2)
