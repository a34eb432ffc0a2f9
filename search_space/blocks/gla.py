"""GLA: gated linear attention with a decay for each key dimension (letter L).

S_t = diag(a_t) S_{t-1} + k_t v_t^T;  o_t = S_t^T q_t / sqrt(K);  a_t = sigmoid(W_2 W_1 x + b)^(1/16)
(Yang et al. 2023, arXiv:2312.06635), then RMSNorm over each head, gated by silu(W_g x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from search_space.blocks import _chunked_attention as chunked
from search_space.blocks import _linear_attention as linear
from search_space.blocks._base import Block, Lowering, Mixer, StateSpec, positive, small_fraction

if TYPE_CHECKING:
    import torch
    from onnx_ir import Value
    from torch import nn

    from search_space.graph.builder import GraphBuilder

GATE_NORMALIZER = 16.0
"""The decay's logarithm is divided by this (tau in the paper), so that states forget slowly."""


def _lower(recurrence: Callable[..., Value]) -> Callable[[GraphBuilder, Block, int, Value], Value]:
    """The block around ``recurrence(graph, state, q, k, v, log decay)``."""

    def build(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
        assert isinstance(spec, GLA)
        H, K, V = spec.heads, spec.key_dim, spec.value_dim
        q, k, v, gate = g.split(g.linear("qkvg", x, width, 2 * H * (K + V)), (H * K, H * K, H * V, H * V))
        low = g.linear("decay_down", x, width, spec.decay_rank)
        raw = g.linear("decay_up", low, spec.decay_rank, H * K, bias=True)
        # log sigmoid(r) / 16 = softplus(-r) * (-1/16)
        decay = g.op("Mul", g.op("Softplus", g.op("Neg", raw)), g.float_scalar(-1 / GATE_NORMALIZER))
        (state,) = spec.states(width, context=g.context)
        o = recurrence(g, state, q, k, v, decay)
        return linear.lower_gated_output(g, o, gate, heads=H, value_dim=V, width=width, eps=spec.norm_eps)

    return build


@dataclass(frozen=True, slots=True, kw_only=True)
class GLA(Mixer):
    """Gated linear attention.

    Attributes:
        heads: Heads H.
        key_dim: Key dimensions per head K.
        value_dim: Value dimensions per head V.
        decay_rank: Rank of the decay's projection (the paper: 16).
        norm_eps: Epsilon of the output norm.
    """

    kind: ClassVar[str] = "gla"
    title: ClassVar[str] = "GLA"
    letter: ClassVar[str] = "L"
    color: ClassVar[str] = "#009e73"
    lowerings: ClassVar[dict[str, Lowering]] = {
        "linear_attention": Lowering(
            build=_lower(partial(linear.lower_recurrence, rule="gated")), note="LinearAttention, update rule `gated`"
        ),
        "chunked": Lowering(
            build=_lower(chunked.lower_gated),
            note="standard operators: products inside chunks, a scan over them; one step in decode",
        ),
    }

    heads: int
    key_dim: int
    value_dim: int
    decay_rank: int = 16
    norm_eps: float = 1e-5

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """All sizes must be positive."""
        yield from positive(
            heads=self.heads, key_dim=self.key_dim, value_dim=self.value_dim, decay_rank=self.decay_rank
        )
        yield from small_fraction(norm_eps=self.norm_eps)

    def params(self, width: int) -> int:
        """D 2H(K+V) + r(D + HK) + HK + V + HV D: q, k, v, gate; decay with bias; norm; out."""
        return self._projections(width) + self.heads * self.key_dim + self.value_dim

    def _projections(self, width: int) -> int:
        H, K, V, r = self.heads, self.key_dim, self.value_dim, self.decay_rank
        return width * 2 * H * (K + V) + r * (width + H * K) + H * V * width

    def flops(self, width: int, *, tokens: int, context: int) -> int:  # noqa: ARG002
        """2 T (weights of the projections) + T H 5 K V: decay 1, outer product and its sum 2, read-out 2.

        The norm and the gates are left out.
        """
        return 2 * tokens * self._projections(width) + 5 * tokens * self.heads * self.key_dim * self.value_dim

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG002
        """[B, H, K, V]."""
        return (linear.recurrent_state(self.heads, self.key_dim, self.value_dim),)

    def module(self, width: int) -> nn.Module:
        """The torch truth: the recurrence, one token at a time."""
        import torch
        from torch import nn
        from torch.nn import functional as F

        spec = self
        H, K, V = spec.heads, spec.key_dim, spec.value_dim

        class GLAModule(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.qkvg = nn.Linear(width, 2 * H * (K + V), bias=False)
                self.decay_down = nn.Linear(width, spec.decay_rank, bias=False)
                self.decay_up = nn.Linear(spec.decay_rank, H * K)
                self.norm = nn.RMSNorm(V, eps=spec.norm_eps)
                self.out_proj = nn.Linear(H * V, width, bias=False)

            def forward(
                self,
                x_BTD: torch.Tensor,
                state: tuple[torch.Tensor, ...] | None,
                position: int,  # noqa: ARG002
            ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
                B, T, _ = x_BTD.shape
                q, k, v, gate = self.qkvg(x_BTD).split([H * K, H * K, H * V, H * V], dim=-1)
                decay_BTHK = (
                    (F.logsigmoid(self.decay_up(self.decay_down(x_BTD))) / GATE_NORMALIZER).exp().view(B, T, H, K)
                )
                q, k, v = q.view(B, T, H, K), k.view(B, T, H, K), v.view(B, T, H, V)
                S_BHKV = state[0] if state else x_BTD.new_zeros(B, H, K, V)
                outputs = []
                for t in range(T):
                    S_BHKV = decay_BTHK[:, t, :, :, None] * S_BHKV + k[:, t, :, :, None] * v[:, t, :, None, :]
                    outputs.append((q[:, t, :, :, None] * S_BHKV).sum(dim=2) * K**-0.5)
                y = linear.torch_gated_norm(self.norm, torch.stack(outputs, dim=1), gate)
                return self.out_proj(y), (S_BHKV,)

        return GLAModule()
