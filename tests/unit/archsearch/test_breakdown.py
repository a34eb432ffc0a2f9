"""What the nodes of a profile belong to: layers, parts and blocks, with no time lost on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from archsearch.block_table import MEMORY_PROTOCOL, TABLE_PROTOCOL
from archsearch.breakdown import Breakdown, breakdown
from archsearch.measurement import Measurement
from archsearch.study import CANDIDATE_PROTOCOL, WATCH_PROTOCOL
from archsearch.tuning import SEARCH_PROTOCOL, TUNING_PROTOCOL
from profiler.agent.cache import WeightCache
from profiler.agent.checks import operators
from profiler.agent.profiling import Profiler, group_of
from profiler.jobs import Protocol, Runtime
from profiler.results import Result
from profiler.workloads import Point
from search_space.blocks import mixers_by_letter
from search_space.export import export_layout
from search_space.graph.precision import PrecisionName
from search_space.layout import Layout
from search_space.notation import resolve
from tests.unit.archsearch.samples import measurement, result

BLOCKS: Layout = resolve("CWGLDN:width=128,vocab=512,ffn=96,head_dim=32").layout
POINT = Point(prompt=24, decode=4)
PRECISIONS: tuple[PrecisionName, ...] = ("int4", "fp32")


def with_profile(profile: dict[str, Any], layout: Layout | None = BLOCKS, **changes: Any) -> Measurement:
    """A measurement whose preparing process brought this profile."""
    found = result(ttft_ms=7.0, decode_ms=2.0)
    check = {"index": 4, "kind": "check", "profile": profile}
    raw = json.dumps({**found.model_dump(mode="json"), "processes": [check, *_processes(found)]})
    return measurement(0.0, layout=layout, points=(POINT,), result=Result.model_validate_json(raw), **changes)


def _processes(found: Result) -> list[Any]:
    return [process.model_dump(mode="json") for process in found.processes]


def entry(group: str, operator: str, prefill_ns: int = 1000, decode_ns: int = 10) -> dict[str, Any]:
    return {"group": group, "operator": operator, "prefill_ns": prefill_ns, "decode_ns": decode_ns}


def told(*entries: dict[str, Any], layout: Layout | None = BLOCKS, **changes: Any) -> Breakdown:
    profile = {"point": 0, "prompt": 24, "steps": 4, "prefill_ns": 10**6, "decode_ns": 10**4, "entries": entries}
    found = breakdown(with_profile({**profile, **changes}, layout))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("group", "operator", "place"),
    [
        ("layers.0.mixer", "MatMulNBits", (0, "mixer", "short_conv", "C")),
        ("layers.1.mixer", "GroupQueryAttention", (1, "mixer", "swa", "W")),
        ("layers.3.mixer.inner", "LinearAttention", (3, "mixer", "gla", "L")),
        ("layers.4", "SkipSimplifiedLayerNormalization", (4, "norm", None, "D")),
        ("layers.5.ffn", "MatMulNBits", (5, "ffn", "swiglu", "N")),
        ("/GatherBlockQuantized_0", "GatherBlockQuantized", (None, "embedding", None, None)),
        ("/Slice_1", "Slice", (None, "embedding", None, None)),
        ("/MatMulNBits_2", "MatMulNBits", (None, "head", None, None)),
        ("/SimplifiedLayerNormalization_90", "SimplifiedLayerNormalization", (None, "norm", None, None)),
        ("/MatMulNBits_91", "MatMulNBits", (None, "head", None, None)),
        ("layers.6.mixer", "MatMul", (None, "other", None, None)),
        ("layers.00000000000000000000001.mixer", "MatMul", (None, "other", None, None)),
        ("layers.0.mixers", "MatMul", (None, "other", None, None)),
        ("/model", "MatMul", (None, "other", None, None)),
        ("", "Transpose", (None, "other", None, None)),
        ("", "", (None, "other", None, None)),
    ],
)
def test_what_a_group_is_of(group: str, operator: str, place: tuple[int | None, str, str | None, str | None]):
    (row,) = told(entry(group, operator)).rows
    assert (row.layer, row.part, row.block, row.letter) == place
    assert (row.operator, row.prefill_ms, row.decode_ms) == (operator, 0.001, 0.00001)


@pytest.mark.parametrize(
    ("options", "nodes"), [("rank=32", 3), ("rank=32,scaled=true", 4), ("scaled=true", 3), ("tied=false", 2)]
)
def test_an_embedding_has_as_many_nodes_as_it_needs(options: str, nodes: int):
    layout = resolve(f"CG:width=64,vocab=512,ffn=96,head_dim=16,{options}").layout
    rows = told(*(entry(f"/Mul_{at}", "Mul") for at in range(nodes + 1)), layout=layout).rows
    assert [row.part for row in rows] == ["embedding"] * nodes + ["head"]


@pytest.mark.parametrize(
    "options", ["", "rank=24", "scaled=true", "rank=24,scaled=true", "tied=false", "rank=32,tied=false"]
)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("code", ["C", "N"])
def test_the_two_ends_of_real_graphs_are_told_apart(options: str, precision: PrecisionName, code: str):
    layout = resolve(f"{code}:width=64,vocab=512,ffn=96,{options}".rstrip(",")).layout
    nodes = onnx.load_from_string(export_layout(layout, precision=precision, context=8).graph).graph.node
    first = next(at for at, node in enumerate(nodes) if node.name.startswith("layers."))
    found = told(*(entry(group_of(node.name), node.op_type, at) for at, node in enumerate(nodes)
                   if node.name.startswith("/")), layout=layout).rows  # fmt: skip
    assert [row.part for row in found if row.part == "embedding"] == ["embedding"] * first
    assert all((row.part == "embedding") == (row.prefill_ms * 1e6 < first) for row in found)
    assert {row.part for row in found} == {"embedding", "norm", "head"}


def test_what_is_searched_and_measured_is_profiled_and_nothing_else():
    assert CANDIDATE_PROTOCOL.profile
    others = (WATCH_PROTOCOL, TUNING_PROTOCOL, SEARCH_PROTOCOL, TABLE_PROTOCOL, MEMORY_PROTOCOL, Protocol())
    assert not any(protocol.profile for protocol in others)


def test_sums_keep_what_they_share():
    found = told(
        entry("layers.0.ffn", "MatMulNBits", 600, 0),
        entry("layers.1.ffn", "MatMulNBits", 200, 0),
        entry("layers.1.ffn", "Mul", 100, 0),
        entry("layers.2.mixer", "Add", 100, 50),
        prefill_ns=1500,
        decode_ns=40,
    )
    assert (found.prefill.nodes_ms, found.prefill.outside_ms) == (pytest.approx(0.001), pytest.approx(0.0005))
    assert (found.decode.nodes_ms, found.decode.outside_ms) == (pytest.approx(0.00005), 0)
    assert (found.prefill.measured_ms, found.decode.measured_ms) == (pytest.approx(7.0), pytest.approx(2.0))
    mixer, ffn = found.by_block()  # by the shares of both phases
    assert (ffn.layer, ffn.part, ffn.block, ffn.operator, ffn.letter) == (None, "ffn", "swiglu", "", None)
    assert (ffn.prefill_share, ffn.decode_share) == (pytest.approx(0.9), 0)
    assert (mixer.layer, mixer.block, mixer.operator, mixer.letter) == (2, "gqa", "Add", "G")
    assert (mixer.prefill_share, mixer.decode_share) == (pytest.approx(0.1), 1)
    assert [(row.block, row.operator) for row in found.by_operator()] == [
        ("gqa", "Add"), ("swiglu", "MatMulNBits"), ("swiglu", "Mul"),
    ]  # fmt: skip
    assert {(row.layer, row.operator) for row in found.by_layer()} == {(0, "MatMulNBits"), (1, ""), (2, "Add")}
    assert json.loads(json.dumps(found.to_json()))["blocks"][1]["prefill_ms"] == pytest.approx(0.0009)


def test_a_file_without_layout_has_operators():
    found = told(entry("/model", "MatMul"), entry("layers.0.mixer", "Add"), layout=None)
    assert {row.part for row in found.rows} == {"other"}
    assert {row.operator for row in found.by_operator()} == {"MatMul", "Add"}


def test_without_a_profile_there_is_no_breakdown():
    assert breakdown(measurement(0.0)) is None
    assert breakdown(measurement(0.0, status="failed", reason="why")) is None
    assert breakdown(with_profile({"point": 0, "reason": "too slow"})) is None


def test_what_was_profiled_of_a_measurement_without_numbers_is_told():
    profile = {
        "point": 0, "prompt": 12, "steps": 4, "prefill_ns": 5, "decode_ns": 5, "entries": [entry("", "Add", 4, 4)],
    }  # fmt: skip
    found = breakdown(with_profile(profile, status="throttled", reason="others"))
    assert found is not None
    assert (found.prompt, found.point.prompt, found.prefill.measured_ms) == (12, 24, None)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("lowering", [0, 1])
def test_every_node_of_every_block_is_told_apart(tmp_path: Path, precision: PrecisionName, lowering: int):
    """Real graphs, as onnxruntime has optimised them, by the first and by the second lowering of each block."""
    choice = {
        block.kind: list(block.lowerings)[min(lowering, len(block.lowerings) - 1)]
        for block in mixers_by_letter().values() if block.lowerings
    }  # fmt: skip
    candidate = export_layout(BLOCKS, precision=precision, context=28, lowerings=choice)
    (tmp_path / "model.onnx").write_bytes(candidate.graph)
    (tmp_path / "recipe.json").write_text(json.dumps(candidate.recipe), encoding="utf-8")
    model = WeightCache(tmp_path / "weights").place(tmp_path / "model.onnx", tmp_path / "recipe.json").model
    job = {
        "points": [POINT.to_json()], "signature": candidate.signature, "protocol": {"time_budget_s": 600.0},
        "limits": {"timeout_s": 600.0},
    }  # fmt: skip
    profiler = Profiler(job, lambda: None)
    operators(
        model, candidate.signature, Runtime(threads=1).to_json(), job["points"], tmp_path, loaded=lambda: None,
        profiler=profiler,
    )  # fmt: skip
    profile = profiler.result()
    found = breakdown(with_profile(profile))
    assert found is not None
    assert {(row.part, row.block, row.letter) for row in found.rows if row.part in ("mixer", "ffn")} == {
        *(("mixer", layer.mixer.kind, layer.mixer.letter) for layer in BLOCKS.layers if layer.mixer.kind != "none"),
        *(("ffn", "swiglu", layer.mixer.letter) for layer in BLOCKS.layers),
    }
    assert {row.part for row in found.rows} >= {"embedding", "mixer", "ffn", "norm", "head"}
    for phase, column in ((found.prefill, "prefill"), (found.decode, "decode")):
        nodes = sum(one[f"{column}_ns"] for one in profile["entries"]) / 1e6
        for rows in (found.rows, found.by_block(), found.by_operator(), found.by_layer()):
            assert sum(getattr(row, f"{column}_ms") for row in rows) == pytest.approx(nodes)
            assert sum(getattr(row, f"{column}_share") for row in rows) == pytest.approx(1)
        assert phase.nodes_ms == pytest.approx(nodes)
        assert phase.nodes_ms + phase.outside_ms == pytest.approx(profile[f"{column}_ns"] / 1e6)
        other = sum(getattr(row, f"{column}_share") for row in found.rows if row.part == "other")
        assert other < 0.05
