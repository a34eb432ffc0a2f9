"""The anchors are the published models, to the parameter."""

import pytest

from search_space.anchors import anchor, anchor_names
from search_space.cost import parameters
from search_space.errors import NotationError

LFM2 = "CCGCCGCCGCGCGCGC"

PUBLISHED = {
    "lfm2.5-350m": (16, 1024, LFM2, 65_536, 354_483_968, 18.93),
    "lfm2-1.2b": (16, 2048, LFM2, 65_536, 1_170_340_608, 11.47),
    "gemma-3-270m": (18, 640, "WWWWWG" * 3, 262_144, 268_098_176, 62.58),
    "qwen3.5-0.8b": (24, 1024, "DDDG" * 6, 248_320, 752_393_024, 33.80),
}


def test_the_anchors_that_ship_are_known_here():
    assert set(anchor_names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    layers, width, code, vocabulary, total, share = PUBLISHED[name]
    named = anchor(name)
    counts = parameters(named.layout)
    assert named.name == name
    assert (len(named.layout.layers), named.layout.width, named.layout.code) == (layers, width, code)
    assert (named.layout.embedding.vocab_size, named.layout.embedding.tied) == (vocabulary, True)
    assert counts.total == total
    assert counts.embedding == vocabulary * width
    assert counts.head == 0
    assert round(100 * counts.embedding_share, 2) == share


def test_qwen_counts_its_other_tensors_apart():
    named = anchor("qwen3.5-0.8b")
    everything = parameters(named.layout).total + sum(named.extra_params.values())
    assert everything == 873_438_784
    assert round(100 * parameters(named.layout).vocabulary / everything, 2) == 29.11


def test_published_dimensions():
    lfm2, gemma, qwen = (anchor(name).layout for name in ("lfm2.5-350m", "gemma-3-270m", "qwen3.5-0.8b"))
    assert {layer.ffn.hidden for layer in lfm2.layers} == {4608}
    attention = lfm2.layers[2].mixer
    assert (attention.heads, attention.kv_heads, attention.head_dim, attention.rope_theta) == (16, 8, 64, 1e6)
    assert attention.qk_norm
    assert lfm2.layers[0].mixer.kernel == 3

    sliding, full = gemma.layers[0].mixer, gemma.layers[5].mixer
    assert (sliding.heads, sliding.kv_heads, sliding.head_dim, sliding.window) == (4, 1, 256, 512)
    assert (sliding.rope_theta, full.rope_theta) == (1e4, 1e6)
    assert gemma.post_norm
    assert gemma.embedding.scaled
    assert {(layer.ffn.hidden, layer.ffn.activation) for layer in gemma.layers} == {(2048, "gelu_tanh")}

    full, delta = qwen.layers[3].mixer, qwen.layers[0].mixer
    assert (full.heads, full.kv_heads, full.head_dim, full.rotary_dim) == (8, 2, 256, 64)
    assert full.output_gate
    assert (delta.key_heads, delta.value_heads, delta.key_dim, delta.value_dim, delta.kernel) == (16, 16, 128, 128, 4)
    assert {layer.ffn.hidden for layer in qwen.layers} == {3584}


def test_an_unknown_anchor_is_told_the_known_ones():
    with pytest.raises(NotationError, match=r"no anchor is called 'lfm3'; there are gemma-3-270m, .*qwen3\.5-0\.8b"):
        anchor("lfm3")
