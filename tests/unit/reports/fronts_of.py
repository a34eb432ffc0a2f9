"""Fronts of made-up studies for tests, in a few words: two times to minimise, parameters to maximise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.front_verdicts import FrontVerdict, judge_front
from reports.study_fronts import FrontNight, Reading, Said, Scope, StudyFront
from reports.values import Value
from tests.unit.reports.nightly import DAY

Numbers = Mapping[str, tuple[float, float, float]]
"""ttft_ms, decode_ms and effective_params of each layout."""
NAMES = ("ttft_ms", "decode_ms", "effective_params")
FOUR: Numbers = {
    "small": (10.0, 1.0, 1e8), "middle": (14.0, 1.4, 1.5e8), "large": (20.0, 2.0, 2e8), "poor": (24.0, 2.4, 1.4e8),
}  # fmt: skip
"""Three on the front, and one that the middle and the large one dominate."""


def front(numbers: Numbers, *, half: float = 0.005, said: str = "on", **options: Any) -> StudyFront:
    values = {
        layout: {
            name: Value(value=one, low=one * (1 - half * timed), high=one * (1 + half * timed))
            for name, one, timed in zip(NAMES, row, (1, 1, 0), strict=True)
        }
        for layout, row in numbers.items()
    }
    defaults: dict[str, Any] = {
        "study": "search", "name": "search", "objectives": NAMES, "fixed": ("effective_params",), "budgets": (),
        "across": "worst", "precision": "int4", "scopes": (Scope(values=values),),
        "said": tuple(Said(layout=one, title=one, front=said, item=f"search {one}") for one in numbers),
    }  # fmt: skip
    return StudyFront(**defaults | options)


def night(number: int, numbers: Numbers, *, noise: float = 0.05, **options: Any) -> FrontNight:
    readings = {
        layout: {
            name: Reading(value=Value(value=one, low=one * 0.995, high=one * 1.005), noise=noise)
            for name, one in zip(NAMES[:2], row, strict=False)
        }
        for layout, row in numbers.items()
    }
    return FrontNight(time=number * DAY, readings=readings, **options)


def slower(numbers: Numbers, layout: str, factor: float) -> Numbers:
    ttft_ms, decode_ms, params = numbers[layout]
    return {**numbers, layout: (ttft_ms * factor, decode_ms * factor, params)}


def judged(told: StudyFront, nights: Sequence[FrontNight], **options: str) -> FrontVerdict:
    return judge_front(told, nights, **{"device": "board", "workload": "256/32", "precision": "int4"} | options)
