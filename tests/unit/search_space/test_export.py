"""The candidate: graph, recipe and signature."""

import gzip
import time
from dataclasses import replace

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_space.anchors import anchor, anchor_names
from search_space.blocks.short_conv import ShortConv
from search_space.conformance import GraphRunner, check_names
from search_space.cost import parameters, state_bytes
from search_space.errors import ExportError
from search_space.export import export_block, export_layout
from search_space.graph.precision import PRECISIONS
from search_space.graph.recipe import quantized_scale, tensor_seed
from search_space.layout import Embedding, Layer, Layout, block_id, by_kind
from tests.unit.search_space.small_layouts import FFN, HYBRIDS, MIXERS, layout

SIZES = {"float32": 4, "uint8": 1}


def nbytes(tensor):
    size = SIZES[tensor["dtype"]]
    for dim in tensor["shape"]:
        size *= dim
    return size


def graph_of(candidate):
    return onnx.load_from_string(candidate.graph).graph


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", HYBRIDS)
def test_tensors_lie_aligned_and_apart(name, precision):
    recipe = export_layout(HYBRIDS[name], precision=precision).recipe
    assert recipe["format"] == 1
    end = 0
    for tensor in sorted(recipe["tensors"], key=lambda entry: entry["offset"]):
        assert tensor["offset"] >= end, f"{tensor['name']} overlaps the tensor before it"
        assert tensor["offset"] % (4096 if nbytes(tensor) >= 65536 else 64) == 0
        end = tensor["offset"] + nbytes(tensor)
    assert recipe["size"] == end
    names = [tensor["name"] for tensor in recipe["tensors"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["tied", "factorised, untied"])
def test_the_graph_points_at_the_recipes_bytes(name, precision):
    candidate = export_layout(HYBRIDS[name], precision=precision)
    stored = {tensor["offset"]: tensor for tensor in candidate.recipe["tensors"]}
    seen = set()
    for tensor in graph_of(candidate).initializer:
        if not tensor.external_data:
            assert len(tensor.raw_data) <= 64, f"{tensor.name} carries values inside the graph"
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert place["location"] == "weights.bin"
        assert int(place["length"]) == nbytes(stored[int(place["offset"])])
        seen.add(int(place["offset"]))
    assert seen == stored.keys(), "the recipe stores what the graph never reads"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_tied_head_is_stored_once(precision):
    tied, untied = (export_layout(HYBRIDS[name], precision=precision) for name in ("tied", "untied"))
    table = sum(nbytes(t) for t in tied.recipe["tensors"] if t["name"].startswith("embedding."))
    heads = [tensor for tensor in untied.recipe["tensors"] if tensor["name"].startswith("head.")]
    assert sum(nbytes(t) for t in heads) == table
    assert not [tensor for tensor in tied.recipe["tensors"] if tensor["name"].startswith("head.")]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_lfm2_is_small_and_quickly_made(precision, capsys):
    lfm2 = anchor("lfm2.5-350m").layout
    deep = replace(lfm2, layers=lfm2.layers + lfm2.layers[:8])
    assert len(deep.layers) == 24
    export_layout(deep, precision=precision)
    started = time.perf_counter()
    candidate = export_layout(deep, precision=precision)
    elapsed = time.perf_counter() - started
    with capsys.disabled():
        print(f" [export of 24 layers, {precision}: {elapsed * 1000:.0f} ms]", end="")
    packed = len(gzip.compress(candidate.graph)) + len(gzip.compress(repr(candidate.recipe).encode()))
    assert packed <= 200 * 1024


@pytest.mark.parametrize("name", anchor_names())
def test_anchors_export(name):
    named = anchor(name)
    candidate = export_layout(named.layout, precision="int4", context=1024)
    assert sum(p.count for p in candidate.parameters) == parameters(named.layout).total


def test_node_names_carry_the_path():
    candidate = export_layout(layout("CG", bare=()))
    names = [node.name for node in graph_of(candidate).node]
    assert len(set(names)) == len(names)
    for block in ("layers.0.mixer/", "layers.0.ffn/", "layers.1.mixer/", "layers.1.ffn/"):
        assert any(name.startswith(block) for name in names)
    inner = [name for name in names if name.startswith("layers.")]
    assert all("/" in name for name in inner)
    check_names(export_block(MIXERS["G"], 32, precision="int4"), ["block"])


def test_one_layout_gives_one_graph():
    for precision in PRECISIONS:
        first, second = (export_layout(layout(), precision=precision) for _ in range(2))
        assert first.graph == second.graph
        assert first.recipe == second.recipe
        assert first.signature == second.signature


def test_the_seed_changes_weights_and_nothing_else():
    first, second = (export_layout(layout(), seed=seed) for seed in (0, 1))
    assert first.graph == second.graph
    assert first.recipe != second.recipe
    seeds = [tensor["fill"]["seed"] for tensor in first.recipe["tensors"] if "seed" in tensor["fill"]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert tensor_seed(0, "a") == tensor_seed(0, "a") != tensor_seed(0, "b")


def test_the_signature_says_how_to_drive_the_graph():
    hybrid = layout()
    candidate = export_layout(hybrid, context=4096)
    signature, graph = candidate.signature, graph_of(candidate)
    roles = {entry["role"]: entry for entry in signature["inputs"]}
    assert roles["tokens"] == {"name": "input_ids", "role": "tokens", "dtype": "int64", "shape": ["batch", "tokens"]}
    assert roles["seqlens_k"]["dtype"] == roles["total_length"]["dtype"] == "int32"
    assert {entry.name for entry in graph.input} == {e["name"] for e in signature["inputs"]} | {
        state["input"] for state in signature["states"]
    }
    assert [entry.name for entry in graph.output] == ["logits", *(state["output"] for state in signature["states"])]
    assert signature["logits"] == "logits"
    assert signature["logits_positions"] == "last"
    assert signature["vocab_size"] == 101
    kinds = [(s["input"].split(".")[2], s["growing"], s["in_place"]) for s in signature["states"]]
    assert kinds == [
        ("0", False, False),  # ShortConv: its last inputs
        *[("1", False, True)] * 2,  # SWA at 4,096 tokens: window-sized caches, updated in place
        *[("2", True, True)] * 2,  # GQA: growing caches
        ("3", False, False),  # GLA
        *[("4", False, False)] * 2,  # GDN: convolution and state
    ]


@pytest.mark.parametrize("name", ["standard", "plain"])
def test_a_concatenated_cache_says_so_and_a_window_carries_its_last_rows(name):
    chosen = {"gqa": name, "swa": name}
    rows = {}
    for context in (3, 4096):  # a window of 5 that is never left, and is
        states = export_layout(layout("WG", bare=()), context=context, lowerings=chosen).signature["states"]
        assert not any(state["in_place"] for state in states)
        rows[context] = [(state["shape"][2], state["growing"]) for state in states]
    assert rows[3] == [("capacity", True)] * 4
    assert rows[4096] == [(MIXERS["W"].window - 1, False)] * 2 + [("capacity", True)] * 2


def test_layouts_without_attention_ask_for_no_lengths():
    candidate = export_layout(layout("CLDN", bare=()))
    assert [entry["role"] for entry in candidate.signature["inputs"]] == ["tokens"]


@settings(max_examples=20, derandomize=True)
@given(context=st.integers(1, 60), batch=st.integers(1, 3), code=st.text("CWGLDN", min_size=1, max_size=5))
def test_state_tensors_are_state_bytes(context, batch, code):
    hybrid = layout(code, bare=())
    runner = GraphRunner(export_layout(hybrid, context=context))
    held = sum(array.nbytes for array in runner.zero_states(batch=batch, capacity=context).values())
    assert held == state_bytes(hybrid, context=context, batch=batch)


def test_position_tables_are_shared_and_untrained():
    candidate = export_layout(layout("GGWG", bare=()), context=50)
    tables = [tensor for tensor in candidate.recipe["tensors"] if tensor["fill"]["kind"] == "rope"]
    assert sorted(tensor["fill"]["part"] for tensor in tables) == ["cos", "sin"]
    assert all(tensor["shape"] == [50, 8] for tensor in tables)
    assert not {tensor["name"] for tensor in tables} & {tensor.name for tensor in candidate.trained_tensors()}


def test_lowerings_are_chosen_by_kind():
    chosen = export_layout(layout(), lowerings={"short_conv": "conv", "swiglu": "packed"})
    used = by_kind(chosen.lowerings)
    assert (used["short_conv"], used["swiglu"], used["gqa"]) == ("conv", "packed", "group_query")
    assert [node.op_type for node in graph_of(chosen).node].count("Conv") == 1


def test_specs_of_one_kind_may_have_lowerings_of_their_own():
    layers = [Layer(mixer=ShortConv(kernel=kernel), ffn=FFN) for kernel in (3, 4)]
    two = Layout(width=32, embedding=Embedding(vocab_size=64), layers=tuple(layers))
    first, second = (block_id(layer.mixer, 32) for layer in layers)
    assert first != second != block_id(layers[1].mixer, 64)
    chosen = export_layout(two, lowerings={second: "conv"})
    assert (chosen.lowerings[first], chosen.lowerings[second]) == ("shifted", "conv")
    assert by_kind(chosen.lowerings)["short_conv"] == "conv+shifted"
    pinned = export_layout(two, lowerings={second: "conv", "short_conv": "fused"})
    assert by_kind(pinned.lowerings)["short_conv"] == "fused"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "int3"}, "precision 'int3' is not one of fp32, int8, int4"),
        ({"context": 0}, "context is 0; it must be at least 1"),
        (
            {"lowerings": {"gqa": "flash"}},
            "gqa has no lowering 'flash'; it has group_query, blocked, standard, plain, exported",
        ),
    ],
)
def test_impossible_exports_say_why(wrong, message):
    with pytest.raises(ExportError, match=f"^{message}$"):
        export_layout(layout(), **wrong)
    if "lowerings" not in wrong:
        with pytest.raises(ExportError, match=f"^{message}$"):
            export_block(FFN, 32, **{"precision": "fp32", **wrong})


def test_random_weights_have_the_variance_of_an_initialisation():
    for bits in (4, 8):
        values = range(1 << bits)
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        assert quantized_scale(bits, 0.5) * variance**0.5 == pytest.approx(0.5)
