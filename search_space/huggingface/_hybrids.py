"""LFM2, Gemma 3 and Qwen3.5: families whose layers differ."""

from __future__ import annotations

from typing import Any

from search_space.blocks._attention import Attention
from search_space.blocks.gdn import GDN
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
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
from search_space.huggingface._rope import FULL, SLIDING, context_of, read_rope, read_rope_by_type, write_rope
from search_space.layout import Layout

LINEAR, CONV = "linear_attention", "conv"


class Lfm2(Family):
    """LFM2 (Liquid AI 2025, arXiv:2511.23404): short convolutions, and attention in some layers."""

    model_type = "lfm2"
    architecture = "Lfm2ForCausalLM"
    mixers = ("short_conv", "gqa")
    names = TensorNames(
        final_norm="embedding_norm", mixer_norm="operator_norm", ffn_norm="ffn_norm", ffn="feed_forward",
        gate_up_down=("w1", "w3", "w2"), attention_out="out_proj", head_norms=("q_layernorm", "k_layernorm"),
    )  # fmt: skip

    def _read(self, keys: Keys) -> Layout:
        width, depth = keys.whole("hidden_size", 2560), keys.whole("num_hidden_layers", 32)
        heads, groups = keys.whole("num_attention_heads", 32), keys.whole("num_key_value_heads", 8)
        head_dim = keys.whole("head_dim", max(1, width // heads))
        eps = keys.number("norm_eps", 1e-5)
        keys.same(width, "hidden_size", "block_dim", "conv_dim", "conv_dim_out")
        keys.same(heads, "num_attention_heads", "num_heads")
        keys.same(eps, "norm_eps", "block_norm_eps")
        keys.only((False,), "conv_bias")
        keys.only((True,), "block_use_swiglu", "use_pos_enc")
        keys.ignore(
            "block_mlp_init_scale", "block_out_init_scale", "block_use_xavier_init", "conv_use_xavier_init",
        )  # fmt: skip
        indices = keys.raw("full_attn_idxs")
        places = indices if isinstance(indices, list) else range(depth)
        kinds = keys.kinds(
            "layer_types", depth, (FULL, CONV), [FULL if i in places else CONV for i in range(depth)]
        )  # fmt: skip
        if indices is not None:
            keys.same([i for i, kind in enumerate(kinds) if kind == FULL], "the list of layer_types", "full_attn_idxs")
        rope = read_rope(keys, 1e6)
        keys.same(rope.get("rope_theta"), "rope_theta", "theta")
        fields = {"heads": heads, "kv_heads": groups, "head_dim": head_dim, "qk_norm_eps": eps, **rope}
        conv, full = ShortConv(kernel=keys.whole("conv_L_cache", 3)), GQA(**fields)
        return self._assemble(
            [full if kind == FULL else conv for kind in kinds],
            SwiGLU(hidden=self._hidden(keys)),
            width=width,
            vocab=keys.whole("vocab_size", 65536),
            tied=keys.flag("tie_embedding", keys.flag("tie_word_embeddings", True)),
            eps=eps,
        )

    def _hidden(self, keys: Keys) -> int:
        """Two thirds of the published width, times a factor, rounded up to a multiple, unless that is turned off."""
        hidden = keys.whole("block_ff_dim", keys.whole("intermediate_size", 12288))
        multiple = keys.whole("block_multiple_of", 256)
        factor = keys.raw("block_ffn_dim_multiplier", 1.0)
        if not keys.flag("block_auto_adjust_ff_dim", True):
            return hidden
        hidden = int(2 * hidden / 3)
        if factor is None:
            return hidden
        hidden = int(keys.number("block_ffn_dim_multiplier", 1.0) * hidden)
        return multiple * ((hidden + multiple - 1) // multiple)

    def _write(self, layout: Layout, context: int) -> dict[str, Any]:
        spec = next(iter(attentions(layout)), None)
        conv = next((layer.mixer for layer in layout.layers if isinstance(layer.mixer, ShortConv)), ShortConv())
        rope = write_rope(rotating(layout), 1e6)
        config = {
            **sizes_of(layout, context_of(rope, context)),
            "block_auto_adjust_ff_dim": False,
            "num_attention_heads": spec.heads if spec else 1,
            "num_key_value_heads": spec.kv_heads if spec else 1,
            "norm_eps": layout.norm_eps,
            "conv_L_cache": conv.kernel,
            "conv_bias": False,
            "layer_types": [CONV if isinstance(layer.mixer, ShortConv) else FULL for layer in layout.layers],
            "rope_parameters": rope,
        }
        if spec and spec.head_dim != layout.width // spec.heads:
            config["head_dim"] = spec.head_dim
        return config


class Gemma3(Family):
    """Gemma 3 (Kamath et al. 2025, arXiv:2503.19786): windows, norms on both sides of each block."""

    model_type = "gemma3_text"
    architecture = "Gemma3ForCausalLM"
    mixers = ("gqa", "swa")
    post_norm = True
    names = TensorNames(
        mixer_post_norm="post_attention_layernorm", ffn_norm="pre_feedforward_layernorm",
        ffn_post_norm="post_feedforward_layernorm", zero_centred=True,
        vision=("vision_tower.", "multi_modal_projector."),
    )  # fmt: skip

    def _read(self, keys: Keys) -> Layout:
        width, depth = keys.whole("hidden_size", 2304), keys.whole("num_hidden_layers", 26)
        heads, groups = keys.whole("num_attention_heads", 8), keys.whole("num_key_value_heads", 4)
        head_dim, eps = keys.whole("head_dim", 256), keys.number("rms_norm_eps", 1e-6)
        if width % heads:
            keys.wrong("num_attention_heads", f"transformers wants it to divide hidden_size {width}")
        keys.only(("gelu_pytorch_tanh",), "hidden_activation")
        keys.only((False, None), "attention_bias", "use_bidirectional_attention")
        keys.only((None,), "final_logit_softcapping", "attn_logit_softcapping")
        scalar = keys.number("query_pre_attn_scalar", 256)
        fields: dict[str, Any] = {"heads": heads, "kv_heads": groups, "head_dim": head_dim, "qk_norm_eps": eps}
        if scalar != head_dim:
            fields["scale"] = scalar**-0.5
        rope = read_rope_by_type(keys, full=1e6, sliding=1e4)
        # transformers reads the older name without the underscore only; with it, it repeats layer_types.
        pattern = keys.whole("sliding_window_pattern", 6, or_null=True)
        keys.ignore("_sliding_window_pattern")
        default = [SLIDING if (i + 1) % pattern else FULL for i in range(depth)]
        kinds = keys.kinds("layer_types", depth, (FULL, SLIDING), default)
        window = keys.whole("sliding_window", 4096) if SLIDING in kinds else keys.raw("sliding_window")
        by_kind: dict[str, Attention] = {
            kind: attention_of(window if kind == SLIDING else None, {**fields, **rope[kind]}) for kind in set(kinds)
        }
        return self._assemble(
            [by_kind[kind] for kind in kinds],
            SwiGLU(hidden=keys.whole("intermediate_size", 9216), activation="gelu_tanh"),
            width=width,
            vocab=keys.whole("vocab_size", 262_208),
            tied=keys.flag("tie_word_embeddings", True),
            eps=eps,
            scaled=True,
        )

    def _write(self, layout: Layout, context: int) -> dict[str, Any]:
        spec = attentions(layout)[0]
        full = next((s for s in attentions(layout) if isinstance(s, GQA)), None)
        sliding = next((s for s in attentions(layout) if isinstance(s, SWA)), None)
        rope = {FULL: write_rope(full, 1e6), SLIDING: write_rope(sliding, 1e4)}
        return {
            **sizes_of(layout, max(context_of(part, context) for part in rope.values())),
            "num_attention_heads": spec.heads,
            "num_key_value_heads": spec.kv_heads,
            "head_dim": spec.head_dim,
            # a whole number in the config; what is none is told when it is read back
            "query_pre_attn_scalar": spec.head_dim if spec.scale is None else round(spec.scale**-2),
            "rms_norm_eps": layout.norm_eps,
            "sliding_window": window_of(layout) or 4096,
            "layer_types": [SLIDING if isinstance(layer.mixer, SWA) else FULL for layer in layout.layers],
            "rope_parameters": rope,
        }


class Qwen35(Family):
    """Qwen3.5: Gated DeltaNet, and attention with an output gate in some layers."""

    model_type = "qwen3_5_text"
    architecture = "Qwen3_5ForCausalLM"
    mixers = ("gdn", "gqa")
    names = TensorNames(zero_centred=True, vision=("visual.", "mtp."))

    def _read(self, keys: Keys) -> Layout:
        width, depth = keys.whole("hidden_size", 4096), keys.whole("num_hidden_layers", 32)
        eps = keys.number("rms_norm_eps", 1e-6)
        keys.only(("silu",), "hidden_act")
        keys.only((False,), "attention_bias")
        keys.only((True,), "attn_output_gate")
        keys.only(([], None), "mlp_only_layers")
        # the multi-token head is no part of the language model; the type of the recurrence is the device's matter
        keys.ignore("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mamba_ssm_dtype")
        full = GQA(
            heads=keys.whole("num_attention_heads", 16),
            kv_heads=keys.whole("num_key_value_heads", 4),
            head_dim=keys.whole("head_dim", 256),
            qk_norm_eps=eps,
            output_gate=True,
            **read_rope(keys, 1e4, fraction=0.25, ignored=frozenset({"mrope_section", "mrope_interleaved"})),
        )
        linear = GDN(
            key_heads=keys.whole("linear_num_key_heads", 16),
            value_heads=keys.whole("linear_num_value_heads", 32),
            key_dim=keys.whole("linear_key_head_dim", 128),
            value_dim=keys.whole("linear_value_head_dim", 128),
            kernel=keys.whole("linear_conv_kernel_dim", 4),
            norm_eps=eps,
        )
        interval = keys.whole("full_attention_interval", 4)
        default = [LINEAR if (i + 1) % interval else FULL for i in range(depth)]
        kinds = keys.kinds("layer_types", depth, (LINEAR, FULL), default)
        return self._assemble(
            [full if kind == FULL else linear for kind in kinds],
            SwiGLU(hidden=keys.whole("intermediate_size", 12288)),
            width=width,
            vocab=keys.whole("vocab_size", 248_320),
            tied=keys.flag("tie_word_embeddings", False),
            eps=eps,
        )

    def _write(self, layout: Layout, context: int) -> dict[str, Any]:
        spec = next(iter(attentions(layout)), None)
        gdn = next((layer.mixer for layer in layout.layers if isinstance(layer.mixer, GDN)), None)
        rope = write_rope(rotating(layout), 1e4)
        rope["partial_rotary_factor"] = spec.rotary_fraction if spec else 0.25
        config = {
            **sizes_of(layout, context_of(rope, context)),
            "rms_norm_eps": layout.norm_eps,
            "layer_types": [LINEAR if isinstance(layer.mixer, GDN) else FULL for layer in layout.layers],
            "rope_parameters": rope,
        }
        if spec:
            config |= {
                "num_attention_heads": spec.heads, "num_key_value_heads": spec.kv_heads, "head_dim": spec.head_dim,
            }  # fmt: skip
        if gdn:
            config |= {
                "linear_num_key_heads": gdn.key_heads, "linear_num_value_heads": gdn.value_heads,
                "linear_key_head_dim": gdn.key_dim, "linear_value_head_dim": gdn.value_dim,
                "linear_conv_kernel_dim": gdn.kernel,
            }  # fmt: skip
        return config
