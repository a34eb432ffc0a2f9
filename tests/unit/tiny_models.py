"""transformers' own models at tiny sizes with random weights: one or more of every family that is read here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VOCABULARY, WIDTH, WINDOW = 50, 32, 7
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_attention_heads": 2,
    "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    "max_position_embeddings": 256,
}  # fmt: skip
_LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
_GEMMA = _COMMON | {
    "num_hidden_layers": 3, "head_dim": 16, "sliding_window": WINDOW, "query_pre_attn_scalar": 24,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0},
    },
}  # fmt: skip
_QWEN_35 = _COMMON | {
    "num_hidden_layers": 3, "head_dim": 64, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_key_head_dim": 8,
    "linear_value_head_dim": 12, "linear_conv_kernel_dim": 4, "tie_word_embeddings": True,
    "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25, "rope_type": "default"},
}  # fmt: skip

TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "lfm2": ("Lfm2", _COMMON | {
        "num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"], "conv_L_cache": 3,
        "block_multiple_of": 8, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
    }),
    "gemma3": ("Gemma3", _GEMMA),
    "qwen3.5": ("Qwen3_5", _QWEN_35),
    "qwen3": ("Qwen3", _COMMON | {"num_hidden_layers": 2, "head_dim": 16}),
    "qwen3 with windows": ("Qwen3", _COMMON | {
        "num_hidden_layers": 3, "head_dim": 32, "use_sliding_window": True, "sliding_window": WINDOW,
        "max_window_layers": 1,
    }),
    "llama": ("Llama", _COMMON | {"num_hidden_layers": 2, "rope_parameters": _LLAMA_3}),
    "llama, tied": ("Llama", _COMMON | {"num_hidden_layers": 2, "head_dim": 32, "tie_word_embeddings": True}),
    "smollm3": ("SmolLM3", _COMMON | {"num_hidden_layers": 5}),
    "smollm3 with windows": ("SmolLM3", _COMMON | {
        "num_hidden_layers": 4, "no_rope_layers": [1, 0, 0, 1], "use_sliding_window": True, "sliding_window": WINDOW,
    }),
}  # fmt: skip


def _filled(model: Any, lively: bool) -> Any:
    """Random parameters: every part of the model shows in its logits.

    A lively model does not just repeat one token, and rounding grows in it; a calm one may, and it grows less.
    """
    import torch

    table, matrix = (0.05, 0.25) if lively else (0.2, 0.2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.add_(0.2 * noise)  # around one, or around zero where one is added
            else:
                parameter.copy_((table if "embed_tokens" in name else matrix) * noise)
    model.tie_weights()
    return model.eval()


def text_model(name: str, *, lively: bool = False) -> Any:
    """The language model of this name."""
    import transformers

    family, options = TEXT[name]
    text = "Text" if family in ("Gemma3", "Qwen3_5") else ""
    config = getattr(transformers, f"{family}{text}Config")(**options)
    return _filled(getattr(transformers, f"{family}ForCausalLM")(config), lively)


def gemma3_that_sees(*, lively: bool = False) -> Any:
    """Gemma 3 with a tower."""
    import transformers

    vision = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8, "vision_use_head": False}  # fmt: skip
    config = transformers.Gemma3Config(text_config=_GEMMA, vision_config=vision, mm_tokens_per_image=4)
    return _filled(transformers.Gemma3ForConditionalGeneration(config), lively)


def qwen35_that_sees(*, lively: bool = False) -> Any:
    """Qwen3.5 with a tower."""
    import transformers

    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": WIDTH,
              "num_position_embeddings": 16}  # fmt: skip
    config = transformers.Qwen3_5Config(text_config=_QWEN_35, vision_config=vision, tie_word_embeddings=True)
    return _filled(transformers.Qwen3_5ForConditionalGeneration(config), lively)


SEEING: dict[str, Callable[..., Any]] = {"gemma3 that sees": gemma3_that_sees, "qwen3.5 that sees": qwen35_that_sees}


def tiny_model(name: str, *, lively: bool = False) -> Any:
    """A model of `TEXT` or `SEEING`."""
    return SEEING[name](lively=lively) if name in SEEING else text_model(name, lively=lively)
