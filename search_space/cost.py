"""What a layout costs on paper: parameters by part, weight and state bytes, operations.

These are exact counts, no estimates: tests compare them with the torch model and with the exported graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from search_space.graph.precision import PRECISIONS, PrecisionName
from search_space.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Trainable parameters by part; the parts add up to `total`.

    Attributes:
        embedding: Input table, with its projection when factorised.
        head: Output head: 0 when tied, the second table (and projections) otherwise.
        mixers: All mixers, their inner norms included.
        ffn: All feed-forward networks.
        norms: Norms before (and after) blocks, and the last one.
    """

    embedding: int
    head: int
    mixers: int
    ffn: int
    norms: int

    @property
    def total(self) -> int:
        """All parameters of the language model."""
        return self.embedding + self.head + self.mixers + self.ffn + self.norms

    @property
    def vocabulary(self) -> int:
        """Parameters of embedding and output head (`embedding_params` in tables)."""
        return self.embedding + self.head

    @property
    def effective(self) -> int:
        """Total minus embedding and output head."""
        return self.total - self.vocabulary

    @property
    def embedding_share(self) -> float:
        """Embedding and head over total."""
        return self.vocabulary / self.total


def parameters(layout: Layout) -> Parameters:
    """Count a layout's parameters."""
    width = layout.width
    mixers = sum(count * mixer.params(width) for mixer, count in layout.counted_mixers)
    ffn = sum(count * ffn.params(width) for ffn, count in layout.counted_ffns)
    return Parameters(
        embedding=layout.embedding.input_params(width),
        head=layout.embedding.head_params(width),
        mixers=mixers,
        ffn=ffn,
        norms=width * (1 + norms_in_layers(layout)),
    )


def norms_in_layers(layout: Layout) -> int:
    """Model-width norms inside the layers: one per block that exists, two with `post_norm`."""
    blocks = sum((layer.mixer.kind != "none") + (layer.ffn is not None) for layer in layout.layers)
    return blocks * (2 if layout.post_norm else 1)


def state_bytes(layout: Layout, *, context: int, batch: int = 1, dtype: str = "float32") -> int:
    """Bytes of all carried state when caches are sized for `context` tokens.

    Args:
        layout: The layout.
        context: Tokens, prompt and generated ones.
        batch: Sequences B.
        dtype: ``float32`` or ``float16``.
    """
    return sum(
        count * mixer.state_bytes(layout.width, context=context, batch=batch, dtype=dtype)
        for mixer, count in layout.counted_mixers
    )


def flops(layout: Layout, *, tokens: int, context: int) -> int:
    """Operations of one call for one sequence (a multiply-add counts as two), with logits at the last position only.

    The blocks' `flops` and the head: 2 D V, or 2 r V + 2 r D (T + 1) with factorised tables, whose up-projection runs
    at every position. Norms, residual sums and the embedding look-up are left out (below 0.1% of the products).

    Args:
        layout: The layout.
        tokens: New tokens T of the call.
        context: Tokens visible at its end, the new ones included.
    """
    width, embedding = layout.width, layout.embedding
    blocks = sum(
        block.flops(width, tokens=tokens, context=context)
        for layer in layout.layers
        for block in (layer.mixer, layer.ffn)
        if block is not None
    )
    if embedding.rank is None:
        return blocks + 2 * width * embedding.vocab_size
    projection = 2 * embedding.rank * width
    return blocks + projection * (tokens + 1) + 2 * embedding.rank * embedding.vocab_size


def weight_bytes(layout: Layout, precision: PrecisionName) -> int:
    """Bytes of stored weights at a precision: quantised matrices with their scales, everything else float32.

    Counted from the exported graph, so alignment gaps are left out and nothing is forgotten.
    """
    from search_space.export import export_layout

    candidate = export_layout(layout, precision=precision, context=1)
    return sum(tensor.nbytes for tensor in candidate.trained_tensors())


def all_weight_bytes(layout: Layout) -> dict[PrecisionName, int]:
    """`weight_bytes` at every precision."""
    return {precision: weight_bytes(layout, precision) for precision in PRECISIONS}
