"""Every block that ships passes the conformance suite, over chosen specs and over sizes nobody chose."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_space import conformance
from search_space.blocks import feed_forwards, mixers
from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.conformance import BlockConformance, Case
from search_space.graph.precision import PRECISIONS


class TestShortConv(BlockConformance):
    specs = tuple(ShortConv(kernel=kernel) for kernel in (1, 2, 3, 4))


class TestGQA(BlockConformance):
    specs = (
        GQA(heads=4, kv_heads=2, head_dim=16),
        GQA(heads=3, kv_heads=1, head_dim=32, qk_norm=False),
        GQA(heads=2, kv_heads=2, head_dim=16, output_gate=True),
        GQA(heads=2, kv_heads=1, head_dim=64, rotary_fraction=0.25, qk_norm=False, output_gate=True, scale=0.2),
        GQA(heads=2, kv_heads=1, head_dim=16, rotary_fraction=0.0),
        GQA(heads=2, kv_heads=1, head_dim=16, rotary_fraction=0.0, qk_norm=False),
        GQA(heads=2, kv_heads=1, head_dim=32, rope_theta=1e4, rope_scaling="linear", rope_factor=8.0),
        GQA(
            heads=2,
            kv_heads=1,
            head_dim=32,
            rope_theta=10.0,
            rope_original_context=24,
            rope_factor=4.0,
            rope_scaling="llama3",
        ),
    )


class TestSWA(BlockConformance):
    # 19 tokens: a cache (window + 1/8) that slides early, late, and one longer than the sequence.
    specs = (
        SWA(heads=4, kv_heads=2, head_dim=16, window=1),
        SWA(heads=2, kv_heads=1, head_dim=16, window=5, qk_norm=False),
        SWA(heads=2, kv_heads=2, head_dim=16, window=17, output_gate=True),
        SWA(heads=2, kv_heads=1, head_dim=32, window=100, rotary_fraction=0.5),
        SWA(heads=2, kv_heads=1, head_dim=16, window=3, rotary_fraction=0.0, qk_norm=False),
        SWA(heads=2, kv_heads=1, head_dim=16, window=5, rope_scaling="linear", rope_factor=2.5),
    )


class TestGQAInBlocks(BlockConformance):
    # Blocks of queries hold up to 64: three, with padding, and a second call that begins inside a block.
    specs = (GQA(heads=4, kv_heads=2, head_dim=16), GQA(heads=1, kv_heads=1, head_dim=16, qk_norm=False))
    widths = (32,)
    tokens = 139
    prefill = 70


class TestSWAInBands(BlockConformance):
    # Windows shorter than the smallest block, of a block's length, and longer; sliding caches at every fill.
    specs = (
        SWA(heads=2, kv_heads=1, head_dim=16, window=1),
        SWA(heads=4, kv_heads=2, head_dim=16, window=33, qk_norm=False),
        SWA(heads=2, kv_heads=2, head_dim=16, window=64, output_gate=True),
        SWA(heads=2, kv_heads=1, head_dim=16, window=90),
    )
    widths = (32,)
    tokens = 131
    prefill = 109


class TestGLA(BlockConformance):
    specs = (GLA(heads=3, key_dim=8, value_dim=17), GLA(heads=1, key_dim=33, value_dim=16, decay_rank=5))


class TestGDN(BlockConformance):
    specs = (
        GDN(key_heads=2, value_heads=2, key_dim=16, value_dim=24),
        GDN(key_heads=1, value_heads=3, key_dim=9, value_dim=16, kernel=2),
        GDN(key_heads=2, value_heads=4, key_dim=8, value_dim=8, kernel=1),
    )


class TestSwiGLU(BlockConformance):
    specs = (SwiGLU(hidden=65), SwiGLU(hidden=48, activation="gelu_tanh"))


def test_every_block_that_ships_is_covered():
    suites = (TestShortConv, TestGQA, TestSWA, TestGLA, TestGDN, TestSwiGLU)
    covered = {spec.kind for suite in suites for spec in suite.specs}
    assert covered == {*mixers(), *feed_forwards()} - {"none"}


# -- the same checks over sizes nobody chose ---------------------------------------------------------------------------

ODD_WIDTHS = st.sampled_from((17, 32, 33, 48, 65))
WINDOWS = st.sampled_from((1, 2, 7, 8, 9, 16, 33, 40, 41, 64))
HEADS = st.integers(1, 5)
DIMS = st.integers(4, 40)


@st.composite
def attention(draw, cls, **more):
    groups = draw(st.integers(1, 3))
    head_dim, fraction = draw(st.sampled_from(((16, 1.0), (32, 0.5), (48, 1.0), (64, 0.25), (64, 0.75))))
    return cls(
        heads=groups * draw(st.integers(1, 3)),
        kv_heads=groups,
        head_dim=head_dim,
        rotary_fraction=fraction,
        qk_norm=draw(st.booleans()),
        output_gate=draw(st.booleans()),
        rope_theta=draw(st.sampled_from((3.0, 1e4, 1e6))),
        scale=draw(st.sampled_from((None, 0.3))),
        **{name: draw(values) for name, values in more.items()},
    )


@st.composite
def delta_nets(draw):
    key_heads = draw(st.integers(1, 3))
    return GDN(
        key_heads=key_heads,
        value_heads=key_heads * draw(st.integers(1, 3)),
        key_dim=draw(DIMS),
        value_dim=draw(DIMS),
        kernel=draw(st.integers(1, 5)),
    )


SPECS = {
    "short_conv": st.builds(ShortConv, kernel=st.integers(1, 5)),
    "gqa": attention(GQA),
    "swa": attention(SWA, window=WINDOWS),
    "gla": st.builds(GLA, heads=HEADS, key_dim=DIMS, value_dim=DIMS, decay_rank=st.integers(1, 17)),
    "gdn": delta_nets(),
    "swiglu": st.builds(SwiGLU, hidden=st.integers(1, 100), activation=st.sampled_from(("silu", "gelu_tanh"))),
}


@st.composite
def cases(draw, kind):
    spec = draw(SPECS[kind])
    tokens = draw(st.integers(1, 40))
    return Case(
        block=spec,
        width=draw(ODD_WIDTHS),
        precision=draw(st.sampled_from(PRECISIONS)),
        lowering=draw(st.sampled_from(sorted(spec.lowerings))),
        batch=draw(st.integers(1, 3)),
        tokens=tokens,
        prefill=draw(st.integers(1, tokens)),
        spare=draw(st.sampled_from((0, 1, 30))),
        seed=draw(st.integers(0, 999)),
    )


@pytest.mark.parametrize("kind", SPECS)
def test_any_size(kind):
    # Derandomised: a failure is the same everywhere, and 2,700 random cases were run when this was written.
    @settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=cases(kind))
    def check(case):
        assert not list(case.block.problems(case.width))
        conformance.check_counts(case)
        conformance.check_runtime(case)
        conformance.check_runtime_steps(case)
        conformance.check_chunks(case)
        sizes = {"batch": case.batch, "tokens": case.tokens}
        conformance.check_torch_steps(case.block, case.width, prefill=case.prefill, **sizes)
        conformance.check_flops(case.block, case.width, tokens=case.tokens)
        context = case.tokens + case.spare
        conformance.check_state_bytes(case.block, case.width, context=context, batch=case.batch, lowering=case.lowering)

    check()
