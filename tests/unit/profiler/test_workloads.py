"""Workloads by name, spelled out, and with batch sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import WorkloadError
from profiler.workloads import Point, Workload, parse_batches, parse_workload, workloads


def test_the_named_ones():
    assert {w.name: [p.text for p in w.points] for w in workloads()} == {
        "quick": ["256/32"],
        "edge": ["1024/32@512", "4096/32@512"],
        "long": ["4096/32@512", "32768/32@512"],
    }
    assert parse_workload("long").max_context == 32800
    assert all(w.description for w in workloads())


@pytest.mark.parametrize("text", ["512/64", "prompt=512,decode=64", " 512 / 64 ", "512,64"])
def test_custom_sizes(text: str):
    assert parse_workload(text).points == (Point(prompt=512, decode=64),)


@pytest.mark.parametrize("text", ["4096/32@512", "prompt=4096,decode=32,chunk=512", "4096 / 32 @ 512"])
def test_a_prefill_in_pieces(text: str):
    workload = parse_workload(text)
    assert workload.points == (Point(prompt=4096, decode=32, chunk=512),)
    assert parse_workload(workload.name) == workload
    assert workload.points[0] != Point(prompt=4096, decode=32)
    with pytest.raises(WorkloadError, match="at batch 1 only"):
        Point(batch=2, prompt=64, decode=1, chunk=16)


@given(
    st.builds(
        Point, prompt=st.integers(1, 99), decode=st.integers(1, 9), depth=st.integers(0, 9), chunk=st.integers(0, 9)
    )
)
def test_points_survive_lists(point: Point):
    assert Point.from_list(point.to_list()) == point


def test_several_custom_sizes():
    assert parse_workload("512/64;1024/8").name == "512/64;1024/8"


def test_batches_multiply_the_points_and_show_in_the_name():
    workload = parse_workload("edge", "1,4")
    # Attention's kernel continues a sequence by several tokens at batch 1 only.
    assert [p.text for p in workload.points] == ["1024/32@512", "4096/32@512", "4x1024/32", "4x4096/32"]
    assert workload.name == "edge batch 1,4"
    assert parse_workload("edge", "1") == parse_workload("edge")


@pytest.mark.parametrize(
    ("text", "batches", "said"),
    [
        ("qick", None, "did you mean 'quick'"),
        ("", None, "allowed: quick, edge, long"),
        ("512", None, "512/64"),
        ("0/5", None, "prompt must be 1 to"),
        ("5/0", None, "decode must be 1 to"),
        ("9999999999999999999999/1", None, "no workload"),
        ("-1/5", None, "no workload"),
        ("64/8;64/8", None, "same point twice"),
        ("64/8@0", None, "at least one token"),
        ("quick", "0", "batch sizes are"),
        ("quick", "1,,2", "batch sizes are"),
        ("quick", "x", "not 'x'"),
        ("quick", "99999", "1 to 1024"),
        ("quick", "-1", "not '-1'"),
    ],
)
def test_mistakes_say_what_would_be_right(text: str, batches: str | None, said: str):
    with pytest.raises(WorkloadError, match=said):
        parse_workload(text, batches)


def test_too_many_points_are_refused():
    with pytest.raises(WorkloadError, match="17 points"):
        Workload(name="x", points=tuple(Point(prompt=i, decode=1) for i in range(1, 18)), description="")


@given(st.integers(1, 2**20), st.integers(1, 2**16), st.lists(st.integers(1, 1024), min_size=1, max_size=4))
def test_a_custom_name_reads_back(prompt: int, decode: int, batches: list[int]):
    workload = parse_workload(f"{prompt}/{decode}")
    assert parse_workload(workload.name) == workload
    assert workload.max_context == prompt + decode
    assert parse_batches(",".join(map(str, batches))) == tuple(batches)
