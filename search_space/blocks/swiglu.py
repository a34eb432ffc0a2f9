"""SwiGLU: the gated feed-forward network, y = W_down(act(W_gate x) * W_up x) (Shazeer 2020, arXiv:2002.05202)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from search_space.blocks._base import Block, FeedForward, Lowering, positive

if TYPE_CHECKING:
    from onnx_ir import Value
    from torch import nn

    from search_space.graph.builder import GraphBuilder


def _activate(g: GraphBuilder, spec: SwiGLU, gate: Value) -> Value:
    if spec.activation == "silu":
        return g.silu(gate)
    return g.op("Gelu", gate, approximate="tanh")


def _packed(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
    assert isinstance(spec, SwiGLU)
    gate, up = g.split(g.linear("gate_up", x, width, 2 * spec.hidden), (spec.hidden, spec.hidden))
    return g.linear("down", g.op("Mul", _activate(g, spec, gate), up), spec.hidden, width, residual=True)


def _two_products(g: GraphBuilder, spec: Block, width: int, x: Value) -> Value:
    assert isinstance(spec, SwiGLU)
    gate, up = g.linear_parts("gate_up", x, width, (spec.hidden, spec.hidden))
    return g.linear("down", g.op("Mul", _activate(g, spec, gate), up), spec.hidden, width, residual=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiGLU(FeedForward):
    """Gated feed-forward network without biases.

    Attributes:
        hidden: Width of the gate and of the value.
        activation: ``silu`` (SwiGLU) or ``gelu_tanh`` (GeGLU with the tanh approximation, as in Gemma).
    """

    kind: ClassVar[str] = "swiglu"
    title: ClassVar[str] = "SwiGLU"
    lowerings: ClassVar[dict[str, Lowering]] = {
        "two_products": Lowering(build=_two_products, note="gate and up as two products; nothing is copied between"),
        "packed": Lowering(build=_packed, note="gate and up as one product, then split"),
    }

    activation: Literal["silu", "gelu_tanh"] = "silu"

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """The hidden width must be positive."""
        yield from positive(hidden=self.hidden)

    def params(self, width: int) -> int:
        """3 D hidden: gate, up and down."""
        return 3 * width * self.hidden

    @classmethod
    def params_per_hidden(cls, width: int) -> int:
        """3 D."""
        return 3 * width

    def flops(self, width: int, *, tokens: int, context: int) -> int:  # noqa: ARG002
        """2 T params: each weight is used in one multiply-add per token (activation and gating left out)."""
        return 2 * tokens * self.params(width)

    def module(self, width: int) -> nn.Module:
        """The torch truth: [B, T, D] -> [B, T, D]."""
        import torch
        from torch import nn
        from torch.nn import functional as F

        spec = self

        class SwiGLUModule(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.gate_up = nn.Linear(width, 2 * spec.hidden, bias=False)
                self.down = nn.Linear(spec.hidden, width, bias=False)

            def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
                gate, up = self.gate_up(x_BTD).chunk(2, dim=-1)
                act = F.silu(gate) if spec.activation == "silu" else F.gelu(gate, approximate="tanh")
                return self.down(act * up)  # type: ignore[no-any-return]

        return SwiGLUModule()
