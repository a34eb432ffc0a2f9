"""Models that see: their text model is the layout, and what else they hold is counted beside it.

The counts are those of the transformers classes (5.23): `Gemma3ForConditionalGeneration` with a SigLIP tower, and
`Qwen3_5ForConditionalGeneration`. Qwen3.5 checkpoints also hold a head that predicts several tokens at once, which
transformers does not build; its count is that of the published tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_space.errors import ConfigError
from search_space.huggingface._hybrids import Gemma3, Qwen35
from search_space.huggingface._keys import Keys, joined
from search_space.layout import Layout
from search_space.wording import shown

_VISION_ONLY = ("mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index")
_DROPOUT = ("attention_dropout", "initializer_range", "layer_norm_eps", "hidden_act")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A config of a model that sees, taken apart.

    Attributes:
        layout: The text model.
        extra_params: Parameters outside it, by name.
        not_counted: Why something outside it is not counted, or "".
    """

    layout: Layout
    extra_params: Mapping[str, int]
    not_counted: str = ""


def read_gemma3(data: Mapping[str, Any]) -> Seen:
    """A config of model_type ``gemma3``.

    Raises:
        ConfigError: As for its text model.
    """
    layout, _ = _text(data, Gemma3(), tied=True)
    problems: list[str] = []
    extra = _siglip(_vision(data, ("siglip_vision_model",), problems), layout.width)
    return _seen(layout, {"vision tower and projector": extra}, problems)


def read_qwen35(data: Mapping[str, Any]) -> Seen:
    """A config of model_type ``qwen3_5``.

    Raises:
        ConfigError: As for its text model.
    """
    layout, text = _text(data, Qwen35(), tied=False)
    problems: list[str] = []
    extras = {"vision tower": _qwen_tower(_vision(data, ("qwen3_5", "qwen3_5_vision"), problems))}
    if text.get("mtp_num_hidden_layers"):
        extras["multi-token head"] = _qwen_multi_token(Keys(text, where="text_config.", problems=problems), layout)
    return _seen(layout, extras, problems)


def _seen(layout: Layout, extras: Mapping[str, int], problems: list[str]) -> Seen:
    if not problems:
        return Seen(layout=layout, extra_params=extras)
    return Seen(
        layout=layout, extra_params={}, not_counted=f"Not counted: {', '.join(extras)} ({joined(problems)})."
    )  # fmt: skip


def _text(data: Mapping[str, Any], family: Gemma3 | Qwen35, *, tied: bool) -> tuple[Layout, Mapping[str, Any]]:
    """The text model. The head of a model that sees is tied by the outer config, not by the inner one."""
    outer = Keys(data)
    outer.ignore("vision_config", *_VISION_ONLY)
    text = outer.raw("text_config", {})
    if not isinstance(text, dict):
        raise ConfigError(f"text_config is {shown(text)}; it must be an object")
    tied = outer.flag("tie_word_embeddings", tied)
    outer.finish()
    inner = {**text, "tie_word_embeddings": text.get("tie_word_embeddings", tied)}
    inner_type = inner.pop("model_type", family.model_type)
    if inner_type != family.model_type:
        outer.problems.append(f"text_config.model_type is {shown(inner_type)}; supported: {family.model_type}")
    if inner["tie_word_embeddings"] != tied:
        outer.problems.append(
            f"text_config.tie_word_embeddings is {shown(inner['tie_word_embeddings'])}, but the outer "
            f"tie_word_embeddings, which transformers goes by, is {tied}"
        )
    if outer.problems:
        raise ConfigError(joined(outer.problems))
    return family.read(Keys(inner, where="text_config.")), text


def _vision(data: Mapping[str, Any], types: tuple[str, ...], problems: list[str]) -> Keys:
    found = data.get("vision_config") or {}
    if not isinstance(found, dict):
        problems.append(f"vision_config is {shown(found)}; it must be an object")
        found = {}
    keys = Keys(found, where="vision_config.", problems=problems)
    keys.only(types, "model_type")
    keys.ignore(*_DROPOUT)
    return keys


def _siglip(keys: Keys, width: int) -> int:
    """Patches, positions, layers of attention and network with biases, a norm, a pooling head, and the projector."""
    H, inner = keys.whole("hidden_size", 768), keys.whole("intermediate_size", 3072)
    depth, patch = keys.whole("num_hidden_layers", 12), keys.whole("patch_size", 16)
    positions = (keys.whole("image_size", 224) // patch) ** 2
    attention, network, norm = 4 * (H * H + H), 2 * H * inner + inner + H, 2 * H
    total = keys.whole("num_channels", 3) * patch * patch * H + H + positions * H
    total += depth * (attention + network + 2 * norm) + norm
    if keys.flag("vision_use_head", True):
        total += H + attention + norm + network
    keys.ignore("num_attention_heads")
    keys.finish()
    return total + H * width + H


def _qwen_tower(keys: Keys) -> int:
    """Patches over time, positions, blocks with biases, and a merger of neighbouring patches."""
    H, inner = keys.whole("hidden_size", 1152), keys.whole("intermediate_size", 4304)
    patch, frames = keys.whole("patch_size", 16), keys.whole("temporal_patch_size", 2)
    merged = H * keys.whole("spatial_merge_size", 2) ** 2
    total = keys.whole("in_channels", 3) * frames * patch * patch * H + H
    total += keys.whole("num_position_embeddings", 2304) * H
    block = 4 * H + (3 * H * H + 3 * H) + (H * H + H) + 2 * H * inner + inner + H
    total += keys.whole("depth", 27) * block
    total += 2 * H + merged * merged + merged + (merged + 1) * keys.whole("out_hidden_size", 3584)
    keys.ignore("num_heads", "rope_parameters")
    keys.only(([], None), "deepstack_visual_indexes")
    keys.finish()
    return total


def _qwen_multi_token(keys: Keys, layout: Layout) -> int:
    """A matrix from two vectors to one, three norms, and layers of full attention as in the model."""
    keys.only((False,), "mtp_use_dedicated_embeddings")
    full = next((layer for layer in layout.layers if layer.mixer.kind == "gqa"), None)
    if full is None or full.ffn is None:
        keys.problems.append("text_config has no layer of full attention that the multi-token head could repeat")
        return 0
    width = layout.width
    layer = full.mixer.params(width) + full.ffn.params(width) + 2 * width
    return 2 * width * width + 3 * width + keys.whole("mtp_num_hidden_layers", 1) * layer
