"""Candidates and the checks that travel with them: the reference agrees with the graph that is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.candidates import CHECK_TOLERANCE, BlockCheck, block_checks, check_tokens, prepare, reference_check
from archsearch.subjects import timeout_factor
from profiler.workloads import Point, Workload, parse_workload
from search_space.layout import Embedding, Layer, Layout
from search_space.notation import resolve
from tests.unit.search_space.own_blocks import GeluNetwork, PlainAttention, Turning

LAYOUT = "CWGLDN:width=64,vocab=512,ffn=96,head_dim=16,window=16,key_dim=16,value_dim=16,key_heads=2,value_heads=2"


def workload(prompt: int, decode: int) -> Workload:
    return Workload(name="test", points=(Point(prompt=prompt, decode=decode),), description="")


def checks_of(text: str, *, context: int, precision: Any = "fp32") -> list[BlockCheck]:
    layout = resolve(text).layout
    prepared = prepare(layout, workload=workload(context - 1, 1), precision=precision)
    return list(block_checks(layout, prepared.candidate))


def agree(check: BlockCheck, folder: Path, **changes: Any) -> dict[str, Any]:
    """What the agent's own code says of a check, run here in stock onnxruntime."""
    from profiler.agent.checks import run_check
    from profiler.agent.weights import write_weights

    made, files = reference_check(check, 0)
    (folder / "model.onnx").write_bytes(files[made.graph])
    write_weights(json.loads(files[made.recipe]), folder / "weights.bin")
    sent = {
        "name": made.name,
        "signature": made.signature,
        "output": made.output,
        "tolerance": made.tolerance,
        "calls": [{"tokens": call.tokens, "fill": call.fill, "expected": list(call.expected)} for call in made.calls],
        **changes,
    }
    record = run_check(sent, folder / "model.onnx", {"threads": 1, "providers": [["CPUExecutionProvider", {}]]})
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("context", [6, 18, 20, 64])
def test_the_reference_agrees_with_the_graph(precision: Any, context: int, tmp_path: Path):
    checks = checks_of(LAYOUT, context=context, precision=precision)
    assert {check.block.kind for check in checks} == {"short_conv", "swa", "gqa", "gla", "gdn", "swiglu"}
    for check in checks:
        record = agree(check, tmp_path)
        assert record["ok"], record
        assert record["rel_rms"] <= CHECK_TOLERANCE[precision] / 10, record  # a wrong kernel must stand out


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_reference_agrees_with_exported_blocks(precision: Any, tmp_path: Path):
    # One has a table of its own, which must not be lost where parameters are put in; one has a growing state.
    ffn = GeluNetwork(hidden=48)
    layers = (Layer(mixer=Turning(), ffn=ffn), Layer(mixer=PlainAttention(), ffn=ffn))
    layout = Layout(width=32, embedding=Embedding(vocab_size=64), layers=layers)
    prepared = prepare(layout, workload=workload(16, 4), precision=precision)
    checks = list(block_checks(layout, prepared.candidate))
    assert {check.lowering for check in checks} == {"exported"}
    assert len(checks) == 3
    for check in checks:
        record = agree(check, tmp_path)
        assert record["ok"], record
        assert record["rel_rms"] <= CHECK_TOLERANCE[precision] / 10, record


def test_a_wrong_kernel_does_not_agree(tmp_path: Path):
    check = checks_of("C:width=64,vocab=512,ffn=96", context=64)[0]
    made, _ = reference_check(check, 0)
    wrong = [{"tokens": c.tokens, "fill": c.fill, "expected": [1.05 * v for v in c.expected]} for c in made.calls]
    assert not agree(check, tmp_path, calls=wrong)["ok"]


def test_a_check_compares_samples_over_the_whole_output():
    check = checks_of("C:width=64,vocab=512,ffn=96", context=64)[0]
    made, _ = reference_check(check, 0)
    assert [call.tokens for call in made.calls] == list(check_tokens(check))
    assert all(len(call.expected) >= 64 and np.isfinite(call.expected).all() for call in made.calls)


def test_a_candidate_holds_what_the_agent_reads():
    prepared = prepare(resolve(LAYOUT).layout, workload=workload(16, 4), precision="int4")
    assert set(prepared.files) == {"model.onnx", "recipe.json"}
    assert json.loads(prepared.files["recipe.json"]) == prepared.candidate.recipe
    assert prepared.candidate.context == 20


def test_the_identity_follows_graph_and_weights():
    def content(seed: int = 0, precision: Any = "int4", decode: int = 4) -> str:
        load = workload(16, decode)
        return prepare(resolve(LAYOUT).layout, workload=load, precision=precision, seed=seed).content_id

    assert content() == content()
    assert len({content(), content(seed=1), content(precision="int8"), content(decode=5)}) == 4


def test_each_distinct_block_is_checked_once():
    names = [
        check.name.partition(" ")[0] for check in checks_of("CCGCG:width=64,vocab=512,ffn=96,head_dim=16", context=20)
    ]
    assert sorted(names) == ["gqa", "short_conv", "swiglu"]


def test_two_specs_of_one_kind_are_told_apart_by_name():
    # A result names its checks: one that failed must not be taken for its sibling that passed.
    layout = resolve("WW:width=64,vocab=512,ffn=96,head_dim=16,window=16").layout
    first, second = layout.layers
    assert second.mixer is not None
    other = replace(layout, layers=(first, replace(second, mixer=replace(second.mixer, window=8))))
    prepared = prepare(other, workload=workload(16, 4), precision="fp32")
    names = [check.name for check in block_checks(other, prepared.candidate)]
    assert [name.partition(" ")[0] for name in names].count("swa") == 2
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("context", [2, 3, 9, 10, 16, 17, 18, 19, 20, 21, 64, 300])
def test_a_check_fits_into_its_own_context(context: int):
    # Position tables and caches end at the context: a check beyond it would condemn a block that is fine.
    for check in checks_of(LAYOUT, context=context):
        assert sum(check_tokens(check)) <= check.context, check.name
        assert all(tokens >= 1 for tokens in check_tokens(check))


def test_a_sliding_window_is_checked_past_its_end():
    [sliding] = [check for check in checks_of(LAYOUT, context=300) if check.block.kind == "swa"]
    [state, _] = sliding.block.states(sliding.width, context=sliding.context)
    assert check_tokens(sliding)[0] > state.shape[2]
    assert not state.growing
    [growing] = [check for check in checks_of(LAYOUT, context=12) if check.block.kind == "swa"]
    assert growing.block.states(growing.width, context=growing.context)[0].growing


def test_checks_of_equal_blocks_are_equal_and_of_others_differ():
    first, again = checks_of(LAYOUT, context=20), checks_of(LAYOUT, context=20)
    assert [check.check_id for check in first] == [check.check_id for check in again]
    ids = {
        check.check_id
        for precision in ("fp32", "int8", "int4")
        for check in checks_of(LAYOUT, context=20, precision=precision)
    }
    assert len(ids) == 3 * len(first)


@pytest.mark.parametrize(("text", "factor"), [("256/32", 1.0), ("4096/32", 1.0), ("4096/32;32768/32", 9.0)])
def test_time_outs_grow_with_long_prompts(text: str, factor: float):
    assert timeout_factor(parse_workload(text).points) == factor
