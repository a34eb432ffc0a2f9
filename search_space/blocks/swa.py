"""SWA: grouped-query attention over a sliding window (letter W)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from search_space.blocks._attention import Attention
from search_space.blocks._attention_blocked import BANDED
from search_space.blocks._attention_lowerings import GROUP_QUERY
from search_space.blocks._attention_plain import PLAIN, STANDARD
from search_space.blocks._base import Lowering, StateSpec, positive

SLACK = 8
"""A window-sized cache is this fraction (1/8) larger than the window: old rows are then evicted many at a time. With
no slack the kernel moves the whole cache at every token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SWA(Attention):
    """Attention to the last `window` tokens, the current one included.

    Attributes:
        window: Tokens visible.
    """

    kind: ClassVar[str] = "swa"
    title: ClassVar[str] = "SWA"
    letter: ClassVar[str] = "W"
    color: ClassVar[str] = "#56b4e9"
    lowerings: ClassVar[dict[str, Lowering]] = {
        "group_query": GROUP_QUERY,
        "banded": BANDED,
        "standard": STANDARD,
        "plain": PLAIN,
    }

    window: int

    @property
    def visible(self) -> int:
        """The window."""
        return self.window

    def problems(self, width: int) -> Iterator[str]:
        """As attention; the window must be positive."""
        yield from Attention.problems(self, width)
        yield from positive(window=self.window)

    def cache_rows(self) -> int:
        """Rows of the window-sized cache: the window plus its eviction slack."""
        return self.window + max(1, self.window // SLACK)

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG002
        """Keys and values, [B, G, min(context, window + slack), K] each."""
        if context <= self.cache_rows():
            shape: tuple[int | str, ...] = ("batch", self.kv_heads, "capacity", self.head_dim)
            return tuple(StateSpec(name=name, shape=shape, growing=True, in_place=True) for name in ("key", "value"))
        shape = ("batch", self.kv_heads, self.cache_rows(), self.head_dim)
        return tuple(StateSpec(name=name, shape=shape, in_place=True) for name in ("key", "value"))
