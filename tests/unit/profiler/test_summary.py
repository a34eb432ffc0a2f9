"""Summaries of results: all that tables read, and nothing of another version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from profiler.results import Result
from profiler.stats import Interval, summarise
from profiler.summary import SUMMARY_VERSION, ResultSummary, read_summary, result_summary, write_summary


def result(**changes: Any) -> Result:
    """Three processes over two points, uneven enough that every statistic has a value of its own."""
    processes: list[dict[str, Any]] = [
        {"index": 0, "kind": "check", "load_ms": None, "providers": {"CPUExecutionProvider": 12}}
    ]
    for index in (1, 2, 3):
        samples = []
        for point, size in enumerate((1.0, 3.7)):
            repeats = [
                {
                    "prefill_ns": int(size * (5_000_000 + 40_000 * index + 10_000 * rep)),
                    "ttft_ns": int(size * (5_010_000 + 40_000 * index + 10_000 * rep)),
                    "decode_ns": [int(size * (900_000 + 7_001 * ((3 * step + rep + index) % 11))) for step in range(9)],
                    "other_cpu": 0.01, "kept": (index, rep) != (2, 0),
                }
                for rep in range(3)
            ]  # fmt: skip
            logits = {"finite": True, "tokens": [1], "sample": [0.1 * index, -1.25, None, 1e-7], "rms": 1.0}
            samples.append({"point": point, "repeats": repeats, "warm": index != 3 or point == 0, "logits": logits})
        processes.append({"index": index, "kind": "timing", "load_ms": 410.5 + index**2, "points": samples})
    processes.append({"index": 4, "kind": "memory", "memory": {"peak_rss_mib": 612.25, "source": "VmHWM"}})
    data = {
        "format": 1, "job_id": "j", "method": "m", "status": "ok", "environment": {}, "processes": processes,
        "seconds": {"total": 21.5}, "stopped_because": "interval", **changes,
    }  # fmt: skip
    return Result.model_validate_json(json.dumps(data))


PINNED = (
    1,
    '{"points":[{"ttft_ms":[5.101666666666667,5.002042729909837,5.201290603423496],'
    '"decode_ms":[0.9326713333333334,0.9226303760796749,0.9427122905869919],"decode_ms_p95":[0.97001,0.963009,'
    '0.9730222871760977],"point":0,"p95_underpowered":true,"single_process":false,'
    '"decode_spread":0.0075063956077416946,"ttft_spread":0.01568114995099642,"processes":3,"sequences":8,'
    '"discarded":1,"decode_samples":72,"warm":true},{"ttft_ms":[18.876166666666666,18.507558100666397,'
    '19.244775232666935],"decode_ms":[3.4508833333333335,3.4137313612295235,3.4880353054371436],'
    '"decode_ms_p95":[3.589037,3.563133,3.600182591631143],"point":1,"p95_underpowered":true,'
    '"single_process":false,"decode_spread":0.007506483847130971,"ttft_spread":0.015681149950996374,'
    '"processes":3,"sequences":8,"discarded":1,"decode_samples":72,"warm":false}],"load_ms":[415.1666666666667,'
    '405.1271436305846,425.20618970274876],"peak_rss_mib":612.25,"providers":{"CPUExecutionProvider":12},'
    '"logits":[[0,[0.1,-1.25,1e-07]],[1,[0.1,-1.25,1e-07]]],"stopped_because":"interval","total_s":21.5}',
)
"""Version and text: whoever changes what is computed of samples changes both, here and in `profiler.stats`."""


def test_the_summary_of_these_samples_is_of_this_version():
    version, text = PINNED
    assert version == SUMMARY_VERSION
    numbers, expected = ([*_leaves(json.loads(one))] for one in (write_summary(result_summary(result())), text))
    assert [place for place, _ in numbers] == [place for place, _ in expected]
    for (place, got), (_, wanted) in zip(numbers, expected, strict=True):  # quantiles of t differ in the last digits
        assert got == (pytest.approx(wanted, rel=1e-9) if type(wanted) is float else wanted), place


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, f"{place}.{key}")
    else:
        yield place, value


def test_it_says_what_the_result_says():
    found, whole = result_summary(result()), result()
    assert found.points == summarise(whole)
    assert found.load_ms is not None
    assert found.load_ms.value == pytest.approx(410.5 + 14 / 3)
    assert (found.peak_rss_mib, found.stopped_because, found.total_s) == (612.25, "interval", 21.5)
    assert found.providers == {"CPUExecutionProvider": 12}
    assert found.logits == {point: [0.1, -1.25, 1e-7] for point in (0, 1)}


@pytest.mark.parametrize(
    "summary",
    [
        result_summary(result()),
        result_summary(result(processes=[], status="timeout", stopped_because=None, seconds={})),
        ResultSummary(load_ms=Interval(value=1 / 3, low=0.1 + 0.2, high=5e-324), total_s=1e300),
    ],
)
def test_it_reads_back_equal_to_the_last_digit(summary: ResultSummary):
    assert read_summary(write_summary(summary)) == summary


def test_a_result_that_is_not_ok_has_no_statistics():
    assert result_summary(result(status="throttled")).points == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"points":[{}]}', write_summary(ResultSummary())[:-1] + ',"x":1}'])
def test_what_is_no_summary_is_refused(text: str):
    with pytest.raises(ValueError):
        read_summary(text)
