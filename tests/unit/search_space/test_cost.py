"""Costs on paper against independent sums."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space import cost
from search_space.anchors import anchor
from search_space.graph.precision import PRECISIONS, QUANTIZATION
from search_space.layout import Embedding, Layer
from tests.unit.search_space.small_layouts import FFN, HYBRIDS, MIXERS, layout


def test_vocabulary_is_embedding_and_head():
    for name, hybrid in HYBRIDS.items():
        counts = cost.parameters(hybrid)
        assert counts.vocabulary == counts.embedding + counts.head, name
        assert counts.effective == counts.mixers + counts.ffn + counts.norms
        assert counts.total == counts.vocabulary + counts.effective
        assert counts.embedding_share == counts.vocabulary / counts.total


@pytest.mark.parametrize(
    ("embedding", "input_side", "head"),
    [
        (Embedding(vocab_size=1000), 1000 * 64, 0),
        (Embedding(vocab_size=1000, tied=False), 1000 * 64, 1000 * 64),
        (Embedding(vocab_size=1000, rank=16), 1000 * 16 + 16 * 64, 16 * 64),
        (Embedding(vocab_size=1000, rank=16, tied=False), 1000 * 16 + 16 * 64, 1000 * 16 + 16 * 64),
    ],
    ids=str,
)
def test_tables_and_projections(embedding, input_side, head):
    assert (embedding.input_params(64), embedding.head_params(64)) == (input_side, head)


def test_norms_are_one_per_block_and_the_last():
    # C, W, L, D with network: two each; G without: one; N: the network's only
    assert cost.parameters(layout()).norms == 33 * (4 * 2 + 1 + 1 + 1)
    assert cost.parameters(layout(post_norm=True)).norms == 33 * (2 * (4 * 2 + 1 + 1) + 1)


def quantised(precision, outputs, inputs):
    """Bytes of a matrix: whole blocks of 32 inputs, each with a float32 scale."""
    if precision == "fp32":
        return 4 * outputs * inputs
    blocks = -(-inputs // 32)
    return outputs * blocks * (32 * {"int8": 8, "int4": 4}[precision] // 8 + 4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weight_bytes_are_the_sum_over_tensors(precision):
    hybrid = layout(rank=17, tied=False)
    width, rank, vocabulary = 33, 17, 101
    ffn = quantised(precision, 2 * 65, width) + quantised(precision, width, 65)
    matrices = {
        "embedding": 2 * quantised(precision, vocabulary, rank),
        "projections": quantised(precision, width, rank) + quantised(precision, rank, width),
        "C": quantised(precision, 3 * width, width) + quantised(precision, width, width),
        "W": quantised(precision, 2 * 16 + 2 * 16, width) + quantised(precision, width, 32),
        "G": quantised(precision, 3 * 32, width) + quantised(precision, width, 32),
        "L": quantised(precision, 2 * 2 * (8 + 9), width)
        + quantised(precision, 3, width)
        + quantised(precision, 16, 3)
        + quantised(precision, width, 18),
        "D": quantised(precision, 2 * 8 + 16 + 16 + 4, width) + quantised(precision, width, 16),
        "ffn": 5 * ffn,
    }
    plain = {
        "norms": cost.parameters(hybrid).norms,
        "taps": 3 * width + 4 * 32,
        "qk norms": 2 * 2 * 16,
        "GLA: bias and norm": 16 + 9,
        "GDN: decay, bias and norm": 2 + 2 + 8,
    }
    assert cost.weight_bytes(hybrid, precision) == sum(matrices.values()) + 4 * sum(plain.values())


def test_float32_weights_are_four_bytes_a_parameter():
    for hybrid in HYBRIDS.values():
        assert cost.weight_bytes(hybrid, "fp32") == 4 * cost.parameters(hybrid).total
    assert cost.all_weight_bytes(layout()) == {p: cost.weight_bytes(layout(), p) for p in PRECISIONS}


def test_lfm2_int4_takes_the_bytes_of_five_bits():
    # int4 with a float32 scale for 32 inputs: 20 bytes for 32 values, no padding at these widths
    lfm2 = anchor("lfm2.5-350m").layout
    counts = cost.parameters(lfm2)
    plain = counts.norms + 10 * 3 * 1024 + 6 * 2 * 64
    assert cost.weight_bytes(lfm2, "int4") == (counts.total - plain) * 20 // 32 + 4 * plain


@given(outputs=st.integers(1, 300), inputs=st.integers(1, 300), precision=st.sampled_from(("int8", "int4")))
def test_packed_values_and_scales_of_a_matrix(outputs, inputs, precision):
    quantization = QUANTIZATION[precision]
    blocks = quantization.blocks(inputs)
    packed, scales = prod(quantization.packed_shape(outputs, inputs)), outputs * blocks
    assert packed + 4 * scales == quantised(precision, outputs, inputs)
    assert quantization.zero_point == 2 ** (quantization.bits - 1)
    assert blocks * 32 >= inputs > (blocks - 1) * 32


@pytest.mark.parametrize("context", [1, 6, 7, 1024, 32768])
def test_state_bytes_by_hand(context):
    hybrid = layout()
    fixed = 2 * 33 + 2 * 8 * 9 + 3 * 32 + 2 * 8 * 8  # C, L, D's convolution, D's state
    window = min(context, 5 + 1)  # W keeps its window and one row of slack
    floats = fixed + 2 * 16 * window + 2 * 2 * 16 * context
    for batch in (1, 3):
        assert cost.state_bytes(hybrid, context=context, batch=batch) == 4 * batch * floats
        assert cost.state_bytes(hybrid, context=context, batch=batch, dtype="float16") == 2 * batch * floats


def test_state_of_lfm2_is_what_is_known():
    lfm2 = anchor("lfm2.5-350m").layout
    assert cost.state_bytes(lfm2, context=4096) == 4 * (6 * 2 * 8 * 64 * 4096 + 10 * 2 * 1024)


@given(tokens=st.integers(1, 50), name=st.sampled_from(sorted(HYBRIDS)))
def test_prefill_costs_its_steps_without_their_heads(tokens, name):
    hybrid = HYBRIDS[name]
    head = 2 * (hybrid.embedding.rank or hybrid.width) * 101
    if hybrid.embedding.rank is not None:
        head += 2 * hybrid.embedding.rank * hybrid.width
    steps = sum(cost.flops(hybrid, tokens=1, context=context) for context in range(1, tokens + 1))
    assert cost.flops(hybrid, tokens=tokens, context=tokens) == steps - (tokens - 1) * head


def test_flops_of_one_token_are_near_two_per_weight():
    lfm2 = anchor("lfm2.5-350m").layout
    counts = cost.parameters(lfm2)
    assert cost.flops(lfm2, tokens=1, context=1) == pytest.approx(2 * counts.total, rel=1e-3)


def test_layers_cost_what_their_blocks_cost():
    layer = Layer(mixer=MIXERS["G"], ffn=FFN)
    once, twice = layout("G", bare=()), layout("GG", bare=())
    assert once.layers[0] == layer
    difference = cost.flops(twice, tokens=3, context=9) - cost.flops(once, tokens=3, context=9)
    assert difference == layer.mixer.flops(33, tokens=3, context=9) + FFN.flops(33, tokens=3, context=9)
