"""Llama, Qwen3 and SmolLM3: attention and a gated network in every layer."""

from __future__ import annotations

from typing import Any, ClassVar

from search_space.blocks._attention import Attention
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.huggingface._family import (
    Family,
    TensorNames,
    attention_of,
    attentions,
    rotating,
    sizes_of,
    window_of,
)
from search_space.huggingface._keys import Keys
from search_space.huggingface._rope import FULL, SLIDING, context_of, read_rope, write_rope
from search_space.layout import Layout


class _Dense(Family):
    """What the three share.

    Class attributes:
        sizes: Defaults of vocabulary, width, hidden width, layers, heads and key-value heads (None: as many).
        head_dim: Default; None is width / heads.
        theta: Default base of the rotation.
        tied: Default.
        qk_norm: It has norms over queries and keys.
    """

    sizes: ClassVar[tuple[int, int, int, int, int, int | None]]
    head_dim: ClassVar[int | None] = None
    theta: ClassVar[float] = 1e4
    tied: ClassVar[bool] = False
    qk_norm: ClassVar[bool] = False
    whole_heads: ClassVar[bool] = False
    names = TensorNames()

    def _read(self, keys: Keys) -> Layout:
        vocab, width, hidden, depth, heads, groups = self.sizes
        vocab, width = keys.whole("vocab_size", vocab), keys.whole("hidden_size", width)
        hidden, depth = keys.whole("intermediate_size", hidden), keys.whole("num_hidden_layers", depth)
        heads = keys.whole("num_attention_heads", heads)
        if keys.data.get("num_key_value_heads", groups) is None:
            groups = heads
            keys.ignore("num_key_value_heads")
        else:
            groups = keys.whole("num_key_value_heads", groups or heads)
        head_dim = keys.whole("head_dim", self.head_dim or max(1, width // heads), or_null=self.head_dim is None)
        if self.whole_heads and width % heads:
            keys.wrong("num_attention_heads", f"transformers wants it to divide hidden_size {width}")
        eps = keys.number("rms_norm_eps", 1e-6)
        keys.only(("silu",), "hidden_act")
        keys.only((False,), "attention_bias", "mlp_bias")
        keys.ignore("pretraining_tp")
        fields: dict[str, Any] = {"heads": heads, "kv_heads": groups, "head_dim": head_dim, "qk_norm": self.qk_norm}
        if self.qk_norm:
            fields["qk_norm_eps"] = eps
        fields |= read_rope(keys, self.theta)
        mixers = self._mixers(keys, depth, fields)
        tied = keys.flag("tie_word_embeddings", self.tied)
        return self._assemble(mixers, SwiGLU(hidden=hidden), width=width, vocab=vocab, tied=tied, eps=eps)

    def _mixers(self, keys: Keys, depth: int, fields: dict[str, Any]) -> list[Attention]:  # noqa: ARG002
        return [attention_of(None, fields)] * depth

    def _write(self, layout: Layout, context: int) -> dict[str, Any]:
        spec = attentions(layout)[0]
        rope = write_rope(rotating(layout), self.theta)
        return {
            **sizes_of(layout, context_of(rope, context)),
            "num_attention_heads": spec.heads,
            "num_key_value_heads": spec.kv_heads,
            "head_dim": spec.head_dim,
            "rms_norm_eps": layout.norm_eps,
            "rope_parameters": rope,
        }


class Llama(_Dense):
    """Llama (Touvron et al. 2023, arXiv:2302.13971)."""

    model_type = "llama"
    architecture = "LlamaForCausalLM"
    mixers = ("gqa",)
    sizes = (32000, 4096, 11008, 32, 32, None)
    whole_heads = True


class Qwen3(_Dense):
    """Qwen3 (Yang et al. 2025, arXiv:2505.09388): norms over queries and keys."""

    model_type = "qwen3"
    architecture = "Qwen3ForCausalLM"
    mixers = ("gqa", "swa")
    sizes = (151936, 4096, 22016, 32, 32, 32)
    head_dim = 128
    qk_norm = True

    def _mixers(self, keys: Keys, depth: int, fields: dict[str, Any]) -> list[Attention]:
        window = _window(keys, 4096)
        first = keys.raw("max_window_layers", 28)
        if type(first) is not int:
            keys.wrong("max_window_layers", "it must be a whole number")
            first = 28
        default = [SLIDING if window is not None and i >= first else FULL for i in range(depth)]
        return _by_kind(keys, depth, default, window, [fields] * depth)

    def _write(self, layout: Layout, context: int) -> dict[str, Any]:
        return super()._write(layout, context) | _write_windows(layout)


class SmolLM3(_Dense):
    """SmolLM3: some layers without rotation."""

    model_type = "smollm3"
    architecture = "SmolLM3ForCausalLM"
    mixers = ("gqa", "swa")
    sizes = (128256, 2048, 11008, 36, 16, 4)
    theta = 2e6
    tied = True

    def _mixers(self, keys: Keys, depth: int, fields: dict[str, Any]) -> list[Attention]:
        interval = keys.whole("no_rope_layer_interval", 4)
        rotated = keys.raw("no_rope_layers")
        if rotated is None:
            rotated = [int((i + 1) % interval != 0) for i in range(depth)]
        elif not isinstance(rotated, list) or len(rotated) < depth or not set(map(repr, rotated)) <= {"0", "1"}:
            keys.wrong("no_rope_layers", f"it must be a list with 1 (rotated) or 0 for each of {depth} layers")
            rotated = [1] * depth
        window = _window(keys, None)
        default = [SLIDING if window is not None and not rotated[i] else FULL for i in range(depth)]
        keys.ignore("max_window_layers")
        by_layer = [fields if rotated[i] else fields | {"rotary_fraction": 0.0} for i in range(depth)]
        return _by_kind(keys, depth, default, window, by_layer)

    def _write(self, layout: Layout, context: int) -> dict[str, Any]:
        rotated = [int(spec.rotary_dim > 0) for spec in attentions(layout)]
        config = super()._write(layout, context) | _write_windows(layout)
        return config | {"no_rope_layers": rotated}


def _window(keys: Keys, default: int | None) -> int | None:
    """The window where there is one in use."""
    used = keys.flag("use_sliding_window", False)
    window = keys.raw("sliding_window", default)
    if not used or window is None:
        return None
    return keys.whole("sliding_window", default or 1)


def _by_kind(
    keys: Keys, depth: int, default: list[str], window: int | None, fields: list[dict[str, Any]]
) -> list[Attention]:
    kinds = keys.kinds("layer_types", depth, (FULL, SLIDING), default)
    if SLIDING in kinds and window is None:
        keys.problems.append(
            f"{keys.where}layer_types has {SLIDING!r}, but use_sliding_window is false or sliding_window is null"
        )
        kinds = [FULL] * depth
    return [attention_of(window if kind == SLIDING else None, fields[i]) for i, kind in enumerate(kinds)]


def _write_windows(layout: Layout) -> dict[str, Any]:
    window = window_of(layout)
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": [SLIDING if isinstance(layer.mixer, SWA) else FULL for layer in layout.layers],
    }
