"""layout.json: round trips, and every mistake in words."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space.anchors import anchor
from search_space.errors import LayoutError
from search_space.layout import Layout, canonical_id
from search_space.layout_file import NamedLayout, parse_layout, read_layout, read_stored, write_layout
from search_space.sampling import RandomChooser, sample
from search_space.space_file import load_space
from tests.unit.search_space.small_layouts import HYBRIDS, layout

C = {"kind": "short_conv"}
G = {"kind": "gqa", "heads": 4, "kv_heads": 2, "head_dim": 16}
F = {"kind": "swiglu", "hidden": 64}


def content(mixer=C, ffn=F, **changes):
    data = {"width": 64, "embedding": {"vocab_size": 100}, "layers": [{"mixer": mixer, "ffn": ffn}], **changes}
    return {key: value for key, value in data.items() if value != "left out"}


def message_of(data):
    with pytest.raises(LayoutError) as caught:
        parse_layout(data)
    return str(caught.value)


@pytest.mark.parametrize("name", HYBRIDS)
def test_what_is_written_reads_back(name, tmp_path):
    named = NamedLayout(layout=HYBRIDS[name], name="mine", notes="Überschrift\nzwei", extra_params={"tower": 7})
    path = tmp_path / "layout.json"
    write_layout(named, path)
    assert read_layout(path) == named
    write_layout(NamedLayout(layout=HYBRIDS[name]), path)
    assert read_layout(path).layout.layout_id == HYBRIDS[name].layout_id


def test_names_and_notes_are_no_part_of_the_id():
    plain, named = parse_layout(content()), parse_layout(content(name="a", notes="b", extra_params={"c": 1}))
    assert plain.layout.layout_id == named.layout.layout_id
    assert named.extra_params == {"c": 1}


def test_defaults_may_be_left_out_or_written():
    written = content(norm_eps=1e-5, post_norm=False, format=1)
    written["embedding"] |= {"rank": None, "tied": True, "scaled": False}
    written["layers"][0]["mixer"] = C | {"kernel": 3}
    assert parse_layout(written).layout.layout_id == parse_layout(content()).layout.layout_id


def test_numbers_may_be_spelled_as_integers():
    first, second = (parse_layout(content(G | {"rope_theta": theta})).layout for theta in (10000, 1e4))
    assert first.layout_id == second.layout_id
    assert isinstance(first.layers[0].mixer.rope_theta, float)


def test_repeat_writes_equal_layers_once():
    data = content()
    data["layers"] = [{"mixer": C, "ffn": F, "repeat": 2}, {"mixer": G, "ffn": None}]
    assert parse_layout(data).layout.code == "CCG"


MISTAKES = [
    ([], "a layout is a JSON object, not a list"),
    (None, "a layout is a JSON object, not null"),
    ("CCG", "a layout is a JSON object, not a text"),
    ({}, "layout.width is missing; embedding must be an object; layers must be a list"),
    (content(width=True), "layout.width is True; it must be a whole number"),
    (content(width=64.0), "layout.width is 64.0; it must be a whole number"),
    (content(width="64"), "layout.width is '64'; it must be a whole number"),
    (content(width=None), "layout.width is None; it must be a whole number"),
    (content(width=10**30), f"width is {10**30}; it must be at most 16777216"),
    (content(widht=3), "layout: unknown field 'widht'; did you mean 'width'? allowed: "),
    (content(zzz=3), "layout: unknown field 'zzz'; allowed: embedding,"),
    (content(format=2), "format 2 is not known; this version reads format 1"),
    (content(format=True), "format True is not known; this version reads format 1"),
    (content(norm_eps=float("nan")), "layout.norm_eps is not a finite number"),
    (content(norm_eps=10**400), "layout.norm_eps is not a finite number"),
    (content(norm_eps="small"), "layout.norm_eps is 'small'; it must be a number"),
    (content(norm_eps=True), "layout.norm_eps is True; it must be a number"),
    (content(post_norm=1), "layout.post_norm is 1; it must be true or false"),
    (content(name=3), "name must be text without control characters"),
    (content(name="\x1b[2J"), "name must be text without control characters"),
    (content(name="\ud800"), "name must be text without control characters"),
    (content(extra_params={"a": True}), "extra_params must map names to whole numbers"),
    (content(extra_params={"a": -1}), "extra_params must map names to whole numbers"),
    (content(extra_params=[1]), "extra_params must map names to whole numbers"),
    (content(embedding=None), "embedding must be an object"),
    (content(embedding={"vocab": 5}), "embedding: unknown field 'vocab'; did you mean 'vocab_size'?"),
    (content(embedding={}), "embedding.vocab_size is missing"),
    (content(embedding={"vocab_size": 5, "rank": True}), "embedding.rank is True; it must be a whole number or null"),
    (content(embedding={"vocab_size": 5, "tied": 1}), "embedding.tied is 1; it must be true or false"),
    (content(layers={}), "layers must be a list"),
    (content(layers=[]), "there are 0 layers; there must be 1 to 512"),
    (content(layers=[3]), "layers[0] must be an object with mixer and ffn"),
    (content(layers=[{"mixer": C, "ffn": F, "repeat": 0}]), "layers[0].repeat is 0; it must be 1 to 512"),
    (content(layers=[{"mixer": C, "ffn": F, "repeat": True}]), "layers[0].repeat is True; it must be 1 to 512"),
    (content(layers=[{"mixer": C, "fn": F}]), "layers[0]: unknown field 'fn'; did you mean 'ffn'?"),
    (content(layers=[{"mixer": C, "ffn": F, "repeat": 400}] * 2), "there are 800 layers; there must be 1 to 512"),
    (content({"kind": "attn"}), "layers[0].mixer: kind 'attn' is not one of gdn, gla, gqa, none, short_conv, swa"),
    (content({"kind": []}), "layers[0].mixer: kind [] is not one of"),
    (content({"kind": {}}), "layers[0].mixer: kind {} is not one of"),
    (content(None), "layers[0].mixer: kind None is not one of"),
    (content("C"), "layers[0].mixer: kind 'C' is not one of"),
    (content(F), "layers[0].mixer: kind 'swiglu' is not one of"),
    (content(C, G), "layers[0].ffn: kind 'gqa' is not one of swiglu"),
    (content({"kind": "gqa", "heads": 4}), "layers[0].mixer.kv_heads is missing; layers[0].mixer.head_dim is missing"),
    (content(G | {"head": 4}), "layers[0].mixer: unknown field 'head'; did you mean 'heads'?"),
    (content(G | {"letter": "X"}), "layers[0].mixer: unknown field 'letter'"),
    (content(G | {"scale": float("inf")}), "layers[0].mixer.scale is not a finite number"),
    (content(G | {"rope_theta": 10**400}), "layers[0].mixer.rope_theta is not a finite number"),
    (content(G | {"heads": 3}), "layer 0: gqa: heads 3 is not a multiple of kv_heads 2; kv_heads could be 1, 3"),
    (content(C, F | {"activation": "relu"}), "layers[0].ffn.activation is 'relu'; it must be one of 'silu', 'gelu_"),
    (content(C, F | {"activation": ["silu"]}), "layers[0].ffn.activation is ['silu']; it must be one of"),
    (content({"kind": "none"}, None), "layer 0: neither mixer nor feed-forward network; leave the layer out"),
]


@pytest.mark.parametrize(("data", "message"), MISTAKES, ids=[message[:50] for _, message in MISTAKES])
def test_mistakes_are_named(data, message):
    assert message in message_of(data)


def test_all_mistakes_are_reported_together():
    text = message_of(content(G | {"heads": "four"}, {"kind": "mlp"}, width=None, name=1))
    for part in ("layout.width", "name must", "mixer.heads is 'four'", "kind 'mlp'"):
        assert part in text


def test_a_hopeless_file_is_not_answered_with_a_book():
    text = message_of(content(layers=[{"mixer": {"kind": "x"}, "ffn": {"kind": "y"}}] * 400))
    assert text.endswith("and 788 more mistakes")
    assert len(text) < 2000


FILES = [
    (b"{", "not a JSON file"),
    (b"", "not a JSON file"),
    (b"\xff\xfe{}", "not a JSON file"),
    (b"\x00" * 9, "not a JSON file"),
    (b"[" * 100_000, "not a JSON file"),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not a JSON file"),
    (b'{"width": ' + b"9" * 5000 + b"}", "not a JSON file"),
    (b'{"width": 64, "width": 65}', "field 'width' stands twice in one object"),
    (b'{"norm_eps": 1e999}', "layout.norm_eps is not a finite number"),
    (b'{"norm_eps": NaN}', "layout.norm_eps is not a finite number"),
    (b'{"norm_eps": -Infinity}', "layout.norm_eps is not a finite number"),
    (b" " * (16 << 20) + b"{}", "larger than 16 MiB"),
]


@pytest.mark.parametrize(("raw", "message"), FILES, ids=[f"{raw[:20]!r}" for raw, _ in FILES])
def test_damaged_files_are_named_with_their_path(raw, message, tmp_path):
    path = tmp_path / "layout.json"
    path.write_bytes(raw)
    with pytest.raises(LayoutError) as caught:
        read_layout(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(LayoutError, match=r"none\.json: No such file or directory"):
        read_layout(tmp_path / "none.json")
    with pytest.raises(LayoutError, match="not a file"):
        read_layout(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "layout.json"
    path.write_text(json.dumps(content()), encoding="utf-8-sig")
    assert read_layout(path).layout == parse_layout(content()).layout


@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    place=st.sampled_from(["", "width", "embedding", "layers", "norm_eps", "mixer", "ffn", "heads", "vocab_size"]),
)
def test_no_data_breaks_the_reader(data, place):
    if place == "":
        whole = data
    elif place == "heads":
        whole = content(G | {"heads": data})
    elif place == "vocab_size":
        whole = content(embedding={"vocab_size": data})
    elif place in ("mixer", "ffn"):
        whole = content(**{place: data})
    else:
        whole = content(**{place: data})
    try:
        parsed = parse_layout(whole)
    except LayoutError:
        return
    assert parse_layout(parsed.to_json()).layout == parsed.layout


@given(field=st.sampled_from(["head", "kv_head", "head_dims", "rope_teta", "qknorm", "rotary_fractions"]))
def test_near_misses_are_suggested(field):
    assert "did you mean" in message_of(content(G | {field: 1}))


def test_an_anchor_file_is_its_own_canonical_form():
    named = anchor("lfm2.5-350m")
    assert parse_layout(named.to_json()) == named
    assert layout().to_json()["format"] == 1


def stored(one):
    """As a store keeps it."""
    return json.dumps(one.to_json(), sort_keys=True, separators=(",", ":"))


def drawn(count):
    space, rng = load_space("350m"), RandomChooser(random.Random(1))
    found = (sample(space, rng) for _ in range(count))
    return [one for one in found if isinstance(one, Layout)]


@pytest.mark.parametrize("one", [*HYBRIDS.values(), anchor("gemma-3-270m").layout, *drawn(40)])
def test_what_is_stored_reads_back_as_any_layout_does(one):
    again = read_stored(stored(one), one.layout_id)
    assert again == parse_layout(json.loads(stored(one))).layout == one
    assert again.layout_id == one.layout_id
    assert stored(again) == stored(one)


def test_layers_without_a_network_or_a_mixer_read_back():
    layers = [{"mixer": C}, {"mixer": {"kind": "none"}, "ffn": F}, {"mixer": G, "ffn": F}]
    one = parse_layout(content(layers=layers)).layout
    assert read_stored(stored(one), one.layout_id) == one


def test_an_id_that_is_not_that_of_the_text_is_not_taken_over():
    one = parse_layout(content()).layout
    assert read_stored(stored(one), "0123456789ab").layout_id == one.layout_id
    loose = json.dumps(one.to_json())
    assert read_stored(loose, canonical_id(stored(one))) == one


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"kernel":3', '"kernel":true', "layers[0].mixer.kernel is True"),
        ('"kernel":3', '"kernel":3,"x":{"a":[1]}', "layers[0].mixer: unknown field 'x'"),
        ('"hidden":64', '"hidden":-64', "swiglu"),
        ('"vocab_size":100', '"vocab_size":"100"', "embedding.vocab_size"),
        ('"format":1', '"format":2', "format 2 is not known"),
        ('"kind":"short_conv"', '"kind":"},{\\"ffn\\":"', "layers[0].mixer: kind"),
    ],
)
def test_a_mistake_in_what_is_stored_is_told_as_in_a_file(old, new, told):
    one = parse_layout(content()).layout
    assert old in stored(one)
    text = stored(one).replace(old, new)
    with pytest.raises(LayoutError) as caught:
        read_stored(text, canonical_id(text))
    assert told in str(caught.value)
    assert str(caught.value) == message_of(json.loads(text))


@pytest.mark.parametrize("text", ["", "{", '{"layers":[{"ffn":'])
def test_what_is_stored_and_no_json_is_refused(text):
    with pytest.raises(ValueError):
        read_stored(text, canonical_id(text))
