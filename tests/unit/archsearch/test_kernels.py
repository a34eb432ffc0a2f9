"""Lowerings compared, rooflines, and what a better kernel would change."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.block_table import contestants
from archsearch.comparisons import beside, compared, left_out, lowering_entrants
from archsearch.keeping import Outcome
from archsearch.kernels import KernelTime, Tuning, capped, choose, kernel_times, stored_times, tuning_rows
from archsearch.measurement import BLOCKS, Evidence, Measurement, conditions
from archsearch.potential import KernelBook, potentials
from archsearch.roofline import PRODUCT, Rates, decode_roof_ms, not_emptied, prefill_roof_ms, read_rates
from archsearch.stacks import bytes_per_step, cache_bytes, decode_copies, stack
from archsearch.subjects import Subject
from archsearch.table import rows
from archsearch.tuning import Tuner, alike, representative
from profiler.results import Result
from profiler.workloads import Point, Workload, parse_workload
from reports.ranking import rank
from search_space.blocks.gdn import GDN
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.cost import weight_bytes
from search_space.graph.precision import PrecisionName
from search_space.layout import block_id, block_name
from tests.unit.archsearch.samples import ANCHOR_LAYOUT, LAYOUT, measurement

CONDITIONS = conditions({"method": "m"})
RATES = Rates(precision="int4", bandwidth=20e9, linear=400e9, plain=100e9)


def time_of(lowering: str, *costs: float, error: str = "") -> KernelTime:
    return KernelTime(lowering=lowering, costs_ms=costs, error=error)


@pytest.mark.parametrize(
    ("times", "choice", "why"),
    [
        ([time_of("a", 10, 10, 10), time_of("b", 9, 9, 9)], "b", "10.0% faster than a"),
        ([time_of("a", 10, 10, 10), time_of("b", 9, 9, 10.1)], "a", "no other is faster"),  # not in every process
        ([time_of("a", 10, 10, 10), time_of("b", 9.9, 9.9, 9.9)], "a", "no other is faster"),  # by 1%: not enough
        ([time_of("a", 10, 20, 30), time_of("b", 9, 18, 27)], "b", "10.0%"),  # the machine slowed down, for both
        ([time_of("a", error="no kernel"), time_of("b", 9, 9, 9)], "b", "only one that runs here"),
        ([time_of("a", 9, 9, 9)], "a", "the only one"),
        ([time_of("a", error="no kernel")], None, "no kernel"),
        ([time_of("a", 10, 10, 10), time_of("b", 9, 9, 9), time_of("c", 8, 8, 8)], "c", "20.0%"),
    ],
)
def test_a_choice_is_beyond_doubt_or_the_first(times: list[KernelTime], choice: str | None, why: str):
    chosen, said = choose(times)
    assert chosen == choice
    assert why in said


def comparison(
    contenders: list[tuple[str, int, str]], samples: list[tuple[float, float]], **changes: Any
) -> Measurement:
    """A stored comparison: contenders (name, points, error) and for every point that ran TTFT and decode in ms."""
    processes = []
    starts = [sum(count for _, count, _ in contenders[:at]) for at in range(len(contenders))]
    for index, factor in enumerate((0.99, 1.0, 1.01)):
        points, at, sample = [], 0, iter(samples)
        for _, count, error in contenders:
            for _ in range(count):
                if not error:
                    ttft, decode = next(sample)
                    rep = {
                        "prefill_ns": int(ttft * factor * 1e6) - 10, "ttft_ns": int(ttft * factor * 1e6),
                        "decode_ns": [int(decode * factor * 1e6)] * 4, "other_cpu": 0.0, "kept": True,
                    }  # fmt: skip
                    points.append({"point": at, "warmup": [], "repeats": [rep, rep], "warm": True})
                at += 1
        processes.append({"index": index, "kind": "timing", "points": points})
    result = Result.model_validate_json(
        json.dumps(
            {
                "format": 1,
                "job_id": "j",
                "method": "m",
                "status": "ok",
                "environment": {},
                "processes": processes,
                "contenders": [
                    {"name": name, "error": error, "points": list(range(start, start + count))}
                    for start, (name, count, error) in zip(starts, contenders, strict=True)
                ],
            }
        )
    )
    fields: dict[str, Any] = {"role": BLOCKS, "layout": None, "evidence": Evidence.of(result), "name": "x", **changes}
    return replace(measurement(1.0), **fields)


def test_times_are_of_one_copy_and_costs_of_the_whole_workload():
    workload = parse_workload("64/10;256/20")
    made = comparison(
        [("a/prefill*2", 2, ""), ("a/decode0*8", 1, ""), ("a/decode1*4", 1, ""), ("b/prefill*2", 2, "bad kernel"),
         ("b/decode0*8", 1, "bad kernel"), ("b/decode1*4", 1, "bad kernel")],
        [(4.0, 0.0), (10.0, 0.0), (1.0, 0.8), (1.0, 0.6)],
    )  # fmt: skip
    a, b = kernel_times(made, ["a", "b"], workload)
    assert [t.value for t in a.prefill_ms] == pytest.approx([2.0, 5.0], rel=1e-4)
    assert [t.value for t in a.decode_ms] == pytest.approx([0.1, 0.15], rel=1e-4)
    assert a.costs_ms == pytest.approx(
        [factor * (2 + 5 + 10 * 0.1 + 20 * 0.15) for factor in (0.99, 1.0, 1.01)], rel=1e-4
    )
    assert a.copies == (8, 4)
    assert b.error == "bad kernel"
    stored, times, rates = stored_times(replace(made, points=(*workload.points, *workload.points)))
    assert [(p.prompt, p.batch) for p in stored] == [(64, 1), (256, 1)]
    assert [time.lowering for time in times] == ["a", "b"]
    assert rates is None
    block = ShortConv()
    tuning = Tuning(
        block=block,
        width=64,
        precision="int4",
        device="d",
        workload=workload,
        times=(a, b),
        choice="a",
        why="w",
        rates=RATES,
        job_id="j",
    )
    found = list(tuning_rows(tuning))
    assert [(row["lowering"], row["prompt"], row["chosen"]) for row in found] == [
        ("a", 64, True), ("a", 256, True), ("b", 64, False), ("b", 256, False),
    ]  # fmt: skip
    point = workload.points[1]
    assert found[1]["prefill_roof_share"] == pytest.approx(prefill_roof_ms(block, 64, RATES, point) / 5.0, rel=1e-3)
    assert found[2]["prefill_ms"] is None
    assert (found[0]["warm"], found[2]["warm"]) == (True, None)


def test_a_workload_is_weighed_at_prompts_that_can_be_compared():
    assert [p.text for p in capped(parse_workload("long")).points] == ["4096/32@512"]
    assert capped(parse_workload("quick")).points == parse_workload("quick").points
    assert [p.text for p in capped(parse_workload("16/4;16/8;8192/2;9000/4")).points] == ["16/6", "4096/3"]
    assert [p.text for p in capped(parse_workload("64/4;64/4@16")).points] == ["64/4", "64/4@16"]


def test_lowerings_that_would_fill_a_device_are_left_out():
    block = GQA(heads=16, kv_heads=8, head_dim=64)
    assert left_out(block, parse_workload("512/8")) == {}
    found = left_out(block, parse_workload("4096/8"))
    assert found.keys() == {"standard", "plain"}
    assert "1.0 GiB of scores" in found["plain"]  # 16 heads x 4096^2 x 4 bytes
    assert left_out(block, parse_workload("4096/8@512")) == {}
    assert compared(block, parse_workload("4096/8")) == ["group_query", "blocked"]


def test_what_stands_for_a_feed_forward_network_is_near_it():
    assert representative(SwiGLU(hidden=2560)) == SwiGLU(hidden=2560)
    assert representative(ShortConv()) == ShortConv()


def test_specs_that_are_alike_may_share_a_choice():
    def name(width: int, heads: int, kv_heads: int = 4, **more: Any) -> str:
        return block_name(GQA(heads=heads, kv_heads=kv_heads, head_dim=64, **more), width)

    one = name(768, 12)
    assert alike(one, one)
    assert alike(one, name(1024, 16))
    assert alike(one, name(512, 8))
    assert alike(one, name(768, 12, rope_theta=1e4))  # a base changes no kernel
    assert not alike(one, name(2048, 12))
    assert not alike(one, name(768, 32))
    assert not alike(one, name(768, 12, qk_norm=False))
    assert not alike(one, block_name(ShortConv(), 768))


@given(st.integers(1, 1 << 20))
def test_hidden_widths_are_rounded_by_a_sixteenth_at_most(hidden: int):
    near = representative(SwiGLU(hidden=hidden, activation="gelu_tanh"))
    assert abs(near.hidden - hidden) <= hidden / 16
    assert representative(near) == near
    assert near.activation == "gelu_tanh"


def test_a_stack_has_copies_enough_that_its_start_does_not_count():
    block = ShortConv()
    each = bytes_per_step(block, 1024, "int4", context=512)
    one, two = (weight_bytes(stack(block, 1024, n), "int4") for n in (1, 2))
    assert each == two - one + 2 * 1024 * 4  # its weights and norm, and two carried rows
    copies = decode_copies(block, 1024, "int4", context=512, batch=1)
    assert copies * each >= 20 << 20 > (copies - 1) * each
    assert decode_copies(ShortConv(), 256, "int4", context=512, batch=1) == 16
    attention = GQA(heads=16, kv_heads=8, head_dim=64)
    assert decode_copies(attention, 1024, "int4", context=65_536, batch=1) == 2  # its state alone is large


@pytest.mark.parametrize("precision", ["int4", "fp32"])
def test_beside_every_step_more_is_read_than_the_cache_holds(precision: PrecisionName):
    cache = 32 << 20
    workload = parse_workload("512/8;16/8@4")
    products, *others = beside(precision, workload, cache)
    assert [entrant.name.partition("*")[0] for entrant in (products, *others)] == (
        ["rates:fp32"] if precision == "fp32" else ["rates:fp32", "rates:int4"]
    )
    assert weight_bytes(products.layout, "fp32") > 4 * cache
    # In turns with all that must not find its weights in the cache: the steps, and prefills of a few tokens.
    assert [point.text for point in products.points] == ["256/1", "511+1/16", "15+1/16", "16/1@4"]
    entrants = list(lowering_entrants(ShortConv(), 128, precision, workload))
    steps = {point for entrant in entrants for point in entrant.points if point.depth}
    assert steps <= set(products.points)
    # The rate of the memory is that of steps of one sequence: of its own where the blocks have none.
    products, *_ = beside(precision, parse_workload("512/8", "4"), cache)
    assert [(point.text, point.batch) for point in products.points] == [("256/1", 1), ("4x511+1/16", 4), ("1/16", 1)]
    products, *_ = beside(precision, parse_workload("512/8"), 1 << 40)
    assert len(products.layout.layers) == 16


@pytest.mark.parametrize(
    ("text", "size"),
    [("32768K", 32 << 20), ("2M", 2 << 20), ("512", 512), (None, 32 << 20), ("many", 32 << 20), ("0K", 32 << 20)],
)
def test_cache_sizes_as_the_kernel_writes_them(text: object, size: int):
    assert cache_bytes(text) == size


def test_every_lowering_of_a_comparison_has_weights_of_its_own():
    workload = Workload(name="w", points=(Point(prompt=8, decode=4),), description="")
    entrants = list(lowering_entrants(ShortConv(), 128, "int4", workload, prefix="x:"))
    assert len({entrant.prepared.recipe_id for entrant in entrants}) == len(entrants)
    assert [entrant.name.partition("*")[0] for entrant in entrants[:2]] == ["x:shifted/prefill", "x:shifted/decode0"]
    assert all(entrant.name.endswith(f"*{len(entrant.layout.layers)}") for entrant in entrants)
    assert [point.text for point in entrants[1].points] == ["7+1/16"]


@pytest.mark.parametrize("width", [512, 1024, 2048])
def test_blocks_are_compared_at_equal_parameters(width: int):
    found = contestants(width, "params")
    assert [block.kind for block in found] == ["short_conv", "swa", "gqa", "gla", "gdn"]
    target = found[0].params(width)
    for block in found:
        assert not list(block.problems(width))
        assert block.params(width) == pytest.approx(target, rel=0.02)
    published = contestants(1024, "width")
    assert published[2].params(1024) == GQA(heads=16, kv_heads=8, head_dim=64).params(1024)
    assert published[4] == GDN(key_heads=16, value_heads=16, key_dim=128, value_dim=128)


def test_the_roofline_is_the_slower_of_bytes_and_operations():
    block, width = SwiGLU(hidden=4096), 1024
    point = Point(prompt=512, decode=1)
    flops = 2 * 512 * 3 * 1024 * 4096
    assert prefill_roof_ms(block, width, RATES, point) == pytest.approx(1e3 * flops / 400e9)
    stored = bytes_per_step(block, width, "int4", context=512)
    assert decode_roof_ms(block, width, RATES, point) == pytest.approx(1e3 * stored / 20e9)
    attention = GQA(heads=16, kv_heads=8, head_dim=64)
    scores = 4 * 16 * 64 * 512 * 513 // 2
    linear = 2 * 512 * 1024 * 64 * (16 + 16 + 16)
    wanted = 1e3 * (linear / 400e9 + scores / 100e9)
    assert prefill_roof_ms(attention, width, RATES, point) == pytest.approx(wanted)
    window = SWA(heads=16, kv_heads=8, head_dim=64, window=512)
    read = bytes_per_step(window, width, "int4", context=512)  # and not the rows of its cache that wait to be dropped
    assert decode_roof_ms(window, width, RATES, Point(prompt=4096, decode=1)) == pytest.approx(1e3 * read / 20e9)
    double = replace(point, batch=2)
    assert prefill_roof_ms(attention, width, RATES, double) == pytest.approx(2 * wanted)


def with_rates(
    contenders: list[tuple[str, int, str]], samples: list[tuple[float, float]], **changes: Any
) -> Measurement:
    """A comparison with its products: 300 ms for a prefill of three copies in fp32, 10 ms for a step, 50 for int4."""
    theirs = sum(count for _, count, _ in contenders)
    points = changes.pop("points", (Point(prompt=8, decode=1),) * theirs)
    step = Point(prompt=1, decode=16, depth=7)
    return comparison(
        [*contenders, ("rates:fp32*3", 3, ""), ("rates:int4*2", 1, "")],
        [*samples, (300.0, 1.0), (1.0, 10.0), (1.0, 2.0), (50.0, 1.0)],
        points=(*points, PRODUCT, step, replace(step, batch=4), PRODUCT), **changes,
    )  # fmt: skip


def test_rates_come_from_the_products_beside():
    made = with_rates([("a/prefill*2", 1, ""), ("a/decode0*8", 1, "")], [(4.0, 0.0), (1.0, 0.8)])
    rates = read_rates(made, "int4")
    assert rates is not None
    flops = 2 * 256 * 3 * 1024 * 4096
    fastest = 0.99  # of the three processes
    assert rates.linear == pytest.approx(2 * flops / 0.05 / fastest, rel=1e-3)
    assert rates.plain == pytest.approx(3 * flops / 0.3 / fastest, rel=1e-3)
    norm = 1024 * 4
    assert rates.bandwidth == pytest.approx(3 * (3 * 1024 * 4096 * 4 + norm) / 10e-3 / fastest, rel=1e-3)
    assert read_rates(made, "fp32") == replace(rates, precision="fp32", linear=rates.plain)
    failed = comparison(
        [("rates:fp32*3", 2, ""), ("rates:int4*2", 1, "no kernel")], [(300.0, 1.0), (1.0, 10.0)], points=(PRODUCT,) * 3
    )
    assert read_rates(failed, "int4") is None
    assert not_emptied(failed) is None
    broken = comparison([("rates:fp32*3", 2, "no kernel"), ("rates:int4*2", 1, "")], [(50.0, 1.0)])
    assert "did not run: no kernel" in str(not_emptied(broken))
    assert [time.lowering for time in stored_times(made)[1]] == ["a"]


class Comparisons:
    """A store that holds these measurements of kernels."""

    def __init__(self, *made: Measurement) -> None:
        self._made = made

    def measurements(self, study: str) -> list[Any]:
        from archsearch.records import to_record
        from profiler.jobs import MeasurementKey

        key = MeasurementKey(fields=json.loads(CONDITIONS))
        return [
            to_record(
                m, study=study, key=key, device_fingerprint="f",
                raw_result=m.result.model_dump_json().encode() if m.result else None, info={},
            )
            for m in self._made
        ]  # fmt: skip


def test_a_layout_that_only_a_poor_kernel_keeps_off_the_front_is_named():
    point = Point(prompt=16, decode=4)
    gqa = next(layer.mixer for layer in LAYOUT.layers if layer.mixer.kind == "gqa")
    other = next(layer.mixer for layer in ANCHOR_LAYOUT.layers if layer.mixer.kind == "gqa")
    width = LAYOUT.width

    def kernels(block: Any, prefill: float, decode: float, **changes: Any) -> Measurement:
        return with_rates(
            [(f"{name}/{part}*1", 1, "") for name in ("poor", "good") for part in ("prefill", "decode0")],
            [(prefill, 1.0), (1.0, decode), (prefill / 4, 1.0), (1.0, decode / 4)],
            name=block_name(representative(block), width), points=(point,) * 4, **changes,
        )  # fmt: skip

    lowerings = {block_id(gqa, width): "poor"}
    slow = measurement(5.0, times={"ttft_ms": 5.0, "decode_ms": 1.0}, lowerings=lowerings, conditions=CONDITIONS)
    faster = replace(
        measurement(6.0, times={"ttft_ms": 4.0, "decode_ms": 0.8}, conditions=CONDITIONS),
        layout=ANCHOR_LAYOUT,
        job_id="faster",
        trial=1,
    )
    made = [slow, faster]
    table = rows(made)
    ranking = rank(table, ["ttft_ms", "decode_ms"], ())
    assert [entry.front for entry in ranking.ranked] == ["on", "dominated"]
    assert gqa == other
    book = KernelBook(Comparisons(kernels(gqa, 9.0, 9.0), kernels(gqa, 3.0, 0.6)), "blocks")  # type: ignore[arg-type]
    [found] = potentials(ranking, table, made, book, reference=None, across="worst")
    assert (found.layout_id, found.kind) == (LAYOUT.layout_id, "gqa")
    now, then = found.times_ms["ttft_ms"]
    assert (now, then) == pytest.approx((5.0, 5.0 - 3.0 * (1 - 1 / 4)), rel=1e-3)
    assert found.best["prefill"] == pytest.approx(4 * found.shares["prefill"], rel=1e-3)
    assert "would be on the front with a better kernel for gqa on local" in found.text()
    # Where the kernel is as good as any seen, nothing is promised.
    best = replace(slow, lowerings={block_id(gqa, width): "good"})
    assert potentials(ranking, rows([best, faster]), [best, faster], book, reference=None, across="worst") == []
    # Nor where the kernels were compared under other conditions: more threads, another runtime.
    elsewhere = [replace(m, conditions="others") for m in made]
    assert potentials(ranking, table, elsewhere, book, reference=None, across="worst") == []
    empty = KernelBook(Comparisons(), "blocks")  # type: ignore[arg-type]
    assert potentials(ranking, table, made, empty, reference=None, across="worst") == []


class Known:
    """A measurer that has these comparisons and makes no new one."""

    session = SimpleNamespace(environment=SimpleNamespace(further={}.get), device=SimpleNamespace(name="d"))
    study = "blocks"

    def __init__(self, names: list[str], known: dict[str, Measurement]) -> None:
        self.store = SimpleNamespace(names=lambda study, workload, precision: names)
        self.asked: list[str] = []
        self._known = known

    def known(self, subject: Subject) -> Outcome | None:
        self.asked.append(str(subject.name))
        found = self._known.get(str(subject.name))
        return None if found is None else Outcome(measurement=found, reused=True)


def test_a_search_takes_the_choice_of_its_own_spec_or_of_the_latest_like_it_that_still_holds():
    def spec(width: int) -> tuple[ShortConv, int, str]:
        return ShortConv(), width, block_name(ShortConv(), width)

    workload = capped(parse_workload("16/8"))
    names = [f"{name}/{part}*2" for name in ShortConv.lowerings for part in ("prefill", "decode0")]
    made = with_rates([(name, 1, "") for name in names], [(4.0, 1.0)] * len(names))
    block, width, own = spec(512)
    older, newer, far = spec(640)[2], spec(768)[2], spec(4096)[2]
    for names_known, known, taken in (
        ([own, newer], {own: made, newer: made}, own),
        ([own, older, newer], {older: made, newer: made}, newer),  # its own is of another runtime
        ([older, newer], {older: made}, older),
        ([far], {far: made}, None),
        ([own], {}, None),
    ):
        measurer = Known(names_known, known)
        tuner = Tuner(measurer, lambda _: None, exact=False)  # type: ignore[arg-type]
        found = tuner._like(block, width, "int4", workload)
        assert (None if found is None else block_name(found.block, found.width)) == taken
        asked = len(measurer.asked)
        assert (tuner._like(block, width, "int4", workload) is None) == (taken is None)
        assert len(measurer.asked) == asked  # what was looked up is remembered


def test_more_timings_than_a_comparison_may_have_are_told():
    said: list[str] = []
    tuner = Tuner(Known([], {}), said.append, exact=False)  # type: ignore[arg-type]
    workload = capped(parse_workload("64/4", "1,2,3,4,5,6,7"))
    assert tuner._like(ShortConv(), 512, "int4", workload) is None
    assert tuner.tuning(ShortConv(), 512, "int4", workload) is None
    assert "more than a comparison may have (64); the first lowering is used" in said[0]
