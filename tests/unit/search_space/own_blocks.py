"""Blocks of one's own: a spec and a torch module each, and no lowering."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from search_space.blocks import FeedForward, Mixer, StateSpec, positive


def install(folder: Path, module: str, code: str, entries: str) -> None:
    """Make `folder` a place of installed packages: one of a single module, whose entry points name blocks."""
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    name = module.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[archsearch.blocks]\n{entries}", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedConv(Mixer):
    """A gated depthwise convolution that carries its last inputs."""

    kind: ClassVar[str] = "gated_conv"
    title: ClassVar[str] = "Gated convolution"
    letter: ClassVar[str] = "V"
    color: ClassVar[str] = "#123456"

    kernel: int = 3

    def problems(self, width: int) -> Iterator[str]:
        yield from positive(kernel=self.kernel, at_most=64)

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:
        return (StateSpec(name="inputs", shape=("batch", self.kernel - 1, width)),)

    def module(self, width: int) -> nn.Module:
        return GatedConvModule(width, self.kernel)


class GatedConvModule(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.gate_value = nn.Linear(width, 2 * width, bias=False)
        self.conv = nn.Conv1d(width, width, kernel, groups=width)
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: torch.Tensor, state: Any, position: int) -> Any:
        gate, value = self.gate_value(x_BTD).chunk(2, dim=-1)
        before = state[0] if state else value.new_zeros(value.shape[0], self.kernel - 1, value.shape[2])
        seen = torch.cat([before, value], dim=1)
        mixed = self.norm(self.conv(seen.transpose(1, 2)).transpose(1, 2))
        return self.out(torch.sigmoid(gate) * mixed), (seen[:, seen.shape[1] - (self.kernel - 1) :],)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeluNetwork(FeedForward):
    """Two linear maps with biases, and a GELU between."""

    kind: ClassVar[str] = "gelu_network"
    title: ClassVar[str] = "GELU network"

    @classmethod
    def params_per_hidden(cls, width: int) -> int:
        return 2 * width + 1

    def module(self, width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, self.hidden), nn.GELU(), nn.Linear(self.hidden, width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning(Mixer):
    """Every channel is multiplied by a wave over the position, and the sum of all before is taken."""

    kind: ClassVar[str] = "turning"
    title: ClassVar[str] = "Turning"
    letter: ClassVar[str] = "T"
    color: ClassVar[str] = "#654321"

    def module(self, width: int) -> nn.Module:
        return TurningModule(width)

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:
        return (StateSpec(name="sum", shape=("batch", 1, width)),)


class TurningModule(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width)
        self.frequency = nn.Parameter(torch.linspace(0.1, 1.0, width))
        self.register_buffer("phase", torch.linspace(0.0, 3.0, width), persistent=False)

    def forward(self, x_BTD: torch.Tensor, state: Any, position: int) -> Any:
        at_T1 = torch.arange(position, position + x_BTD.shape[1], dtype=x_BTD.dtype)[:, None]
        total = self.proj(x_BTD * torch.cos(at_T1 * self.frequency + self.phase)).cumsum(dim=1)
        total = total + (state[0] if state else 0.0)
        # The same matrix twice; the second time its bias is added to a mean, not to a sum.
        return self.proj(total / (at_T1 + 1)), (total[:, -1:],)


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingAverage(Mixer):
    """h_t = a h_{t-1} + (1 - a) x_t for each channel, as a product with powers of a.

    Attributes:
        heads: Channels that share a decay.
    """

    kind: ClassVar[str] = "moving_average"
    title: ClassVar[str] = "Moving average"
    letter: ClassVar[str] = "M"
    color: ClassVar[str] = "#abcdef"

    heads: int = 1

    def flops(self, width: int, *, tokens: int, context: int) -> int:
        """T (4 D^2 + 3 D): two linear maps, and the recurrence that the products stand for."""
        return tokens * (4 * width * width + 3 * width)

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:
        return (StateSpec(name="average", shape=("batch", width)),)

    def module(self, width: int) -> nn.Module:
        return MovingAverageModule(width)


class MovingAverageModule(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, width, bias=False)
        self.decay = nn.Parameter(torch.linspace(-2.0, 3.0, width))
        self.mix = nn.Parameter(torch.randn(width, width) * width**-0.5)

    def forward(self, x_BTD: torch.Tensor, state: Any, position: int) -> Any:
        value = self.value(x_BTD)
        a_D = torch.sigmoid(self.decay)
        steps = torch.arange(x_BTD.shape[1])
        apart_TS = steps[:, None] - steps[None, :]
        weight_TSD = torch.where(apart_TS[..., None] >= 0, a_D ** apart_TS[..., None].clamp(min=0), 0.0)
        h = torch.einsum("tsd,bsd->btd", weight_TSD, (1 - a_D) * value)
        if state is not None:
            h = h + state[0][:, None] * a_D ** (steps[:, None] + 1)
        return F.silu(h) @ self.mix, (h[:, -1],)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAttention(Mixer):
    """One head over all tokens; keys and values of a call are put behind the earlier ones."""

    kind: ClassVar[str] = "plain_attention"
    title: ClassVar[str] = "Plain attention"
    letter: ClassVar[str] = "P"
    color: ClassVar[str] = "#fedcba"

    def flops(self, width: int, *, tokens: int, context: int) -> int:
        """T 8 D^2 for the maps, and 4 D for each pair of a token and one that it sees."""
        seen = tokens * context - tokens * (tokens - 1) // 2
        return 8 * tokens * width * width + 4 * width * seen

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:
        shape = ("batch", 1, "capacity", width)
        return tuple(StateSpec(name=name, shape=shape, growing=True) for name in ("key", "value"))

    def module(self, width: int) -> nn.Module:
        return PlainAttentionModule(width)


class PlainAttentionModule(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: torch.Tensor, state: Any, position: int) -> Any:
        q, k, v = self.qkv(x_BTD)[:, None].chunk(3, dim=-1)
        if state is not None:
            k, v = torch.cat([state[0], k], dim=2), torch.cat([state[1], v], dim=2)
        T, S = q.shape[2], k.shape[2]
        visible = torch.arange(S)[None, :] <= torch.arange(S - T, S)[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.out(y[:, 0]), (k, v)
