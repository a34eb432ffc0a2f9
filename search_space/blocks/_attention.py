"""What full and sliding-window attention share: the spec and the torch truth.

Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): H query heads share G key-value heads of K
dimensions, with rotary positions (Su et al. 2021, arXiv:2104.09864; halves convention) on the first `rotary_fraction`
of each head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from math import inf
from typing import TYPE_CHECKING

from search_space.blocks._base import ADDED_LATER, Mixer, added_later, positive, small_fraction
from search_space.blocks._rotary import Fill, RopeScaling, frequencies, rope_fill

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Mixer):
    """Softmax attention with rotary positions.

    Attributes:
        heads: Query heads H.
        kv_heads: Key-value heads G; divides H.
        head_dim: Dimensions per head K.
        qk_norm: RMSNorm over each query and key head before rotation.
        qk_norm_eps: Its epsilon.
        rope_theta: Base of the rotary frequencies.
        rotary_fraction: Share of each head that is rotated; 0 for none at all (NoPE, as in some layers of SmolLM3).
        output_gate: Multiply the heads' output by a sigmoid of a further projection (Qwen3.5).
        scale: Factor on the scores; None means 1/sqrt(K).
        rope_scaling: How the rotary frequencies are slowed down for longer contexts: ``none``, ``linear`` or
            ``llama3`` (`_rotary.py` has the formulas).
        rope_factor: By how much; above 1.
        rope_low_freq_factor: llama3: pairs with no more turns than this in the original context are slowed in full.
        rope_high_freq_factor: llama3: pairs with no fewer turns than this are not slowed.
        rope_original_context: llama3: tokens of that context.

    With a rotary_fraction of 0 the fields of rotation have no effect and take their defaults on creation: two spellings
    of one block are one spec.
    """

    heads: int
    kv_heads: int
    head_dim: int
    qk_norm: bool = True
    qk_norm_eps: float = 1e-5
    rope_theta: float = 1e6
    rotary_fraction: float = 1.0
    output_gate: bool = False
    scale: float | None = None
    rope_scaling: RopeScaling = field(default="none", metadata=ADDED_LATER)
    rope_factor: float = field(default=1.0, metadata=ADDED_LATER)
    rope_low_freq_factor: float = field(default=1.0, metadata=ADDED_LATER)
    rope_high_freq_factor: float = field(default=4.0, metadata=ADDED_LATER)
    rope_original_context: int = field(default=8192, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if self.rotary_fraction == 0:
            for declared in fields(Attention):
                if declared.name.startswith("rope_"):
                    object.__setattr__(self, declared.name, declared.default)

    @property
    def rotary_dim(self) -> int:
        """Rotated dimensions of each head, even."""
        return int(self.head_dim * self.rotary_fraction) // 2 * 2

    def rope_fill(self) -> Fill:
        """The rotary frequencies as a recipe says them (`_rotary.py`)."""
        return rope_fill(
            theta=self.rope_theta, rotary_dim=self.rotary_dim, scaling=self.rope_scaling, factor=self.rope_factor,
            low=self.rope_low_freq_factor, high=self.rope_high_freq_factor, original=self.rope_original_context,
        )  # fmt: skip

    @property
    def softmax_scale(self) -> float:
        """Factor on the scores."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """Heads must divide, and a head must have rotary pairs."""
        bad = list(positive(heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim))
        yield from bad
        if not bad and self.heads % self.kv_heads:
            yield (
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}; "
                f"kv_heads could be {', '.join(str(n) for n in range(1, self.heads + 1) if self.heads % n == 0)}"
            )
        if not 0 <= self.rotary_fraction <= 1:
            yield f"rotary_fraction is {self.rotary_fraction}; it must be in [0, 1]"
        elif self.head_dim > 0 and self.head_dim % 16:
            yield f"head_dim is {self.head_dim}; the attention kernel needs a multiple of 16"
        elif self.head_dim > 0 and self.rotary_fraction and (self.rotary_dim < 16 or self.rotary_dim % 16):
            yield (
                f"head_dim {self.head_dim} with rotary_fraction {self.rotary_fraction:g} rotates {self.rotary_dim} "
                "dimensions; the attention kernel needs a multiple of 16"
            )
        yield from small_fraction(qk_norm_eps=self.qk_norm_eps)
        if not 0 < self.rope_theta < inf:
            yield f"rope_theta is {self.rope_theta}; it must be positive"
        if self.scale is not None and not 0 < self.scale < inf:
            yield f"scale is {self.scale}; it must be positive"
        yield from self._scaling_problems()

    def _scaling_problems(self) -> Iterator[str]:
        used: tuple[str, ...] | None = {
            "none": (),
            "linear": ("rope_factor",),
            "llama3": ("rope_factor", "rope_low_freq_factor", "rope_high_freq_factor", "rope_original_context"),
        }.get(self.rope_scaling)
        if used is None:
            yield f"rope_scaling is {self.rope_scaling!r}; it must be 'none', 'linear' or 'llama3'"
            return
        for declared in fields(Attention):
            idle = added_later(declared) and declared.name not in ("rope_scaling", *used)
            if idle and getattr(self, declared.name) != declared.default:
                yield f"{declared.name} has no effect with rope_scaling {self.rope_scaling!r}; leave it out"
        if used and not 1 < self.rope_factor < inf:
            yield f"rope_factor is {self.rope_factor:g}; with rope_scaling {self.rope_scaling!r} it must be above 1"
        if not 0 < self.rope_low_freq_factor < self.rope_high_freq_factor < inf:
            yield (
                f"rope_low_freq_factor {self.rope_low_freq_factor:g} must be positive and below "
                f"rope_high_freq_factor {self.rope_high_freq_factor:g}"
            )
        yield from positive(rope_original_context=self.rope_original_context)

    def params(self, width: int) -> int:
        """D K (H + 2 G) + H K D, plus D H K with an output gate, plus 2 K with QK-norm."""
        return self._projections(width) + (2 * self.head_dim if self.qk_norm else 0)

    def _projections(self, width: int) -> int:
        heads = self.heads * (2 if self.output_gate else 1)
        return width * self.head_dim * (heads + 2 * self.kv_heads) + self.heads * self.head_dim * width

    def flops(self, width: int, *, tokens: int, context: int) -> int:
        """2 T (weights of the projections) + 4 H K (visible pairs): scores and weighted sum.

        Softmax, rotation, norms and the output gate are left out.
        """
        first = context - tokens
        if self.visible is None:
            pairs = tokens * first + tokens * (tokens + 1) // 2
        else:
            full = max(0, min(tokens, self.visible - first))  # tokens that still see everything
            pairs = full * first + full * (full + 1) // 2 + (tokens - full) * self.visible
        return 2 * tokens * self._projections(width) + 4 * self.heads * self.head_dim * pairs

    def module(self, width: int) -> nn.Module:
        """The torch truth; its state is all keys and values so far, rotated, [B, G, S, K] each."""
        import torch
        from torch import nn

        spec = self
        heads, groups, dim = spec.heads, spec.kv_heads, spec.head_dim

        def rotate(x_BHTK: torch.Tensor, position: int) -> torch.Tensor:
            half = spec.rotary_dim // 2
            frequency = torch.from_numpy(frequencies(spec.rope_fill())).to(x_BHTK.device)
            angle = torch.arange(position, position + x_BHTK.shape[2], dtype=torch.float64)[:, None] * frequency
            cos, sin = angle.cos().to(x_BHTK), angle.sin().to(x_BHTK)
            a, b, rest = torch.split(x_BHTK, [half, half, dim - 2 * half], dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)

        class AttentionModule(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                gate = heads * dim if spec.output_gate else 0
                self.qkv = nn.Linear(width, (heads + 2 * groups) * dim + gate, bias=False)
                if spec.qk_norm:
                    self.q_norm = nn.RMSNorm(dim, eps=spec.qk_norm_eps)
                    self.k_norm = nn.RMSNorm(dim, eps=spec.qk_norm_eps)
                self.out_proj = nn.Linear(heads * dim, width, bias=False)

            def forward(
                self, x_BTD: torch.Tensor, state: tuple[torch.Tensor, ...] | None, position: int
            ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
                B, T, _ = x_BTD.shape
                projected = self.qkv(x_BTD)
                q, k, v, gate = projected.split(
                    [heads * dim, groups * dim, groups * dim, projected.shape[-1] - (heads + 2 * groups) * dim], dim=-1
                )
                q = q.view(B, T, heads, dim).transpose(1, 2)
                k = k.view(B, T, groups, dim).transpose(1, 2)
                v = v.view(B, T, groups, dim).transpose(1, 2)
                if spec.qk_norm:
                    q, k = self.q_norm(q), self.k_norm(k)
                q, k = rotate(q, position), rotate(k, position)
                if state is not None:
                    k, v = torch.cat([state[0], k], dim=2), torch.cat([state[1], v], dim=2)
                new_state = (k, v)
                S = k.shape[2]
                age_TS = (torch.arange(S - T, S)[:, None] - torch.arange(S)[None, :]).to(x_BTD.device)
                hidden = age_TS < 0
                if spec.visible is not None:
                    hidden = hidden | (age_TS >= spec.visible)
                repeat = heads // groups
                scores = q @ k.repeat_interleave(repeat, dim=1).transpose(-1, -2) * spec.softmax_scale
                weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
                y = (weights @ v.repeat_interleave(repeat, dim=1)).transpose(1, 2).reshape(B, T, heads * dim)
                if spec.output_gate:
                    y = y * gate.sigmoid()
                return self.out_proj(y), new_state

        return AttentionModule()
