"""The layout value: identity, code and what it refuses."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.none import NoMixer
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.errors import LayoutError
from search_space.layout import Embedding, Layer, Layout
from search_space.layout_file import parse_layout
from tests.unit.search_space.small_layouts import HYBRIDS, layout

GQA_OK = GQA(heads=4, kv_heads=2, head_dim=16)
SWA_OK = SWA(heads=4, kv_heads=2, head_dim=16, window=8)
GLA_OK = GLA(heads=2, key_dim=8, value_dim=8)
GDN_OK = GDN(key_heads=2, value_heads=4, key_dim=8, value_dim=8)


def one(mixer, ffn=None, width=64):
    return Layout(width=width, embedding=Embedding(vocab_size=10), layers=(Layer(mixer=mixer, ffn=ffn),))


def test_code_has_a_letter_per_layer():
    assert layout("CCGWLDN", bare=()).code == "CCGWLDN"


def test_a_layout_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        layout().width = 3
    assert hash(layout()) == hash(layout())


def test_id_is_twelve_digits_and_known():
    # A stored measurement names its layout by this id: a change here orphans every store.
    assert one(GQA_OK, SwiGLU(hidden=96)).layout_id == "05ac74a7cc45"


def test_fields_that_came_later_leave_ids_alone_until_they_are_used():
    assert not [
        name
        for name in one(GQA_OK).to_json()["layers"][0]["mixer"]
        if name.startswith("rope_") and name != "rope_theta"
    ]
    scaled = one(replace(GQA_OK, rope_scaling="linear", rope_factor=8))
    assert scaled.to_json()["layers"][0]["mixer"]["rope_factor"] == 8.0
    assert parse_layout(scaled.to_json()).layout == scaled
    assert scaled.layout_id != one(GQA_OK).layout_id


def test_what_is_not_rotated_has_one_spelling():
    first, second = (replace(GQA_OK, rotary_fraction=0.0, rope_theta=theta) for theta in (1e4, 5e6))
    assert first == second
    assert one(first).layout_id == one(second).layout_id != one(GQA_OK).layout_id


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rope_factor": 8.0}, "rope_factor has no effect with rope_scaling 'none'; leave it out"),
        ({"rope_scaling": "linear"}, "rope_factor is 1; with rope_scaling 'linear' it must be above 1"),
        ({"rope_scaling": "linear", "rope_factor": 2.0, "rope_original_context": 9}, "rope_original_context has no"),
        ({"rope_scaling": "llama3", "rope_factor": 2.0, "rope_high_freq_factor": 1.0}, "below rope_high_freq_factor 1"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn'; it must be 'none', 'linear' or 'llama3'"),
    ],
)
def test_impossible_rope_scaling_is_told(wrong, message):
    with pytest.raises(LayoutError, match=message):
        one(replace(GQA_OK, **wrong))


def test_id_is_the_same_in_another_process():
    script = "from tests.unit.search_space.small_layouts import HYBRIDS;print(*(h.layout_id for h in HYBRIDS.values()))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [hybrid.layout_id for hybrid in HYBRIDS.values()]


def test_different_layouts_have_different_ids():
    variants = [
        *HYBRIDS.values(),
        layout(norm_eps=1e-6),
        layout(width=34),
        layout(vocab_size=102),
        layout("CWGLD"),
        layout("CWGLND"),
        layout(bare=()),
        one(replace(GQA_OK, rope_theta=1e4)),
        one(replace(GQA_OK, qk_norm=False)),
        one(GQA_OK),
        one(SWA_OK),
        one(replace(SWA_OK, window=9)),
    ]
    assert len({variant.layout_id for variant in variants}) == len(variants)


def test_spelling_does_not_change_the_id():
    spelled = one(replace(GQA_OK, rope_theta=1_000_000))  # an int where 1e6 is meant
    assert spelled.layout_id == one(replace(GQA_OK, rope_theta=1e6)).layout_id
    assert spelled == one(GQA_OK)
    data = one(GQA_OK).to_json()
    assert parse_layout(dict(reversed(data.items()))).layout.layout_id == spelled.layout_id


@given(name=st.sampled_from(sorted(HYBRIDS)))
def test_json_reads_back(name):
    hybrid = HYBRIDS[name]
    again = parse_layout(hybrid.to_json()).layout
    assert again == hybrid
    assert again.layout_id == hybrid.layout_id


WRONG = [
    (lambda: layout(width=0), "width is 0; it must be at least 1"),
    (lambda: layout(width=-5), "width is -5; it must be at least 1"),
    (lambda: layout(width=1 << 30), "width is 1073741824; it must be at most 16777216"),
    (lambda: layout(vocab_size=0), "vocab_size is 0; it must be at least 1"),
    (lambda: layout(rank=0), "rank is 0; it must be at least 1"),
    (lambda: layout(rank=33), "rank 33 is not below the width 33; leave it out for tables of full width"),
    (lambda: layout(norm_eps=0.0), "norm_eps is 0.0; it must lie between 0 and 1"),
    (lambda: layout(norm_eps=float("nan")), "norm_eps is nan; it must lie between 0 and 1"),
    (lambda: layout(""), "there are 0 layers; there must be 1 to 512"),
    (lambda: layout("C" * 513), "there are 513 layers; there must be 1 to 512"),
    (lambda: one(NoMixer()), "layer 0: neither mixer nor feed-forward network; leave the layer out"),
    (
        lambda: one(GQA_OK, SwiGLU(hidden=1 << 24), width=1 << 24),
        "there are 8.4e+14 parameters; there may be 2^40",
    ),
    (lambda: one(ShortConv(kernel=0)), "layer 0: short_conv: kernel is 0; it must be at least 1"),
    (lambda: one(ShortConv(kernel=65)), "layer 0: short_conv: kernel is 65; it must be at most 64"),
    (lambda: one(GQA_OK, SwiGLU(hidden=-1)), "layer 0: swiglu: hidden is -1; it must be at least 1"),
    (
        lambda: one(replace(GQA_OK, heads=6, kv_heads=4)),
        "layer 0: gqa: heads 6 is not a multiple of kv_heads 4; kv_heads could be 1, 2, 3, 6",
    ),
    (lambda: one(replace(GQA_OK, kv_heads=0)), "layer 0: gqa: kv_heads is 0; it must be at least 1"),
    (lambda: one(replace(GQA_OK, head_dim=17)), "head_dim is 17; the attention kernel needs a multiple of 16"),
    (lambda: one(replace(GQA_OK, head_dim=24)), "head_dim is 24; the attention kernel needs a multiple of 16"),
    (
        lambda: one(replace(GQA_OK, head_dim=48, rotary_fraction=0.5)),
        "head_dim 48 with rotary_fraction 0.5 rotates 24 dimensions; the attention kernel needs a multiple of 16",
    ),
    (lambda: one(replace(GQA_OK, rotary_fraction=-0.5)), "rotary_fraction is -0.5; it must be in [0, 1]"),
    (lambda: one(replace(GQA_OK, rotary_fraction=float("nan"))), "rotary_fraction is nan; it must be in [0, 1]"),
    (lambda: one(replace(GQA_OK, rope_theta=0.0)), "rope_theta is 0.0; it must be positive"),
    (lambda: one(replace(GQA_OK, rope_theta=float("inf"))), "rope_theta is inf; it must be positive"),
    (lambda: one(replace(GQA_OK, scale=-1.0)), "scale is -1.0; it must be positive"),
    (lambda: one(replace(GQA_OK, scale=float("inf"))), "scale is inf; it must be positive"),
    (lambda: one(replace(GQA_OK, qk_norm_eps=-1.0)), "qk_norm_eps is -1.0; it must lie between 0 and 1"),
    (lambda: one(replace(SWA_OK, window=0)), "layer 0: swa: window is 0; it must be at least 1"),
    (lambda: one(replace(SWA_OK, heads=3)), "layer 0: swa: heads 3 is not a multiple of kv_heads 2"),
    (lambda: one(replace(GLA_OK, key_dim=0)), "layer 0: gla: key_dim is 0; it must be at least 1"),
    (lambda: one(replace(GLA_OK, decay_rank=0)), "layer 0: gla: decay_rank is 0; it must be at least 1"),
    (lambda: one(replace(GLA_OK, norm_eps=0.0)), "layer 0: gla: norm_eps is 0.0; it must lie between 0 and 1"),
    (lambda: one(replace(GDN_OK, value_heads=3)), "layer 0: gdn: value_heads 3 is not a multiple of key_heads 2"),
    (lambda: one(replace(GDN_OK, kernel=0)), "layer 0: gdn: kernel is 0; it must be at least 1"),
    (lambda: one(replace(GDN_OK, norm_eps=2.0)), "layer 0: gdn: norm_eps is 2.0; it must lie between 0 and 1"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_impossible_layouts_name_the_field(make, message):
    with pytest.raises(LayoutError) as caught:
        make()
    assert message in str(caught.value)
    assert "; ; " not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once_and_equal_ones_together():
    bad = Layer(mixer=ShortConv(kernel=0), ffn=SwiGLU(hidden=0))
    with pytest.raises(LayoutError) as caught:
        Layout(width=64, embedding=Embedding(vocab_size=0), layers=(bad, Layer(mixer=GQA_OK, ffn=None), bad))
    assert str(caught.value).split("; ") == [
        "vocab_size is 0",
        "it must be at least 1",
        "layers 0, 2: short_conv: kernel is 0",
        "it must be at least 1",
        "layers 0, 2: swiglu: hidden is 0",
        "it must be at least 1",
    ]


@given(
    heads=st.integers(-2, 9),
    kv_heads=st.integers(-2, 9),
    head_dim=st.integers(-16, 80),
    fraction=st.floats(allow_nan=True, allow_infinity=True),
    window=st.integers(-2, 99),
)
def test_problems_never_raise(heads, kv_heads, head_dim, fraction, window):
    spec = SWA(heads=heads, kv_heads=kv_heads, head_dim=head_dim, rotary_fraction=fraction, window=window)
    possible = not list(spec.problems(64))
    wanted = (
        min(heads, kv_heads, head_dim, window) > 0
        and heads % kv_heads == 0
        and head_dim % 16 == 0
        and 0 < fraction <= 1
        and spec.rotary_dim >= 16
        and spec.rotary_dim % 16 == 0
    )
    assert possible == wanted
