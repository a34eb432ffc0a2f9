"""What a family of Hugging Face models answers: config to layout, layout to config, and the names of its tensors.

`read` follows the transformers class (5.23): the defaults of keys that a config leaves out are that class's. `write`
takes what it needs from the layout and then reads its own config back: what comes out other than it went in cannot be
said by this family, and is named.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from search_space.blocks import FeedForward, Mixer
from search_space.blocks._attention import Attention
from search_space.blocks.gqa import GQA
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.errors import ConfigError, LayoutError
from search_space.huggingface._keys import Keys, joined
from search_space.layout import Embedding, Layer, Layout

_MAX_REASONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """Names inside one layer and outside the layers, as the family's state dict has them.

    Attributes:
        final_norm: The last norm.
        mixer_norm: The norm before the mixer.
        ffn_norm: The norm before the feed-forward network.
        mixer_post_norm: The norm after the mixer, or "" without.
        ffn_post_norm: The norm after the feed-forward network, or "" without.
        ffn: The feed-forward network.
        gate_up_down: Its three matrices.
        attention: The attention.
        attention_out: Its last matrix.
        head_norms: Its norms over queries and keys.
        zero_centred: Norms hold what is to be added to one (the norm inside of a Gated DeltaNet excepted).
        vision: Prefixes of tensors outside the language model that such checkpoints may hold.
    """

    final_norm: str = "norm"
    mixer_norm: str = "input_layernorm"
    ffn_norm: str = "post_attention_layernorm"
    mixer_post_norm: str = ""
    ffn_post_norm: str = ""
    ffn: str = "mlp"
    gate_up_down: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    attention: str = "self_attn"
    attention_out: str = "o_proj"
    head_norms: tuple[str, str] = ("q_norm", "k_norm")
    zero_centred: bool = False
    vision: tuple[str, ...] = ()


class Family(ABC):
    """One `model_type`.

    Class attributes:
        model_type: Its name in a config.
        architecture: The transformers class of the language model.
        mixers: Kinds of mixers that it has.
        post_norm: It has norms after its blocks.
        names: Names of its tensors.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    mixers: ClassVar[tuple[str, ...]]
    post_norm: ClassVar[bool] = False
    names: ClassVar[TensorNames]

    def read(self, keys: Keys) -> Layout:
        """The layout of a config.

        Raises:
            ConfigError: With everything in it that no layout can express.
        """
        try:
            layout = self._read(keys)
        except LayoutError as error:
            raise ConfigError(joined([*keys.problems, str(error)])) from error
        keys.finish()
        if keys.problems:
            raise ConfigError(joined(keys.problems))
        return layout

    def write(self, layout: Layout, *, context: int) -> dict[str, Any]:
        """The config of a layout.

        Args:
            layout: The layout.
            context: Tokens for `max_position_embeddings`.

        Raises:
            ConfigError: With what this family cannot express.
        """
        reasons = [f"it has no {stranger}" for stranger in self.strangers(layout)]
        if not reasons:
            config = {"architectures": [self.architecture], "model_type": self.model_type, **_NO_TOKENS}
            config |= self._write(layout, context)
            try:
                reasons = list(_differences(layout, self.read(Keys(config))))
            except ConfigError as error:
                reasons = [str(error)]
            if not reasons:
                return config
        more = len(reasons) - _MAX_REASONS
        raise ConfigError("; ".join(reasons[:_MAX_REASONS]) + (f"; and {more} more" if more > 0 else ""))

    def strangers(self, layout: Layout) -> Iterator[str]:
        """What the family does not have at all."""
        if layout.embedding.rank is not None:
            yield f"factorised tables (embedding.rank {layout.embedding.rank})"
        places: dict[str, list[int]] = {}
        for index, layer in enumerate(layout.layers):
            if layer.mixer.kind not in self.mixers:
                places.setdefault(f"{layer.mixer.kind} mixer", []).append(index)
            if layer.ffn is None:
                places.setdefault("layer without a feed-forward network", []).append(index)
            elif not isinstance(layer.ffn, SwiGLU):
                places.setdefault(f"{layer.ffn.kind} network", []).append(index)
        for stranger, where in places.items():
            yield f"{stranger} ({_layers(where)})"

    @abstractmethod
    def _read(self, keys: Keys) -> Layout: ...

    @abstractmethod
    def _write(self, layout: Layout, context: int) -> dict[str, Any]: ...

    # -- what several families share ---------------------------------------------------------------------------

    def _assemble(
        self, mixers: Sequence[Mixer], ffn: FeedForward, *, width: int, vocab: int, tied: bool, eps: float,
        scaled: bool = False,
    ) -> Layout:  # fmt: skip
        return Layout(
            width=width,
            embedding=Embedding(vocab_size=vocab, tied=tied, scaled=scaled),
            layers=tuple(Layer(mixer=mixer, ffn=ffn) for mixer in mixers),
            norm_eps=eps,
            post_norm=self.post_norm,
        )


_NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""A layout has no tokenizer. transformers' own ids may lie outside a small vocabulary, where it refuses them."""


def attention_of(window: int | None, fields: Mapping[str, Any]) -> Attention:
    """Full attention, or attention to a window."""
    return GQA(**fields) if window is None else SWA(window=window, **fields)


def attentions(layout: Layout) -> list[Attention]:
    """A layout's attention mixers in their order."""
    return [layer.mixer for layer in layout.layers if isinstance(layer.mixer, Attention)]


def rotating(layout: Layout) -> Attention | None:
    """The first attention whose heads are rotated."""
    return next((spec for spec in attentions(layout) if spec.rotary_dim), None)


def window_of(layout: Layout) -> int | None:
    """The window of the first sliding layer."""
    return next((layer.mixer.window for layer in layout.layers if isinstance(layer.mixer, SWA)), None)


def hidden_of(layout: Layout) -> int:
    """The hidden width of the first layer."""
    ffn = layout.layers[0].ffn
    assert ffn is not None
    return ffn.hidden


def sizes_of(layout: Layout, context: int) -> dict[str, Any]:
    """Keys that every family calls the same."""
    return {
        "vocab_size": layout.embedding.vocab_size,
        "hidden_size": layout.width,
        "intermediate_size": hidden_of(layout),
        "num_hidden_layers": len(layout.layers),
        "max_position_embeddings": context,
        "tie_word_embeddings": layout.embedding.tied,
    }


def _differences(wanted: Layout, said: Layout) -> Iterator[str]:
    """Where a config read back is another layout than the one that it was written for."""
    first, second = wanted.to_json(), said.to_json()
    for name in ("norm_eps", "post_norm"):
        yield from _difference(name, first[name], second[name])
    for name in first["embedding"]:
        yield from _difference(f"embedding.{name}", first["embedding"][name], second["embedding"][name])
    places: dict[str, list[int]] = {}
    for index, (a, b) in enumerate(zip(first["layers"], second["layers"], strict=True)):
        for part in ("mixer", "ffn"):
            for name in {**a[part], **b[part]}:
                for sentence in _difference(f"{part}.{name}", a[part].get(name), b[part].get(name)):
                    places.setdefault(sentence, []).append(index)
    for sentence, where in places.items():
        yield f"{_layers(where)}: {sentence}"


def _difference(name: str, wanted: Any, said: Any) -> Iterator[str]:
    if wanted != said:
        yield f"{name} {'its default' if wanted is None else wanted} where a config says {said}"


def _layers(indices: Any) -> str:
    listed = list(indices)
    text = ", ".join(map(str, listed[:6])) + (", ..." if len(listed) > 6 else "")
    return f"layer{'s' if len(listed) > 1 else ''} {text}"
