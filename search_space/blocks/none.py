"""No mixer: the layer is its feed-forward network alone (letter N)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_space.blocks._base import Lowering, Mixer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMixer(Mixer):
    """Moves nothing between tokens. Neither the block nor the norm before it exists in the model."""

    kind: ClassVar[str] = "none"
    title: ClassVar[str] = "none (FFN only)"
    letter: ClassVar[str] = "N"
    color: ClassVar[str] = "#9e9e9e"
    lowerings: ClassVar[dict[str, Lowering]] = {}

    def problems(self, width: int) -> Iterator[str]:  # noqa: ARG002
        """A layer without mixer is always possible."""
        return iter(())

    def params(self, width: int) -> int:  # noqa: ARG002
        """Zero."""
        return 0

    def flops(self, width: int, *, tokens: int, context: int) -> int:  # noqa: ARG002
        """Zero."""
        return 0

    def module(self, width: int) -> nn.Module:  # noqa: ARG002
        """Never built: the model leaves the block out."""
        raise AssertionError("a layer without mixer has no mixer module")
