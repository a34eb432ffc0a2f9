"""A block of one's own, in one file: a spec and a torch module, and no lowering.

H_t = a_t H_{t-1} + v_t b_t^T;  y_t = H_t c_t + skip v_t;  a_t = exp(-softplus(dt_t) exp(A)) for each head, gated by
silu(z_t): the state-space duality of Mamba-2 (Dao and Gu 2024, arXiv:2405.21060), without its convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from search_space.blocks import Mixer, StateSpec, positive


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace(Mixer):
    """A gated state-space mixer.

    Attributes:
        heads: Heads H, each with a decay of its own; the model width is a multiple of it.
        state_dim: Columns N of a head's state.
    """

    kind: ClassVar[str] = "state_space"
    title: ClassVar[str] = "State space"
    letter: ClassVar[str] = "M"
    color: ClassVar[str] = "#17becf"

    heads: int = 4
    state_dim: int = 16

    def problems(self, width: int) -> Iterator[str]:
        yield from positive(heads=self.heads, state_dim=self.state_dim)
        if self.heads > 0 and width % self.heads:
            yield f"heads is {self.heads}; it must divide the width {width}"

    def flops(self, width: int, *, tokens: int, context: int) -> int:
        """T (2 D (3 D + 2 N + H) + 5 D N): the linear maps, and the recurrence, whose state has D N elements."""
        maps = 2 * width * (3 * width + 2 * self.state_dim + self.heads)
        return tokens * (maps + 5 * width * self.state_dim)

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:
        shape = ("batch", self.heads, width // self.heads, self.state_dim)
        return (StateSpec(name="memory", shape=shape),)

    def module(self, width: int) -> nn.Module:
        return StateSpaceModule(width, self.heads, self.state_dim)


class StateSpaceModule(nn.Module):
    """The recurrence over one call in closed form: every token reads every earlier one, decayed in between."""

    def __init__(self, width: int, heads: int, state_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.sizes = (width, width, state_dim, state_dim, heads)
        self.maps = nn.Linear(width, sum(self.sizes), bias=False)
        self.log_rate = nn.Parameter(torch.linspace(-2.0, 1.0, heads))
        self.skip = nn.Parameter(torch.ones(heads))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: torch.Tensor, state: Any, position: int) -> Any:
        gate, value, b_BTN, c_BTN, dt_BTH = self.maps(x_BTD).split(self.sizes, dim=-1)
        v_BHTP = value.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        log_BHT = -(F.softplus(dt_BTH) * self.log_rate.exp()).transpose(1, 2).cumsum(dim=-1)
        apart_BHTS = log_BHT[..., :, None] - log_BHT[..., None, :]
        steps = torch.arange(x_BTD.shape[1])
        seen_TS = steps[:, None] >= steps[None, :]
        decay_BHTS = apart_BHTS.masked_fill(~seen_TS, float("-inf")).exp()
        y_BHTP = ((c_BTN @ b_BTN.mT)[:, None] * decay_BHTS) @ v_BHTP + self.skip[:, None, None] * v_BHTP
        left_BHT1 = (log_BHT[..., -1:] - log_BHT).exp()[..., None]
        memory_BHPN = (left_BHT1 * v_BHTP).mT @ b_BTN[:, None]
        if state is not None:
            y_BHTP = y_BHTP + (c_BTN[:, None] @ state[0].mT) * log_BHT.exp()[..., None]
            memory_BHPN = memory_BHPN + state[0] * log_BHT[..., -1].exp()[..., None, None]
        y_BTD = y_BHTP.transpose(1, 2).flatten(2)
        return self.out(F.silu(gate) * y_BTD), (memory_BHPN,)
