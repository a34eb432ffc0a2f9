"""config.json in and out: published models, every option that is refused, and round trips of random layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_space.anchors import anchor
from search_space.blocks.gdn import GDN
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.cost import parameters
from search_space.errors import ConfigError
from search_space.huggingface import families, parse_config, read_config, write_config
from search_space.layout import Embedding, Layer, Layout
from tests.unit.search_space import published_configs as published
from tests.unit.search_space.small_layouts import HYBRIDS

QUIET = pytest.mark.filterwarnings("ignore")  # transformers' warnings are its own


def theirs(config: dict[str, Any]) -> Any:
    """The transformers model of a config, without memory for its weights."""
    import torch
    import transformers

    kind = {**config}.pop("model_type")
    made = transformers.AutoConfig.for_model(**json.loads(json.dumps(config)))
    seeing = {"gemma3": "Gemma3ForConditionalGeneration", "qwen3_5": "Qwen3_5ForConditionalGeneration"}
    name = seeing.get(kind) or families()[kind].architecture
    with torch.device("meta"):
        model = getattr(transformers, name)(made)
    model.tie_weights()
    return model


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# published models


@pytest.mark.parametrize("name", published.CONFIGS)
def test_published_models_have_their_parameters(name: str) -> None:
    config, total = published.CONFIGS[name]
    assert parameters(parse_config(config).named.layout).total == total


@QUIET
@pytest.mark.needs("transformers")
@pytest.mark.parametrize("name", published.CONFIGS)
def test_the_count_is_that_of_the_transformers_class(name: str) -> None:
    config, _ = published.CONFIGS[name]
    named = parse_config(config).named
    extra = {kind: n for kind, n in named.extra_params.items() if kind != "multi-token head"}  # it does not build that
    assert parameters(named.layout).total + sum(extra.values()) == count(theirs(config))
    assert parameters(named.layout).total == count(theirs(write_config(named.layout)))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (published.LFM2_350M, "lfm2.5-350m"),
        (published.LFM2_5_350M, "lfm2.5-350m"),
        (published.LFM2_1_2B, "lfm2-1.2b"),
        (published.GEMMA_3_270M, "gemma-3-270m"),
        (published.QWEN_3_5_0_8B, "qwen3.5-0.8b"),
    ],
)
def test_the_anchors_are_what_their_configs_say(config: dict[str, Any], name: str) -> None:
    named = parse_config(config).named
    assert named.layout == anchor(name).layout
    assert named.layout.layout_id == anchor(name).layout.layout_id
    assert sum(named.extra_params.values()) == sum(anchor(name).extra_params.values())


def test_details_of_published_models() -> None:
    llama = parse_config(published.LLAMA_3_2_1B).named.layout.layers[0].mixer
    assert isinstance(llama, GQA)
    assert (llama.rope_scaling, llama.rope_factor, llama.rope_original_context) == ("llama3", 32.0, 8192)
    assert not llama.qk_norm
    smol = parse_config(published.SMOLLM3_3B).named.layout
    assert [layer.mixer.rotary_dim for layer in smol.layers[:5]] == [128, 128, 128, 0, 128]
    gemma = parse_config(published.GEMMA_3_4B).named.layout
    assert (gemma.layers[5].mixer.rope_scaling, gemma.layers[5].mixer.rope_factor) == ("linear", 8.0)
    assert (gemma.layers[0].mixer.rope_scaling, gemma.layers[0].mixer.window) == ("none", 1024)


# spellings


def without(config: dict[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in names} | changes


SAME = {
    "newer rope": (
        published.LLAMA_3_2_1B,
        without(published.LLAMA_3_2_1B, "rope_scaling", "rope_theta", rope_parameters={
            **published.LLAMA_3_2_1B["rope_scaling"], "rope_theta": 500000}),
    ),
    "rope type by its old name": (
        published.GEMMA_3_4B,
        without(published.GEMMA_3_4B, text_config=published.GEMMA_3_4B["text_config"] | {
            "rope_scaling": {"factor": 8, "type": "linear"}}),
    ),
    "Gemma's newer rope": (
        published.GEMMA_3_1B,
        without(published.GEMMA_3_1B, "rope_scaling", "rope_theta", "rope_local_base_freq", rope_parameters={
            "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 1e4}}),
    ),
    "Gemma's defaults": (
        published.GEMMA_3_1B,
        without(published.GEMMA_3_1B, "rope_scaling", "rope_theta", "rope_local_base_freq", "head_dim",
                "hidden_activation", "query_pre_attn_scalar", "rms_norm_eps", "sliding_window_pattern"),
    ),
    "a factor of one": (
        published.QWEN_3_0_6B,
        published.QWEN_3_0_6B | {"rope_scaling": {"rope_type": "linear", "factor": 1.0}},
    ),
    "Qwen's defaults": (
        published.QWEN_3_0_6B,
        without(published.QWEN_3_0_6B, "head_dim", "rope_scaling", "sliding_window", "use_sliding_window"),
    ),
    "no_rope_layers from their interval": (
        published.SMOLLM3_3B, without(published.SMOLLM3_3B, "no_rope_layers", "layer_types"),
    ),
    "the text model alone": (
        published.QWEN_3_5_0_8B, published.QWEN_3_5_0_8B["text_config"],
    ),
    "layers from their interval": (
        published.QWEN_3_5_0_8B, without(published.QWEN_3_5_0_8B["text_config"], "layer_types"),
    ),
    "partial rotation beside": (
        published.QWEN_3_5_0_8B,
        without(published.QWEN_3_5_0_8B["text_config"], rope_parameters={"rope_theta": 1e7, "rope_type": "default"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_spellings_of_one_model_are_one_layout(name: str) -> None:
    first, second = (parse_config(config).named.layout for config in SAME[name])
    assert first == second


def test_the_width_rule_of_lfm2() -> None:
    def hidden(**changes: Any) -> int:
        ffn = parse_config(published.LFM2_5_350M | changes).named.layout.layers[0].ffn
        assert ffn is not None
        return ffn.hidden

    assert hidden() == 4608
    assert hidden(block_auto_adjust_ff_dim=False) == 6656
    assert hidden(block_ffn_dim_multiplier=None) == 4437
    assert hidden(block_ffn_dim_multiplier=1.3, block_multiple_of=100) == 5800
    assert hidden(block_ff_dim=1200) == 1024  # the older name wins


# what is refused

REFUSED = [
    (published.LLAMA_3_2_1B, {"attention_bias": True}, "attention_bias is True; supported: false"),
    (published.LLAMA_3_2_1B, {"mlp_bias": True}, "mlp_bias is True; supported: false"),
    (published.LLAMA_3_2_1B, {"hidden_act": "relu"}, "hidden_act is 'relu'; supported: 'silu'"),
    (published.LLAMA_3_2_1B, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
     "rope_scaling.rope_type is 'yarn'; supported: default, linear, llama3"),
    (published.LLAMA_3_2_1B, {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_type is 'dynamic'; supported"),
    (published.LLAMA_3_2_1B, {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor is None"),
    (published.LLAMA_3_2_1B, {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; supported: 1"),
    (published.LLAMA_3_2_1B, {"num_local_experts": 8}, r"not understood, .*num_local_experts \(8\)"),
    (published.LLAMA_3_2_1B, {"sliding_window": 512}, r"not understood, .*sliding_window \(512\)"),
    (published.LLAMA_3_2_1B, {"num_attention_heads": 24}, "num_attention_heads is 24; .*divide hidden_size 2048"),
    (published.LLAMA_3_2_1B, {"hidden_size": 0}, "hidden_size is 0; it must be a positive whole number"),
    (published.LLAMA_3_2_1B, {"hidden_size": "2048"}, "hidden_size is '2048'; it must be a positive whole number"),
    (published.LLAMA_3_2_1B, {"head_dim": 40}, "head_dim is 40; the attention kernel needs a multiple of 16"),
    (published.LLAMA_3_2_1B, {"num_key_value_heads": 5}, "heads 32 is not a multiple of kv_heads 5"),
    (published.LLAMA_3_2_1B, {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'; it must be true or false"),
    (published.LLAMA_3_2_1B, {"quantization_config": {"bits": 4}}, "quantization_config is .*; supported: null"),
    (published.LLAMA_3_2_1B, {"is_encoder_decoder": True}, "is_encoder_decoder is True"),
    (published.LLAMA_3_2_1B, {"rope_parameters": {"rope_type": "default"}}, "leave one of them out"),
    (published.QWEN_3_0_6B, {"num_experts": 128}, r"num_experts \(128\)"),
    (published.QWEN_3_0_6B, {"layer_types": ["sliding_attention"] * 28}, "use_sliding_window is false"),
    (published.QWEN_3_0_6B, {"layer_types": ["chunked_attention"] * 28}, "layer_types has 'chunked_attention'"),
    (published.QWEN_3_0_6B, {"layer_types": ["full_attention"] * 3}, "one entry for each of 28 layers"),
    (published.SMOLLM3_3B, {"no_rope_layers": [1, 2]}, "no_rope_layers is"),
    (published.GEMMA_3_1B, {"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0; supported: null"),
    (published.GEMMA_3_1B, {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    (published.GEMMA_3_1B, {"hidden_activation": "gelu"}, "hidden_activation is 'gelu'; supported"),
    (published.GEMMA_3_1B, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
     "one for sliding_attention|an object for full_attention"),
    (published.GEMMA_3_1B, {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "'longrope'; supported"),
    (published.LFM2_350M, {"conv_bias": True}, "conv_bias is True; supported: false"),
    (published.LFM2_350M, {"conv_dim": 512}, "conv_dim is 512; hidden_size is 1024, which transformers builds"),
    (published.LFM2_350M, {"theta": 1e4}, "theta is 10000.0; rope_theta is 1000000.0"),
    (published.LFM2_5_350M, {"full_attn_idxs": [1]}, r"full_attn_idxs is \[1\]; the list of layer_types is"),
    (published.LFM2_350M, {"num_dense_layers": 2}, r"num_dense_layers \(2\)"),
    (published.QWEN_3_5_0_8B["text_config"], {"attn_output_gate": False}, "attn_output_gate is False; supported: true"),
    (published.QWEN_3_5_0_8B["text_config"], {"mlp_only_layers": [1]}, "mlp_only_layers is"),
    (published.QWEN_3_5_0_8B["text_config"], {"linear_num_value_heads": 7}, "value_heads 7 is not a multiple"),
    (published.QWEN_3_5_0_8B, {"tie_word_embeddings": False}, "which transformers goes by, is False"),
    (published.QWEN_3_5_0_8B, {"audio_config": {}}, "audio_config"),
    (published.QWEN_3_5_0_8B, {"text_config": {"model_type": "qwen3_5_moe_text"}}, "qwen3_5_moe_text"),
    (published.LLAMA_3_2_1B, {"model_type": "mistral"}, "model_type is 'mistral'; known are gemma3, gemma3_text, "),
]  # fmt: skip


@pytest.mark.parametrize(("config", "changes", "message"), REFUSED, ids=[str(r[1])[:60] for r in REFUSED])
def test_what_cannot_be_expressed_is_refused_by_name(config, changes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(config | changes)


def test_mistakes_are_told_together_and_known_types_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(published.LLAMA_3_2_1B | {"attention_bias": True, "num_experts": 2})
    assert "attention_bias" in str(caught.value)
    assert "num_experts" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_config({"model_type": "mamba2"})
    for kind in (*families(), "gemma3", "qwen3_5"):
        assert kind in str(caught.value)
    for nothing in ([], {}, {"model_type": 3}):
        with pytest.raises(ConfigError):
            parse_config(nothing)


def test_a_tower_that_is_not_understood_is_left_out_and_said() -> None:
    strange = published.GEMMA_3_4B | {"vision_config": published.GEMMA_3_4B["vision_config"] | {"registers": 4}}
    named = parse_config(strange).named
    assert named.extra_params == {}
    assert "Not counted: vision tower and projector" in named.notes
    assert "vision_config.registers (4)" in named.notes
    assert named.layout == parse_config(published.GEMMA_3_4B).named.layout


def test_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "SmolLM3-3B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(published.SMOLLM3_3B))
    assert read_config(folder).named.name == "SmolLM3-3B"
    assert read_config(folder / "config.json").named.layout == read_config(folder).named.layout
    (folder / "config.json").write_text('{"model_type": "llama", "mlp_bias": true}')
    with pytest.raises(ConfigError, match=r"SmolLM3-3B/config.json: mlp_bias is True"):
        read_config(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not a JSON file"):
        read_config(folder)
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path)


# writing

FFN = st.builds(SwiGLU, hidden=st.integers(1, 70))


@st.composite
def expressible(draw: Any) -> Layout:
    """Layouts that a family can express: random sizes, layers in any order."""
    kind = draw(st.sampled_from(sorted(families())))
    heads, groups = draw(st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]))
    width = heads * draw(st.integers(1, 12))  # Llama and Gemma 3 want heads to divide it
    eps = draw(st.sampled_from([1e-6, 1e-5]))
    fields: dict[str, Any] = {"heads": heads, "kv_heads": groups, "head_dim": draw(st.sampled_from([16, 32, 64]))}
    fields["rope_theta"] = draw(st.sampled_from([1e4, 5e5, 1234567.25]))
    if kind not in ("llama", "smollm3"):
        fields["qk_norm_eps"] = eps
    else:
        fields["qk_norm"] = False
    scaled: dict[str, Any] = draw(st.sampled_from([
        {}, {"rope_scaling": "linear", "rope_factor": 8.0},
        {"rope_scaling": "llama3", "rope_factor": 2.5, "rope_low_freq_factor": 1.5, "rope_original_context": 100},
    ]))  # fmt: skip
    full, windowed = GQA(**fields, **scaled), SWA(**fields, **scaled, window=draw(st.integers(1, 20)))
    choices: list[Any] = [full, windowed]
    activation = "silu"
    if kind == "llama":
        choices = [full]
    elif kind == "smollm3":
        choices += [replace(full, rotary_fraction=0.0), replace(windowed, rotary_fraction=0.0)]
    elif kind == "gemma3_text":
        scale = draw(st.sampled_from([None, 24**-0.5]))
        choices = [replace(full, scale=scale), replace(windowed, scale=scale, rope_theta=77.0)]
        activation = "gelu_tanh"
    elif kind == "qwen3_5_text":
        gdn = GDN(key_heads=2, value_heads=draw(st.sampled_from([2, 6])), key_dim=3, value_dim=5, norm_eps=eps,
                  kernel=draw(st.integers(1, 5)))  # fmt: skip
        rotated = replace(full, head_dim=64, output_gate=True, rotary_fraction=draw(st.sampled_from([0.25, 0.5, 1.0])))
        choices = [gdn, rotated]
    elif kind == "lfm2":
        choices = [full, ShortConv(kernel=draw(st.integers(1, 5)))]
    mixers = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=6))
    if kind == "gemma3_text":  # unused halves of its rotation have nowhere to come from
        mixers += choices
    ffn = SwiGLU(hidden=draw(st.integers(1, 70)), activation=activation)
    return Layout(
        width=width,
        embedding=Embedding(vocab_size=draw(st.integers(1, 99)), tied=draw(st.booleans()), scaled=activation != "silu"),
        layers=tuple(Layer(mixer=mixer, ffn=ffn) for mixer in mixers),
        norm_eps=eps,
        post_norm=kind == "gemma3_text",
    )


@settings(max_examples=300)
@given(layout=expressible(), context=st.integers(1, 10_000))
def test_what_is_written_reads_back_as_the_same_layout(layout: Layout, context: int) -> None:
    config = json.loads(json.dumps(write_config(layout, context=context)))
    assert parse_config(config).named.layout == layout
    assert config["max_position_embeddings"] >= context


@QUIET
@pytest.mark.needs("transformers")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layout=expressible())
def test_transformers_takes_what_is_written(layout: Layout) -> None:
    assert count(theirs(write_config(layout))) == parameters(layout).total


@pytest.mark.parametrize("name", published.CONFIGS)
def test_published_models_survive_a_round_trip(name: str) -> None:
    layout = parse_config(published.CONFIGS[name][0]).named.layout
    assert parse_config(write_config(layout)).named.layout == layout


def test_what_no_family_has_is_named() -> None:
    with pytest.raises(ConfigError, match=r"none has factorised tables .*rank 17"):
        write_config(HYBRIDS["factorised"])
    with pytest.raises(ConfigError) as caught:
        write_config(HYBRIDS["tied"])
    for word in ("gla mixer (layer 3)", "none mixer (layer 5)", "layer without a feed-forward network (layer 2)"):
        assert word in str(caught.value)


def test_what_each_family_lacks_is_named() -> None:
    llama = parse_config(published.LLAMA_3_2_1B).named.layout
    odd = list(llama.layers)
    odd[3] = replace(odd[3], ffn=SwiGLU(hidden=8191))
    odd[7] = replace(odd[7], mixer=replace(odd[7].mixer, heads=64))
    with pytest.raises(ConfigError) as caught:
        write_config(replace(llama, layers=tuple(odd)))
    said = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in said[1:]] == list(families())
    assert "layer 3: ffn.hidden 8191 where a config says 8192" in said[1]
    assert "layer 7: mixer.heads 64 where a config says 32" in said[1]
    with pytest.raises(ConfigError, match=r"lfm2: layers 0, 1, 2, .*: mixer.qk_norm False where a config says True"):
        write_config(replace(llama, norm_eps=0.5, layers=tuple(odd)))
