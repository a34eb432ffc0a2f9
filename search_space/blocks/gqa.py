"""GQA: grouped-query attention over the whole context (letter G)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from search_space.blocks._attention import Attention
from search_space.blocks._attention_blocked import BLOCKED
from search_space.blocks._attention_lowerings import GROUP_QUERY
from search_space.blocks._attention_plain import PLAIN, STANDARD
from search_space.blocks._base import Lowering, StateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GQA(Attention):
    """Attention whose cache grows by one row per token."""

    kind: ClassVar[str] = "gqa"
    title: ClassVar[str] = "GQA"
    letter: ClassVar[str] = "G"
    color: ClassVar[str] = "#0072b2"
    is_global: ClassVar[bool] = True
    lowerings: ClassVar[dict[str, Lowering]] = {
        "group_query": GROUP_QUERY,
        "blocked": BLOCKED,
        "standard": STANDARD,
        "plain": PLAIN,
    }

    def states(self, width: int, *, context: int) -> tuple[StateSpec, ...]:  # noqa: ARG002
        """Keys and values, [B, G, context, K] each."""
        shape = ("batch", self.kv_heads, "capacity", self.head_dim)
        return tuple(StateSpec(name=name, shape=shape, growing=True, in_place=True) for name in ("key", "value"))
