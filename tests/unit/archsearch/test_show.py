"""What `archsearch show` says to people: which point a row is of, who was lost, how far a budget is exceeded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli.show import columns, excess_text, print_study
from archsearch.configuration import new_config
from archsearch.measurement import ANCHOR, Measurement
from archsearch.records import layout_json, to_record
from archsearch.store import Store
from archsearch.timing import LEFT_OUT, POOLS, RUN_ENDED, RUN_STARTED
from profiler.jobs import MeasurementKey
from profiler.workloads import Point
from reports.budgets import parse_budget
from reports.errors import UnknownNameError
from tests.unit.archsearch.samples import measurement

WHOLE, PIECES = Point(prompt=64, decode=4), Point(prompt=64, chunk=32, decode=4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "study.db") as opened:
        yield opened


def keep(store: Store, *measurements: Measurement, across: str = "worst") -> None:
    config = new_config({
        "space": "tiny", "workload": "16/4", "precision": "int4", "objective": ["decode_ms"], "budget": [],
        "anchor": ["CG:width=64,vocab=512,ffn=96,head_dim=16"], "sampler": "random", "seed": 0, "across": across,
        "tune": False, "lowering": {},
    })  # fmt: skip
    store.create_study("s", config)
    for found in measurements:
        assert found.result is not None
        assert found.layout is not None
        key = MeasurementKey(fields={"method": "m", "job": found.job_id})
        raw = found.result.model_dump_json().encode()
        record = to_record(found, study="s", key=key, device_fingerprint="f", raw_result=raw, info={})
        store.add_measurement(record, layout=layout_json(found.layout), code=found.layout.code)


def both(*points: Point, device: str = "a", **changes: Any) -> tuple[Measurement, Measurement]:
    points = points or (WHOLE,)
    anchor = measurement(1, ANCHOR, points=points, device=device, job_id=f"{device}-anchor", **changes)
    times = {"decode_ms": 1.5}
    return anchor, measurement(2, points=points, times=times, device=device, job_id=f"{device}-one", **changes)


def test_rows_of_several_points_say_which_they_are_of(store: Store, capsys: pytest.CaptureFixture[str]):
    keep(store, *both(WHOLE, PIECES))
    for style in ("table", "md"):
        print_study(store, "s", output_format=style)
        shown = capsys.readouterr()
        lines = [line.replace("|", " ").split() for line in shown.out.splitlines() if "---" not in line]
        heading, *rows = lines
        assert heading[:10] == ["#", "front", "name", "layout", "device", "chunk", "status", "decode", "ms", "decode"]
        assert heading[10] == "×ref"
        assert sorted(line[line.index("a") + 1] for line in rows) == ["32", "32", "—", "—"]
        assert [line[line.index("ok") + 3] for line in rows] == ["1.000"] * 2 + ["1.500"] * 2
    print_study(store, "s", output_format="table")
    assert "several places: ranked by ×ref, the worst ratio to the anchor" in capsys.readouterr().err
    print_study(store, "s", output_format="csv")
    names = next(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert names[:8] == ["rank", "front", "name", "code", "device", "chunk", "status", "decode_ms"]
    assert names[8] == "decode_ms_relative"


def test_columns_are_those_that_differ_and_ratios_follow_their_objective():
    first = {"workload": "w", "prompt": 16, "chunk": None, "decode": 4, "batch": 1, "precision": "int4"}
    names = ["ttft_ms", "total_params"]
    plain = columns(names, [first, first])
    assert plain[:8] == ["rank", "front", "name", "code", "device", "status", "ttft_ms", "total_params"]
    found = columns(names, [first, {**first, "batch": 4, "decode": 8, "precision": "int8"}], ["ttft_ms"])
    assert found == [
        "rank", "front", "name", "code", "device", "decode", "batch", "precision", "status", "ttft_ms",
        "ttft_ms_relative", "total_params", "effective_params", "embedding_share", "layout_id", "reason",
    ]  # fmt: skip


def test_a_device_that_alone_counts_and_measured_nothing_leaves_the_others_ranked(
    store: Store, capsys: pytest.CaptureFixture[str]
):
    keep(store, *both(), across="b")
    print_study(store, "s", output_format="csv")
    shown = capsys.readouterr()
    assert [row["rank"] for row in csv.DictReader(io.StringIO(shown.out))] == ["1", "1"], "the anchor is beside"
    said = "archsearch: b has measured nothing in this study, and cannot count alone; ranked by worst\n"
    assert shown.err == said
    with pytest.raises(UnknownNameError, match="no way across devices 'nonsense'"):
        print_study(store, "s", output_format="csv", across="nonsense")
    store.add_event("s", RUN_STARTED, {"owner": "o", "devices": ["a", "c"], POOLS: {"a": "a", "c": "c", "p": "phones"}})
    store.add_event("s", RUN_ENDED, {"owner": "o", "driver": {}, LEFT_OUT: {"phones": "out of reach"}})
    for lost in ("c", "phones"):
        print_study(store, "s", output_format="csv", across=lost)
        assert capsys.readouterr().err == said.replace("b has", f"{lost} has")


def test_a_device_of_a_group_is_no_way_across(store: Store):
    keep(store, *both(group="phones"))
    store.add_event("s", RUN_STARTED, {"owner": "o", "devices": ["a"]})
    with pytest.raises(UnknownNameError, match="worst, geomean, phones"):
        print_study(store, "s", output_format="csv", across="a")


@pytest.mark.parametrize(
    ("budget", "value", "said"),
    [
        ("ttft_ms<=100", 107, "7.0% above"),
        ("ttft_ms<=100", 199, "99.0% above"),
        ("ttft_ms<=100", 200, "2.0x the limit"),
        ("ttft_ms<=100", 858, "8.6x the limit"),
        ("ttft_ms<=100", 1.234567e6, "12,345.7x the limit"),
        ("ttft_ms<100", 100, "at the limit"),
        ("ttft_ms<=100", 100.01, "under 0.1% above"),
        ("decode_tokens_per_s>=100", 65, "35.0% below"),
        ("decode_tokens_per_s>=100", 0, "100.0% below"),
        ("embedding_share<=0", 0.25, "0.25 above it"),
    ],
)
def test_an_excess_is_readable(budget: str, value: float, said: str):
    limit = parse_budget(budget)
    assert excess_text(limit, limit.excess(value)) == said
