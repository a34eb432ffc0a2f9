"""Iso-parameter: the FFN width that brings a layout to a parameter count.

At equal width a ShortConv mixer has 1.3-1.6x the parameters of a GQA mixer, so mixers are compared fairly only when
something else makes up the difference: here the hidden width of the feed-forward networks, the same in all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search_space.blocks import FeedForward, Mixer
from search_space.cost import parameters
from search_space.layout import Embedding, Layer, Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """Everything of a layout except the FFN width.

    Attributes:
        width: Model width.
        embedding: Tables and head.
        mixers: One per layer.
        feed_forward: Makes the network for a hidden width.
        norm_eps: Epsilon of the layer norms.
        post_norm: A second norm after each block.
    """

    width: int
    embedding: Embedding
    mixers: tuple[Mixer, ...]
    feed_forward: Callable[[int], FeedForward]
    norm_eps: float = 1e-5
    post_norm: bool = False

    def layout(self, hidden: int) -> Layout:
        """The layout with this FFN width.

        Raises:
            LayoutError: It is impossible.
        """
        ffn = self.feed_forward(hidden)
        return Layout(
            width=self.width,
            embedding=self.embedding,
            layers=tuple(Layer(mixer=mixer, ffn=ffn) for mixer in self.mixers),
            norm_eps=self.norm_eps,
            post_norm=self.post_norm,
        )

    @property
    def params_per_hidden(self) -> int:
        """Parameters that one more hidden unit adds to the whole model."""
        return self.feed_forward(1).params_per_hidden(self.width) * len(self.mixers)

    def solve(self, target: int, multiple: int) -> int:
        """The FFN width, a multiple of `multiple` and at least that, whose total is nearest to `target`.

        The total is a straight line in the width. Of two widths equally near, the smaller.

        Raises:
            LayoutError: The layout is impossible at any width.
        """
        smallest = parameters(self.layout(multiple)).total
        step = self.params_per_hidden * multiple
        return multiple * (1 + max(0, (2 * (target - smallest) + step - 1) // (2 * step)))


def hidden_of(layout: Layout) -> int | None:
    """The FFN width when all layers have the same, or None."""
    widths: Sequence[int | None] = sorted({layer.ffn.hidden if layer.ffn else -1 for layer in layout.layers})
    return widths[0] if len(widths) == 1 and widths[0] != -1 else None
