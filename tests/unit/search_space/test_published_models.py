"""The anchors' architectures against transformers' own models, at tiny sizes with shared random weights."""

import pytest
import torch

from search_space.blocks.gdn import GDN
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.conformance import relative_rms
from search_space.layout import Embedding, Layer, Layout
from search_space.model import LanguageModel

pytestmark = [pytest.mark.needs("transformers"), pytest.mark.filterwarnings("ignore")]  # its warnings are its own

WIDTH, VOCABULARY = 32, 50
TOLERANCE = 1e-6  # transformers computes rotary angles in float32


def layout(mixers, ffn, **fields):
    scaled = fields.pop("scaled", False)
    layers = tuple(Layer(mixer=mixer, ffn=ffn) for mixer in mixers)
    return Layout(width=WIDTH, embedding=Embedding(vocab_size=VOCABULARY, scaled=scaled), layers=layers, **fields)


def difference(theirs, ours, rename):
    """Relative difference of the last logits, both with the same weights."""
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    weights = {name: value.detach().double() for name, value in theirs.state_dict().items()}
    model = LanguageModel(ours).double().eval()
    model.load_state_dict(rename(weights))
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())
    tokens = torch.randint(0, VOCABULARY, (2, 13), generator=generator)
    with torch.no_grad():
        wanted = theirs.double().eval()(tokens).logits[:, -1:]
        return relative_rms(model(tokens)[0].numpy(), wanted.numpy())


def attention(weights, source, target, norms, *, out="o_proj", one_plus=0.0):
    """q, k and v as one matrix."""
    return {
        f"{target}.qkv.weight": torch.cat([weights[f"{source}.{name}_proj.weight"] for name in "qkv"]),
        f"{target}.out_proj.weight": weights[f"{source}.{out}.weight"],
        f"{target}.q_norm.weight": one_plus + weights[f"{source}.{norms[0]}.weight"],
        f"{target}.k_norm.weight": one_plus + weights[f"{source}.{norms[1]}.weight"],
    }


def network(weights, source, target, names):
    gate, up, down = (weights[f"{source}.{name}.weight"] for name in names)
    return {f"{target}.gate_up.weight": torch.cat([gate, up]), f"{target}.down.weight": down}


def test_lfm2():
    from transformers import Lfm2Config, Lfm2ForCausalLM

    config = Lfm2Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=96, block_auto_adjust_ff_dim=False,
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, conv_L_cache=3, norm_eps=1e-5,
        layer_types=["conv", "full_attention", "conv"], rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
    )  # fmt: skip

    def rename(weights):
        renamed = {
            "embedding.weight": weights["model.embed_tokens.weight"],
            "norm.weight": weights["model.embedding_norm.weight"],
        }
        for i in range(3):
            source, target = f"model.layers.{i}", f"layers.{i}"
            renamed[f"{target}.mixer_norm.weight"] = weights[f"{source}.operator_norm.weight"]
            renamed[f"{target}.ffn_norm.weight"] = weights[f"{source}.ffn_norm.weight"]
            renamed |= network(weights, f"{source}.feed_forward", f"{target}.ffn", ("w1", "w3", "w2"))
            if i == 1:
                norms = ("q_layernorm", "k_layernorm")
                renamed |= attention(weights, f"{source}.self_attn", f"{target}.mixer", norms, out="out_proj")
            else:
                for name in ("in_proj", "conv", "out_proj"):
                    renamed[f"{target}.mixer.{name}.weight"] = weights[f"{source}.conv.{name}.weight"]
        return renamed

    mixers = (ShortConv(kernel=3), GQA(heads=2, kv_heads=1, head_dim=16), ShortConv(kernel=3))
    assert difference(Lfm2ForCausalLM(config), layout(mixers, SwiGLU(hidden=96)), rename) < TOLERANCE


def test_gemma_3():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=5, query_pre_attn_scalar=16, attn_implementation="eager",
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        },
    )  # fmt: skip

    def rename(weights):
        # Gemma multiplies by one plus the norm's weight.
        renamed = {
            "embedding.weight": weights["model.embed_tokens.weight"],
            "norm.weight": 1 + weights["model.norm.weight"],
        }
        norms = {
            "mixer_norm": "input_layernorm", "mixer_post_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm", "ffn_post_norm": "post_feedforward_layernorm",
        }  # fmt: skip
        for i in range(3):
            source, target = f"model.layers.{i}", f"layers.{i}"
            for ours, theirs in norms.items():
                renamed[f"{target}.{ours}.weight"] = 1 + weights[f"{source}.{theirs}.weight"]
            renamed |= attention(weights, f"{source}.self_attn", f"{target}.mixer", ("q_norm", "k_norm"), one_plus=1)
            renamed |= network(weights, f"{source}.mlp", f"{target}.ffn", ("gate_proj", "up_proj", "down_proj"))
        return renamed

    sizes = {"heads": 2, "kv_heads": 1, "head_dim": 16, "qk_norm_eps": 1e-6}
    sliding, full = SWA(**sizes, window=5, rope_theta=1e4), GQA(**sizes, rope_theta=1e6)
    ffn = SwiGLU(hidden=64, activation="gelu_tanh")
    ours = layout((sliding, full, sliding), ffn, scaled=True, post_norm=True, norm_eps=1e-6)
    assert difference(Gemma3ForCausalLM(config), ours, rename) < TOLERANCE


def test_qwen_3_5():
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    config = Qwen3_5TextConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=64, layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
        linear_conv_kernel_dim=4, tie_word_embeddings=True, rms_norm_eps=1e-6,
        rope_parameters={"rope_theta": 1e7, "partial_rotary_factor": 0.25, "rope_type": "default"},
    )  # fmt: skip

    def rename(weights):
        renamed = {
            "embedding.weight": weights["model.embed_tokens.weight"],
            "norm.weight": 1 + weights["model.norm.weight"],
        }
        for i in range(2):
            source, target = f"model.layers.{i}", f"layers.{i}"
            renamed[f"{target}.mixer_norm.weight"] = 1 + weights[f"{source}.input_layernorm.weight"]
            renamed[f"{target}.ffn_norm.weight"] = 1 + weights[f"{source}.post_attention_layernorm.weight"]
            renamed |= network(weights, f"{source}.mlp", f"{target}.ffn", ("gate_proj", "up_proj", "down_proj"))
        source, target = "model.layers.0.linear_attn", "layers.0.mixer"
        renamed[f"{target}.in_proj.weight"] = torch.cat(
            [weights[f"{source}.in_proj_{name}.weight"] for name in ("qkv", "z", "b", "a")]
        )
        renamed[f"{target}.conv.weight"] = weights[f"{source}.conv1d.weight"]
        for name in ("dt_bias", "A_log", "norm.weight", "out_proj.weight"):
            renamed[f"{target}.{name}"] = weights[f"{source}.{name}"]
        # Their query projection holds, head after head, the query and its gate; ours keeps all gates last.
        source = "model.layers.1.self_attn"
        query, gate = weights[f"{source}.q_proj.weight"].view(2, 2, 64, WIDTH).unbind(1)
        regrouped = weights | {f"{source}.q_proj.weight": query.reshape(-1, WIDTH)}
        renamed |= attention(regrouped, source, "layers.1.mixer", ("q_norm", "k_norm"), one_plus=1)
        qkv = renamed["layers.1.mixer.qkv.weight"]
        renamed["layers.1.mixer.qkv.weight"] = torch.cat([qkv, gate.reshape(-1, WIDTH)])
        return renamed

    mixers = (
        GDN(key_heads=2, value_heads=4, key_dim=8, value_dim=8, kernel=4),
        GQA(heads=2, kv_heads=1, head_dim=64, rotary_fraction=0.25, rope_theta=1e7, output_gate=True, qk_norm_eps=1e-6),
    )
    ours = layout(mixers, SwiGLU(hidden=64), norm_eps=1e-6)
    assert difference(Qwen3_5ForCausalLM(config), ours, rename) < TOLERANCE
