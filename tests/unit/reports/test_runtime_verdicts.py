"""Verdicts on two runtimes: what a ratio says by itself, and what two rounds of pairs say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.runtime_verdicts import decide, found
from reports.values import Value
from reports.verdict import Kind

RATIOS = (
    st.tuples(*[st.floats(0.2, 5.0)] * 3).map(sorted).map(lambda ends: Value(value=ends[1], low=ends[0], high=ends[2]))
)
EFFECTS = st.floats(0.001, 1.0)


def ratio(value: float, half: float = 0.01) -> Value:
    return Value(value=value, low=value - half, high=value + half)


@given(RATIOS, EFFECTS)
def test_nothing_below_the_minimum_effect_is_found_and_nothing_within_noise(one: Value, least: float):
    kind = found(one, direction="min", minimum_effect=least)
    if kind is Kind.SLOWER:
        assert one.low > 1
        assert one.value >= 1 + least
    elif kind is Kind.FASTER:
        assert one.high < 1
        assert one.value <= 1 / (1 + least)
    else:
        assert kind is None
        assert one.low <= 1 <= one.high or 1 / (1 + least) < one.value < 1 + least


@given(RATIOS, EFFECTS)
def test_more_of_what_is_better_is_faster(one: Value, least: float):
    mirrored = {Kind.SLOWER: Kind.FASTER, Kind.FASTER: Kind.SLOWER, None: None}
    kind = found(one, direction="min", minimum_effect=least)
    assert found(one, direction="max", minimum_effect=least) is mirrored[kind]


@given(st.none() | RATIOS, st.none() | RATIOS, st.none() | RATIOS, EFFECTS)
def test_slower_and_faster_need_two_rounds_that_agree(
    first: Value | None, fresh: Value | None, everything: Value | None, least: float
):
    kind, why = decide(first, fresh, everything, direction="min", minimum_effect=least)
    alone = [found(one, direction="min", minimum_effect=least) for one in (first, fresh)]
    assert (kind in (Kind.SLOWER, Kind.FASTER)) == (
        everything is not None and alone[0] is not None and alone == [kind] * 2
    )
    if kind is Kind.SAME:
        assert everything is not None
        assert everything.high < 1 + least
        assert everything.low > 1 / (1 + least)
    assert why


@pytest.mark.parametrize(
    ("first", "fresh", "kind", "why"),
    [
        (None, None, "AMBIGUOUS", "fewer than 4 pairs count"),
        (ratio(1.0), None, "SAME", "the whole interval lies within 5.0%"),
        (ratio(1.02), ratio(1.03), "SAME", "the whole interval lies within 5.0%"),
        (ratio(1.045), None, "AMBIGUOUS", "the change is below 5.0%"),
        (ratio(1.1, 0.2), None, "AMBIGUOUS", "the interval does not leave out that nothing changed"),
        (ratio(1.1), None, "AMBIGUOUS", "+10.0% at first; too few fresh pairs"),
        (ratio(1.1), ratio(1.01), "AMBIGUOUS", "fresh pairs do not confirm it: +10.0% at first, +1.0% in fresh pairs"),
        (ratio(1.1), ratio(0.9), "AMBIGUOUS", "fresh pairs do not confirm it"),
        (ratio(1.1), ratio(1.08), "SLOWER", "fresh pairs confirm it: +10.0% at first, +8.0% in fresh pairs"),
        (ratio(0.9), ratio(0.88), "FASTER", "fresh pairs confirm it: -10.0% at first"),
        (ratio(1.049), ratio(1.2), "AMBIGUOUS", "all pairs together find it, and the first ones alone did not"),
    ],
)
def test_what_is_said(first: Value | None, fresh: Value | None, kind: str, why: str):
    both = [one.value for one in (first, fresh) if one is not None]
    everything = ratio(sum(both) / len(both), first.high - first.value) if first is not None else None
    said = decide(first, fresh, everything, direction="min", minimum_effect=0.05)
    assert said[0] == kind
    assert said[1].startswith(why)
