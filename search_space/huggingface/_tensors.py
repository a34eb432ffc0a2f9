"""Which tensors of a checkpoint make up each parameter of our model, and what is done to them on the way.

Queries, keys and values are one matrix here, and so are gate and up. Gemma 3 and Qwen3.5 store what is added to one in
their norms. Qwen3.5's query projection holds, head after head, the query and its output gate; here all gates come
last. The inputs of a Gated DeltaNet are four matrices there and one here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from search_space.blocks import Mixer
from search_space.blocks._attention import Attention
from search_space.blocks.gdn import GDN
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swiglu import SwiGLU
from search_space.huggingface._family import TensorNames
from search_space.layout import Layout

HEAD = "lm_head.weight"
EMBEDDING = "embed_tokens.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of one of our parameters, as a checkpoint has them.

    Attributes:
        name: Name inside the text model (``layers.0.mlp.up_proj.weight``), or `HEAD`.
        shape: Shape of the whole tensor there.
        plus: Added to every value.
        groups: The rows lie in this many groups of two equal halves, and one half of each group is meant; 0 for all.
        half: Which half, 0 or 1.
    """

    name: str
    shape: tuple[int, ...]
    plus: float = 0.0
    groups: int = 0
    half: int = 0

    @property
    def rows(self) -> int:
        """Rows that it gives."""
        return self.shape[0] // 2 if self.groups else self.shape[0]


Pieces = dict[str, tuple[Piece, ...]]
"""Pieces by the name of our parameter, in the order of its rows."""


def mapping(layout: Layout, names: TensorNames) -> Pieces:
    """The pieces of every parameter of a layout that a family with these names can express."""
    return dict(_mapped(layout, names))


def _mapped(layout: Layout, names: TensorNames) -> Iterator[tuple[str, tuple[Piece, ...]]]:
    width, vocab = layout.width, layout.embedding.vocab_size

    def norm(source: str, size: int) -> tuple[Piece, ...]:
        return (Piece(name=f"{source}.weight", shape=(size,), plus=1.0 if names.zero_centred else 0.0),)

    yield "embedding.weight", (Piece(name=EMBEDDING, shape=(vocab, width)),)
    for index, layer in enumerate(layout.layers):
        source, target = f"layers.{index}", f"layers.{index}"
        yield f"{target}.mixer_norm.weight", norm(f"{source}.{names.mixer_norm}", width)
        for kind, write in _MIXERS.items():
            if isinstance(layer.mixer, kind):
                for name, pieces in write(layer.mixer, source, width, names):
                    yield f"{target}.mixer.{name}", pieces
        if names.mixer_post_norm:
            yield f"{target}.mixer_post_norm.weight", norm(f"{source}.{names.mixer_post_norm}", width)
        yield f"{target}.ffn_norm.weight", norm(f"{source}.{names.ffn_norm}", width)
        assert isinstance(layer.ffn, SwiGLU)
        hidden, (gate, up, down) = layer.ffn.hidden, names.gate_up_down
        ffn = f"{source}.{names.ffn}"
        wide = ((gate, hidden), (up, hidden))
        yield f"{target}.ffn.gate_up.weight", _stack(ffn, wide, width)
        yield f"{target}.ffn.down.weight", _stack(ffn, ((down, width),), hidden)
        if names.ffn_post_norm:
            yield f"{target}.ffn_post_norm.weight", norm(f"{source}.{names.ffn_post_norm}", width)
    yield "norm.weight", norm(names.final_norm, width)
    if not layout.embedding.tied:
        yield "head.weight", (Piece(name=HEAD, shape=(vocab, width)),)


def _stack(source: str, outputs: tuple[tuple[str, int], ...], inputs: int) -> tuple[Piece, ...]:
    return tuple(Piece(name=f"{source}.{name}.weight", shape=(rows, inputs)) for name, rows in outputs)


Mapped = Iterator[tuple[str, tuple[Piece, ...]]]


def _attention(spec: Any, layer: str, width: int, names: TensorNames) -> Mapped:
    assert isinstance(spec, Attention)
    source = f"{layer}.{names.attention}"
    inner, outer = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    key, value = _stack(source, (("k_proj", outer), ("v_proj", outer)), width)
    query = f"{source}.q_proj.weight"
    if spec.output_gate:
        first, gate = (Piece(name=query, shape=(2 * inner, width), groups=spec.heads, half=half) for half in (0, 1))
        yield "qkv.weight", (first, key, value, gate)
    else:
        yield "qkv.weight", (Piece(name=query, shape=(inner, width)), key, value)
    if spec.qk_norm:
        for ours, theirs in zip(("q_norm", "k_norm"), names.head_norms, strict=True):
            plus = 1.0 if names.zero_centred else 0.0
            yield f"{ours}.weight", (Piece(name=f"{source}.{theirs}.weight", shape=(spec.head_dim,), plus=plus),)
    yield "out_proj.weight", _stack(source, ((names.attention_out, width),), inner)


def _short_conv(spec: Any, layer: str, width: int, names: TensorNames) -> Mapped:  # noqa: ARG001
    source = f"{layer}.conv"
    yield "in_proj.weight", _stack(source, (("in_proj", 3 * width),), width)
    yield "conv.weight", (Piece(name=f"{source}.conv.weight", shape=(width, 1, spec.kernel)),)
    yield "out_proj.weight", _stack(source, (("out_proj", width),), width)


def _gdn(spec: Any, layer: str, width: int, names: TensorNames) -> Mapped:  # noqa: ARG001
    source, heads, inner = f"{layer}.linear_attn", spec.value_heads, spec.value_heads * spec.value_dim
    outputs = (("in_proj_qkv", spec.channels), ("in_proj_z", inner), ("in_proj_b", heads), ("in_proj_a", heads))
    yield "in_proj.weight", _stack(source, outputs, width)
    yield "conv.weight", (Piece(name=f"{source}.conv1d.weight", shape=(spec.channels, 1, spec.kernel)),)
    for name in ("dt_bias", "A_log"):
        yield name, (Piece(name=f"{source}.{name}", shape=(heads,)),)
    yield "norm.weight", (Piece(name=f"{source}.norm.weight", shape=(spec.value_dim,)),)  # not zero-centred
    yield "out_proj.weight", _stack(source, (("out_proj", width),), inner)


_MIXERS: dict[type[Mixer], Callable[[Any, str, int, TensorNames], Mapped]] = {
    Attention: _attention,
    ShortConv: _short_conv,
    GDN: _gdn,
}
