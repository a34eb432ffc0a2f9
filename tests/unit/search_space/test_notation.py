"""LAYOUT|ANCHOR|FILE: what a text on the command line names, and how a layout is written as one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_space.anchors import anchor, anchor_names
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swiglu import SwiGLU
from search_space.cost import parameters
from search_space.errors import NotationError, SearchSpaceError
from search_space.iso_parameter import hidden_of
from search_space.layout import Embedding, Layer, Layout
from search_space.layout_file import NamedLayout, write_layout
from search_space.notation import resolve, spell


def test_an_anchor_by_name() -> None:
    for name in anchor_names():
        assert resolve(name) == anchor(name)
        assert resolve(f" {name.upper()} ") == anchor(name)


def test_a_file_and_the_folder_of_an_export(tmp_path: Path) -> None:
    named = NamedLayout(layout=resolve("CG:width=64,head_dim=16,vocab=128").layout, name="mine")
    write_layout(named, tmp_path / "layout.json")
    assert resolve(str(tmp_path / "layout.json")) == named
    assert resolve(str(tmp_path)) == named


def test_a_code_says_what_it_says() -> None:
    text = "CCG:width=512,vocab=32768,ffn=1536,heads=8,kv_heads=2,head_dim=64,kernel=4,rank=128,tied=false"
    text += ",qk_norm=false"
    layer = [
        Layer(mixer=mixer, ffn=SwiGLU(hidden=1536))
        for mixer in (ShortConv(kernel=4), ShortConv(kernel=4), GQA(heads=8, kv_heads=2, head_dim=64, qk_norm=False))
    ]
    embedding = Embedding(vocab_size=32768, rank=128, tied=False)
    assert resolve(text).layout == Layout(width=512, embedding=embedding, layers=tuple(layer))


def test_defaults_are_those_documented() -> None:
    layout = resolve("CWGLDN").layout
    assert (layout.width, layout.embedding, hidden_of(layout)) == (1024, Embedding(vocab_size=65536), 4096)
    _, swa, gqa, gla, gdn, _ = (layer.mixer.__class__.__name__ for layer in layout.layers)
    assert (swa, gqa, gla, gdn) == ("SWA", "GQA", "GLA", "GDN")
    said = "CWGLDN:gqa.heads=16,gqa.kv_heads=8,gqa.head_dim=64,W.heads=16,W.kv_heads=8,W.head_dim=64,window=512"
    said += ",gla.heads=4,gla.key_dim=128,gla.value_dim=256,D.key_heads=16,value_heads=16,D.key_dim=128"
    said += ",gdn.value_dim=128"
    assert resolve(said).layout == layout


def test_heads_that_cannot_be_halved_stay_whole() -> None:
    layout = resolve("G:width=192,head_dim=64,vocab=64").layout
    assert layout.layers[0].mixer == GQA(heads=3, kv_heads=3, head_dim=64)


def test_a_field_of_one_mixer_overrides_the_field_of_all() -> None:
    for text in ("CD:kernel=2,D.kernel=5", "CD:gdn.kernel=5,kernel=2"):
        first, second = (layer.mixer for layer in resolve(text).layout.layers)
        assert (first.kernel, second.kernel) == (2, 5)  # type: ignore[attr-defined]


def test_repeats_and_formulas() -> None:
    assert resolve("(CCG)x4").layout == resolve("CCGCCGCCGCCG").layout
    said = resolve("CG:heads=width/32,head_dim=32,ffn=3*width").layout
    assert said == resolve("CG:heads=32,head_dim=32,ffn=3072").layout


def test_params_solves_for_the_ffn() -> None:
    layout = resolve("(CCG)x4:params=354M").layout
    assert abs(parameters(layout).total / 354e6 - 1) < 0.01
    assert hidden_of(layout) == 6528


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no anchor, file or layout code"),
        ("lfm2-350m", "did you mean 'lfm2.5-350m'?"),
        ("ccg", "did you mean 'CCG'?"),
        ("nope.json", "there is no file nope.json"),
        ("CCX", "character 3: 'X' is no mixer letter"),
        ("C|G", "more than one layout"),
        ("(CG)x400", "at most 512"),
        ("CCG:widht=3", "did you mean 'width'? allowed: activation, ffn,"),
        ("CCG:gqa.hads=3", "did you mean 'gqa.heads'?"),
        ("CCG:window=3", "no option 'window'"),
        ("CCG:W.window=3", "'W' is no mixer of CCG"),
        ("CCG:width", "write name=value"),
        ("CCG:width=-5", "width is -5; it must be at least 1"),
        ("CCG:width=1.5", "1.5"),
        ("CCG:vocab=0", "vocab_size is 0"),
        ("CCG:vocab=3,vocab_size=3", "one option"),
        ("CCG:width=64,width=3", "given twice"),
        ("CCG:heads=3,kv_heads=2", "kv_heads could be 1, 3"),
        ("CCG:width=100", "no whole number (head_dim 64, width 100)"),
        ("CCG:heads=heads", "in a circle"),
        ("CCG:heads=wide/2", "'wide', which is no number"),
        ("CCG:ffn=width/0", "divides by zero"),
        ("CCG:ffn=0", "hidden is 0"),
        ("CCG:tied=maybe", "true or false"),
        ("CCG:activation=relu", "silu, gelu_tanh"),
        ("CCG:rank=5000", "not below the width"),
        ("CCG:params=1M", "the nearest is 79.25M with FFN width 64"),
        ("CCG:params=lots", "no count"),
        ("CCG:params=354M,ffn=3", "exclude each other"),
        ("CCG:multiple=0", "at least 1"),
        ("CCG:norm_eps=x", "must be a number"),
        ("CCG:gqa.scale=none,ffn=__import__('os')", "no formula"),
    ],
)
def test_a_mistake_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(NotationError) as caught:
        resolve(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40) | st.text(alphabet="CGWx3():=,.widthvocab/*-", max_size=30))
@settings(max_examples=200)
def test_any_text_resolves_or_is_refused(text: str) -> None:
    with contextlib.suppress(SearchSpaceError):
        assert isinstance(resolve(text), NamedLayout)


def test_spelling_gives_up_where_codes_cannot_say_it() -> None:

    ffns = (SwiGLU(hidden=32), SwiGLU(hidden=64))
    layers = tuple(Layer(mixer=ShortConv(), ffn=ffn) for ffn in ffns)
    assert spell(Layout(width=64, embedding=Embedding(vocab_size=64), layers=layers)) is None
