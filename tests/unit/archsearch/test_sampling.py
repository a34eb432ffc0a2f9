"""The sampler: asks, learns, and goes on from what was measured before."""

from __future__ import annotations

import random
from typing import Any

import pytest

from archsearch.errors import StudyError
from archsearch.measurement import ANCHOR
from archsearch.outcomes import latest_rows, study_values, violation_of
from archsearch.sampling import SAMPLERS, Asked, Sampler
from archsearch.table import rows
from profiler.workloads import Point
from reports.budgets import parse_budget
from reports.ranking import rank
from tests.unit.archsearch.samples import measurement

OPTIONS = {name: list(range(8)) for name in "abc"}


def make(name: str = "nsga2", seed: int = 0, directions: tuple[str, ...] = ("min", "max")) -> Sampler:
    return Sampler(name, directions=directions, seed=seed, population=8)


def choose(asked: Asked) -> dict[str, int]:
    return {name: asked.choose(name, options) for name, options in OPTIONS.items()}


def values_of(chosen: dict[str, int]) -> list[float]:
    return [float(sum(chosen.values())), float(chosen["a"])]


def run(sampler: Sampler, trials: int) -> list[tuple[Asked, dict[str, int], dict[str, Any]]]:
    found = []
    for _ in range(trials):
        asked = sampler.ask()
        chosen = choose(asked)
        notes = sampler.attributes(asked)
        sampler.tell(asked, values_of(chosen), {"limit": chosen["b"] - 6.0})
        found.append((asked, chosen, notes))
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_asks_and_learns(name: str):
    found = run(make(name), 20)
    assert len({tuple(chosen.values()) for _, chosen, _ in found}) > 5


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_from_stored_trials(name: str):
    told = run(make(name), 20)
    sampler = make(name, seed=7919)
    for asked, chosen, notes in told:
        sampler.replay(asked.choices, notes, values_of(chosen), {"limit": chosen["b"] - 6.0})
    assert all(0 <= value < 8 for _, chosen, _ in run(sampler, 10) for value in chosen.values())


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_a_replayed_sampler_has_learned_as_much(name: str):
    # One objective, the sum: what a sampler that learned suggests is smaller than what chance would (10.5 on average).
    def mean(sampler: Sampler) -> float:
        sums = []
        for _ in range(30):
            asked = sampler.ask()
            chosen = choose(asked)
            sums.append(sum(chosen.values()))
            sampler.tell(asked, [float(sums[-1])], {})
        return sum(sums) / len(sums)

    first = make(name, directions=("min",))
    history = []
    for _ in range(60):
        asked = first.ask()
        chosen = choose(asked)
        notes = first.attributes(asked)
        first.tell(asked, [float(sum(chosen.values()))], {})
        history.append((asked, chosen, notes))
    second = make(name, seed=1, directions=("min",))
    for asked, chosen, notes in history:
        second.replay(asked.choices, notes, [float(sum(chosen.values()))], {})
    assert mean(second) < 7.5
    assert mean(first) < 7.5


def test_a_knob_is_chosen_once():
    asked = make().ask()
    assert asked.choose("a", OPTIONS["a"]) == asked.choose("a", OPTIONS["a"])
    assert asked.choose("single", ["only"]) == "only"
    assert asked.choices["single"] == (("only",), 0)


def test_draws_without_the_sampler_are_even_and_can_be_told():
    sampler = make()
    drawn = []
    for _ in range(200):
        asked = sampler.ask_at_random()
        assert isinstance(asked.trial, random.Random)
        drawn.append(choose(asked)["a"])
        sampler.refuse(asked)
    assert set(drawn) == set(range(8))
    asked = sampler.ask_at_random()
    sampler.tell(asked, values_of(choose(asked)), {"limit": 0.0})
    assert sampler.attributes(asked) == {}


def test_the_same_seed_asks_the_same():
    assert [c for _, c, _ in run(make(seed=3), 12)] == [c for _, c, _ in run(make(seed=3), 12)]
    assert [c for _, c, _ in run(make(seed=3), 12)] != [c for _, c, _ in run(make(seed=4), 12)]


def test_an_unknown_sampler_is_told():
    with pytest.raises(StudyError, match="nsga2"):
        make("cma")


# What the sampler is told


POINTS = (Point(prompt=16, decode=4), Point(prompt=32, decode=4))


def test_values_are_the_worst_ratio_over_points_and_devices():
    table = rows([
        measurement(1, points=POINTS, times={"decode_ms": 1.0, "peak_rss_mib": 100.0}),
        measurement(1, points=POINTS, device="phone", times={"decode_ms": 2.0, "peak_rss_mib": 50.0}),
    ])  # fmt: skip
    anchors = rows([
        measurement(1, ANCHOR, points=POINTS, times={"decode_ms": 2.0, "peak_rss_mib": 50.0}),
        measurement(1, ANCHOR, points=POINTS, device="phone", times={"decode_ms": 1.0, "peak_rss_mib": 50.0}),
    ])  # fmt: skip
    names = ("decode_ms", "decode_tokens_per_s", "peak_rss_mib")
    values = study_values(table, names, ["local", "phone"], reference=anchors)
    assert values == pytest.approx([2.0, 0.5, 2.0])


def test_there_are_no_values_in_several_places_where_a_ranking_has_none():
    table = rows([measurement(1, points=POINTS, times={"decode_ms": 9.0})])
    reference = rows([measurement(1, ANCHOR, points=POINTS)])
    assert study_values(table, ("decode_ms",), ["local"], reference=reference) == pytest.approx([9.0])
    for known in ((), reference[:1], [{**row, "status": "failed"} for row in reference]):
        assert study_values(table, ("decode_ms",), ["local"], reference=known) is None
        assert study_values(table, ("decode_ms", "total_params"), ["local"], reference=known) is None
        assert rank([*known, *table], ["decode_ms"]).ranked == ()
    assert study_values(table, ("total_params",), ["local"]) == [table[0]["total_params"]]
    assert study_values(table[:1], ("decode_ms",), ["local"]) == pytest.approx([9.0]), "one place needs no reference"


def test_the_latest_of_each_place_are_those_of_a_ranking():
    pieces = (Point(prompt=32, decode=4), Point(prompt=32, chunk=16, decode=4))
    table = rows([measurement(1, points=pieces)])
    assert [row["chunk"] for row in latest_rows(table)] == [None, 16]
    again = [table[0] | {"job_id": "again"}, table[1] | {"status": "failed"}]
    assert [row["job_id"] for row in latest_rows([*table, *again])] == ["again", table[1]["job_id"]]
    assert latest_rows([table[1] | {"status": "failed"}, table[1] | {"status": "timeout"}])[0]["status"] == "timeout"


def test_there_are_no_values_when_any_is_missing():
    good = rows([measurement(1)])
    assert study_values(good, ("decode_ms",), ["local"]) is not None
    assert study_values(good, ("decode_ms",), ["local", "phone"]) is None
    assert study_values([], ("decode_ms",), ["local"]) is None
    failed = rows([measurement(1), measurement(1, device="phone", status="timeout", reason="slow")])
    assert study_values(failed, ("decode_ms",), ["local", "phone"]) is None


def test_a_measurement_made_again_replaces_the_first():
    slower = {"decode_ms": 1.1}
    table = rows([
        measurement(1, ANCHOR), measurement(2), measurement(3, "watch", times=slower),
        measurement(4, times={"decode_ms": 1.2}), measurement(5, "watch", times=slower),
    ])  # fmt: skip
    mine = latest_rows(row for row in table if row["trial"] == 0)
    assert [row["status"] for row in mine] == ["ok"]
    assert study_values(mine, ("decode_ms",), ["local"]) == pytest.approx([1.2])


def test_a_violation_is_the_worst_and_missing_is_one():
    budget = parse_budget("decode_ms<=1")
    table = rows([measurement(1, times={"decode_ms": 0.5}), measurement(1, device="b", times={"decode_ms": 1.5})])
    assert violation_of(budget, table) == pytest.approx(0.5, abs=1e-6)
    assert violation_of(budget, table[:1]) == pytest.approx(-0.5, abs=1e-6)
    assert violation_of(budget, rows([measurement(1, status="failed")])) == 1.0
