"""GDN: Gated DeltaNet, a linear attention that overwrites what it stores under a key (letter D).

S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T;  o_t = S_t^T q_t / sqrt(K)
a_t = exp(-exp(A) softplus(W_a x + dt)), b_t = sigmoid(W_b x) (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464).
As in Qwen3.5: q, k and v pass a short causal convolution with silu, q and k are L2-normalised, and the output passes an
RMSNorm over each head, gated by silu(W_z x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from search_space.blocks import _causal_conv as causal
from search_space.blocks import _chunked_attention as chunked
from search_space.blocks import _linear_attention as linear
from search_space.blocks._base import Block, Lowering, Mixer, StateSpec, positive, small_fraction

if TYPE_CHECKING:
    import torch
    from onnx_ir import Value
    from torch import nn

    from search_space.graph.builder import GraphBuilder

L2_EPS = 1e-6


def _normalised(g: GraphBuilder, x: Value, heads: int, dim: int) -> Value:
    # x / sqrt(sum x^2 + eps) is an RMSNorm with weight 1/sqrt(K) and epsilon eps/K: one kernel instead of five.
    unit = g.constant(f"l2_norm.{dim}", (dim,), {"kind": "constant", "value": dim**-0.5})
    split = g.reshape(x, 0, -1, heads, dim)
    normed = g.op("SimplifiedLayerNormalization", split, unit, axis=-1, epsilon=L2_EPS / dim, stash_type=1)
    return g.reshape(normed, 0, -1, heads * dim)


def _lower(
    gates: Callable[[GraphBuilder, Value, Value, Value, Value], Sequence[Value]], recurrence: Callable[..., Value]
) -> Callable[[GraphBuilder, Block, int, Value], Value]:
    """The block around ``recurrence(graph, state, q, k, v, log decay, beta)``."""

    def build(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
        assert isinstance(spec, GDN)
        Hk, Hv, K, V = spec.key_heads, spec.value_heads, spec.key_dim, spec.value_dim
        convolved, z, b, a = g.split(
            g.linear("in_proj", x, width, spec.channels + Hv * V + 2 * Hv), (spec.channels, Hv * V, Hv, Hv)
        )
        mixed = g.silu(causal.shifted(g, convolved, spec.kernel, spec.channels))
        q, k, v = g.split(mixed, (Hk * K, Hk * K, Hv * V))
        q, k = _normalised(g, q, Hk, K), _normalised(g, k, Hk, K)
        if Hv != Hk:  # each key head serves Hv / Hk value heads
            q, k = _repeat_heads(g, q, spec), _repeat_heads(g, k, spec)
        dt_bias = g.weight("dt_bias", (Hv,), low=-4.0, high=0.0)
        factor = g.op("Neg", g.op("Exp", g.weight("A_log", (Hv,), low=0.0, high=2.0)))
        state = spec.states(width, context=g.context)[-1]
        o = recurrence(g, state, q, k, v, *gates(g, a, dt_bias, factor, b))
        return linear.lower_gated_output(g, o, z, heads=Hv, value_dim=V, width=width, eps=spec.norm_eps)

    return build


def _fused_gates(g: GraphBuilder, a: Value, dt_bias: Value, factor: Value, b: Value) -> Sequence[Value]:
    """Logarithm of the decay, and beta, by one kernel."""
    return g.ops("LinearAttentionGate", a, dt_bias, factor, b, outputs=2, domain="com.microsoft")


def _plain_gates(g: GraphBuilder, a: Value, dt_bias: Value, factor: Value, b: Value) -> Sequence[Value]:
    return g.op("Mul", g.op("Softplus", g.op("Add", a, dt_bias)), factor), g.op("Sigmoid", b)


def _repeat_heads(g: GraphBuilder, x: Value, spec: GDN) -> Value:
    repeat = spec.value_heads // spec.key_heads
    split = g.reshape(x, 0, -1, spec.key_heads, 1, spec.key_dim)
    wide = g.op("Expand", split, g.ints(1, 1, 1, repeat, 1))
    return g.reshape(wide, 0, -1, spec.value_heads * spec.key_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class GDN(Mixer):
    """Gated DeltaNet.

    Attributes:
        key_heads: Query and key heads.
        value_heads: Value heads; a multiple of key_heads.
        key_dim: Key dimensions per head K.
        value_dim: Value dimensions per head V.
        kernel: Taps of the causal convolution over q, k and v.
        norm_eps: Epsilon of the output norm.
    """

    kind: ClassVar[str] = "gdn"
    title: ClassVar[str] = "Gated DeltaNet"
    letter: ClassVar[str] = "D"
    color: ClassVar[str] = "#cc79a7"
    lowerings: ClassVar[dict[str, Lowering]] = {
        "linear_attention": Lowering(
            build=_lower(_fused_gates, partial(linear.lower_recurrence, rule="gated_delta")),
            note="LinearAttention, update rule `gated_delta`",
        ),
        "chunked": Lowering(
            build=_lower(_plain_gates, chunked.lower_gated_delta),
            note="standard operators: products inside chunks, a scan over them; one step in decode",
        ),
    }

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int = 4
    norm_eps: float = 1e-6

    @property
    def channels(self) -> int:
        """Channels of the convolution: q, k and v."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """Sizes must be positive and the heads must divide."""
        bad = list(
            positive(
                key_heads=self.key_heads,
                value_heads=self.value_heads,
                key_dim=self.key_dim,
                value_dim=self.value_dim,
            )
        )
        bad += positive(kernel=self.kernel, at_most=causal.MAX_KERNEL)
        bad += small_fraction(norm_eps=self.norm_eps)
        yield from bad
        if not bad and self.value_heads % self.key_heads:
            yield f"value_heads {self.value_heads} is not a multiple of key_heads {self.key_heads}"

    def params(self, width: int) -> int:
        """D (C + HV + 2H) + k C + 2H + V + HV D, with C = 2 Hk K + Hv V channels and H = Hv."""
        return self._products(width) + 2 * self.value_heads + self.value_dim

    def _products(self, width: int) -> int:
        inner, heads = self.value_heads * self.value_dim, self.value_heads
        return width * (self.channels + inner + 2 * heads) + inner * width + self.kernel * self.channels

    def flops(self, width: int, *, tokens: int, context: int) -> int:  # noqa: ARG002
        """2 T (weights of projections and taps) + T H (7 K V + 2 V).

        Per head and token: decay 1 K V, read-out under the key 2, outer product and its sum 2, read-out 2; what is
        written, b (v - read-out), 2 V. Norms, gates and activations are left out.
        """
        state = self.value_heads * (7 * self.key_dim * self.value_dim + 2 * self.value_dim)
        return 2 * tokens * self._products(width) + tokens * state

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG002
        """[B, k-1, C] inputs of the convolution, and [B, Hv, K, V]."""
        recurrent = linear.recurrent_state(self.value_heads, self.key_dim, self.value_dim)
        return (*causal.conv_state(self.kernel, self.channels), recurrent)

    def module(self, width: int) -> nn.Module:
        """The torch truth: the recurrence, one token at a time."""
        import torch
        from torch import nn
        from torch.nn import functional as F

        spec = self
        Hk, Hv, K, V = spec.key_heads, spec.value_heads, spec.key_dim, spec.value_dim

        def unit(x: torch.Tensor) -> torch.Tensor:
            return x * (x.square().sum(-1, keepdim=True) + L2_EPS).rsqrt()

        class GDNModule(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.in_proj = nn.Linear(width, spec.channels + Hv * V + 2 * Hv, bias=False)
                self.conv = nn.Conv1d(spec.channels, spec.channels, spec.kernel, groups=spec.channels, bias=False)
                self.dt_bias = nn.Parameter(torch.zeros(Hv))
                self.A_log = nn.Parameter(torch.zeros(Hv))
                self.norm = nn.RMSNorm(V, eps=spec.norm_eps)
                self.out_proj = nn.Linear(Hv * V, width, bias=False)

            def forward(
                self,
                x_BTD: torch.Tensor,
                state: tuple[torch.Tensor, ...] | None,
                position: int,  # noqa: ARG002
            ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
                B, T, _ = x_BTD.shape
                convolved, z, b, a = self.in_proj(x_BTD).split([spec.channels, Hv * V, Hv, Hv], dim=-1)
                past = state[0] if state and spec.kernel > 1 else None
                mixed, conv = causal.torch_causal_conv(convolved, self.conv.weight, past)
                q, k, v = torch.split(F.silu(mixed), [Hk * K, Hk * K, Hv * V], dim=-1)
                q = unit(q.view(B, T, Hk, K)).repeat_interleave(Hv // Hk, dim=2)
                k = unit(k.view(B, T, Hk, K)).repeat_interleave(Hv // Hk, dim=2)
                v = v.view(B, T, Hv, V)
                decay_BTH = (-self.A_log.exp() * F.softplus(a + self.dt_bias)).exp()
                beta_BTH = b.sigmoid()
                S_BHKV = state[-1] if state else x_BTD.new_zeros(B, Hv, K, V)
                outputs = []
                for t in range(T):
                    S_BHKV = decay_BTH[:, t, :, None, None] * S_BHKV
                    stored = (S_BHKV * k[:, t, :, :, None]).sum(dim=2)
                    change = beta_BTH[:, t, :, None] * (v[:, t] - stored)
                    S_BHKV = S_BHKV + k[:, t, :, :, None] * change[:, :, None, :]
                    outputs.append((S_BHKV * q[:, t, :, :, None]).sum(dim=2) * K**-0.5)
                y = linear.torch_gated_norm(self.norm, torch.stack(outputs, dim=1), z)
                return self.out_proj(y), (conv, S_BHKV) if spec.kernel > 1 else (S_BHKV,)

        return GDNModule()
