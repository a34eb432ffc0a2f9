"""ShortConv: the gated short convolution of LFM2 (letter C).

(b, c, v) = W_in x;  y = W_out (c * conv_k(b * v)), with a depthwise causal convolution of k taps (Liquid AI 2025,
arXiv:2511.23404). Its state is k-1 rows, whatever the context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_space.blocks import _causal_conv as causal
from search_space.blocks._base import Block, Lowering, Mixer, StateSpec, positive

if TYPE_CHECKING:
    import torch
    from onnx_ir import Value
    from torch import nn

    from search_space.graph.builder import GraphBuilder


def _lower(
    conv: Callable[[GraphBuilder, Value, int, int], Value],
) -> Callable[[GraphBuilder, Block, int, Value], Value]:
    def build(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
        assert isinstance(spec, ShortConv)
        b, c, v = g.split(g.linear("in_proj", x, width, 3 * width), (width,) * 3)
        mixed = conv(g, g.op("Mul", b, v), spec.kernel, width)
        return g.linear("out_proj", g.op("Mul", c, mixed), width, width, residual=True)

    return build


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConv(Mixer):
    """Gated short convolution over all D channels.

    Attributes:
        kernel: Taps of the depthwise causal convolution (LFM2: 3).
    """

    kind: ClassVar[str] = "short_conv"
    title: ClassVar[str] = "ShortConv"
    letter: ClassVar[str] = "C"
    color: ClassVar[str] = "#e69f00"
    lowerings: ClassVar[dict[str, Lowering]] = {
        "shifted": Lowering(build=_lower(causal.shifted), note="multiply-adds over shifted views; good at any length"),
        "conv": Lowering(
            build=_lower(causal.standard_conv), note="standard Conv between transposes; best prefill, slow decode"
        ),
        "fused": Lowering(build=_lower(causal.fused), note="CausalConvWithState, channels last; slow prefill on CPU"),
        "fused_channels_first": Lowering(
            build=_lower(causal.fused_channels_first),
            note="CausalConvWithState between transposes, as its kernel likes it",
        ),
    }

    kernel: int = 3

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """The kernel needs at least one tap, and is short."""
        yield from positive(kernel=self.kernel, at_most=causal.MAX_KERNEL)

    def params(self, width: int) -> int:
        """4 D^2 + k D: in (3 D^2), out (D^2) and the taps."""
        return 4 * width * width + self.kernel * width

    def flops(self, width: int, *, tokens: int, context: int) -> int:  # noqa: ARG002
        """T (8 D^2 + 2 k D + 2 D): two products, the taps and two gates."""
        return tokens * (8 * width * width + 2 * self.kernel * width + 2 * width)

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG002
        """[B, k-1, D]."""
        return causal.conv_state(self.kernel, width)

    def module(self, width: int) -> nn.Module:
        """The torch truth; its state is the last k-1 gated inputs [B, k-1, D]."""
        from torch import nn

        spec = self

        class ShortConvModule(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.in_proj = nn.Linear(width, 3 * width, bias=False)
                self.conv = nn.Conv1d(width, width, spec.kernel, groups=width, bias=False)
                self.out_proj = nn.Linear(width, width, bias=False)

            def forward(
                self,
                x_BTD: torch.Tensor,
                state: tuple[torch.Tensor, ...] | None,
                position: int,  # noqa: ARG002
            ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
                b, c, v = self.in_proj(x_BTD).chunk(3, dim=-1)
                mixed, new = causal.torch_causal_conv(b * v, self.conv.weight, state[0] if state else None)
                return self.out_proj(c * mixed), (new,) if spec.kernel > 1 else ()

        return ShortConvModule()
