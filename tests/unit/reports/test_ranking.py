"""Ranking: order, budgets, anchors, rows without numbers, several devices."""

import itertools
import math

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reports.budgets import parse_budgets
from reports.errors import RankingError, UnknownNameError
from reports.ranking import prepare, rank

OBJECTIVES = ("ttft_ms", "decode_ms", "effective_params")


def row(code, ttft=100.0, decode=10.0, *, params=280_000_000, status="ok", half=0.0, **more):
    ok = status == "ok"
    return {
        "layout_id": f"id-{code}", "code": code, "device": "local", "workload": "quick", "prompt": 256, "decode": 32,
        "batch": 1, "precision": "int4", "status": status, "reason": "" if ok else f"it was {status}",
        "ttft_ms": ttft if ok else None, "ttft_ms_low": ttft - half if ok else None,
        "ttft_ms_high": ttft + half if ok else None, "decode_ms": decode if ok else None, "peak_rss_mib": 600.0,
        "effective_params": params, "anchor": False, "name": None,
    } | more  # fmt: skip


def order(ranking):
    return [entry.rows[0]["code"] for entry in ranking.entries]


def test_tiers_first_then_contribution():
    ranking = rank([row("bad", 120, 12), row("a", 100, 10), row("b", 90, 11)], OBJECTIVES)
    assert order(ranking)[-1] == "bad"
    assert [entry.tier for entry in ranking.entries] == [1, 1, 2]
    assert [entry.rank for entry in ranking.entries] == [1, 2, 3]
    assert [entry.front for entry in ranking.entries] == ["on", "on", "dominated"]


def test_overlapping_intervals_are_uncertain():
    ranking = rank([row("a", 100, half=3), row("b", 102, half=3), row("c", 110, half=3)], ["ttft_ms"])
    assert [entry.front for entry in ranking.entries] == ["on", "uncertain", "dominated"]


def test_an_interval_without_upper_end_overlaps_all_above():
    fast = row("fast", decode_tokens_per_s=100.0, decode_tokens_per_s_low=98.0, decode_tokens_per_s_high=102.0)
    vague = row("vague", decode_tokens_per_s=80.0, decode_tokens_per_s_low=40.0, decode_tokens_per_s_high=None)
    exact = row("exact", decode_tokens_per_s=80.0)
    for others in ({}, {"reference": "id-fast"}):
        ranking = rank([fast, vague, exact], ["decode_tokens_per_s"], **others)
        fronts = {entry.rows[0]["code"]: entry.front for entry in ranking.entries}
        assert fronts == {"fast": "on", "vague": "uncertain", "exact": "dominated"}


def test_rows_without_ok_are_listed_with_their_reason_and_never_ranked():
    ranking = rank([row("slow", status="timeout"), row("a"), row("gone", status="failed")], OBJECTIVES)
    assert [(e.rows[0]["code"], e.rank, e.reason) for e in ranking.entries] == [
        ("a", 1, ""),
        ("gone", None, "it was failed"),
        ("slow", None, "it was timeout"),
    ]


@pytest.mark.parametrize("hole", [None, math.nan, math.inf])
def test_an_ok_row_with_a_hole_is_not_ranked_and_says_which(hole):
    ranking = rank([row("a"), row("b", decode=hole)], OBJECTIVES)
    assert [(e.rank, e.reason) for e in ranking.entries] == [(1, ""), (None, "has no decode_ms")]


def test_budgets_rank_only_what_fits():
    rows = [row("fast", 50, peak_rss_mib=900.0), row("small", 100, peak_rss_mib=500.0)]
    ranking = rank(rows, OBJECTIVES, parse_budgets(["peak_rss_mib<=512"]))
    assert [(e.rows[0]["code"], e.rank, e.feasible) for e in ranking.entries] == [
        ("small", 1, True),
        ("fast", None, False),
    ]
    assert not ranking.nothing_feasible


def test_with_nothing_feasible_the_nearest_misses_come_in_order_with_their_excess():
    rows = [row("far", 400), row("near", 210), row("both", 205, peak_rss_mib=1024.0), row("dead", status="failed")]
    ranking = rank(rows, OBJECTIVES, parse_budgets(["ttft_ms<=200", "peak_rss_mib<=800"]))
    assert ranking.nothing_feasible
    misses = ranking.nearest_misses()
    assert [e.rows[0]["code"] for e in misses] == ["near", "both", "far"]
    assert misses[0].violation == pytest.approx(0.05)
    assert misses[1].violations == pytest.approx({"ttft_ms<=200": 0.025, "peak_rss_mib<=800": 0.28})
    assert ranking.entries[-1].status == "failed"


def test_a_layout_refused_before_measuring_counts_as_infeasible():
    ranking = rank([row("big", status="infeasible", peak_rss_mib=None)], OBJECTIVES, parse_budgets(["peak_rss_mib<=1"]))
    assert ranking.nothing_feasible
    assert ranking.nearest_misses() == ()


def test_anchors_stand_beside_and_move_nobody():
    rows = [row("a", 100), row("c", 300), row("anchor", 200, anchor=True, name="lfm")]
    ranking = rank(rows, ["ttft_ms"])
    assert [(e.title, e.rank, e.anchor) for e in ranking.entries] == [
        ("a", 1, False),
        ("lfm", 2, True),
        ("c", 2, False),
    ]
    assert [e.rank for e in ranking.ranked] == [1, 2]
    assert ranking.entries[2].tier == 2


def test_anchors_stay_on_the_list_when_they_miss_a_budget_or_failed():
    rows = [row("a", 100), row("x", 900, anchor=True), row("y", anchor=True, status="failed")]
    ranking = rank(rows, ["ttft_ms"], parse_budgets(["ttft_ms<=500"]))
    assert [(e.rows[0]["code"], e.rank) for e in ranking.entries] == [("a", 1), ("x", None), ("y", None)]
    assert len(ranking.front()) == 3


def test_the_latest_ok_row_of_a_place_counts():
    rows = [row("a", 100), row("a", status="throttled"), row("a", 120)]
    (entry,) = rank(rows, ["ttft_ms"]).entries
    assert entry.values["ttft_ms"].value == 120


def test_a_data_frame_is_as_good_as_a_list():
    rows = [row("a", 100), row("b", 90, 20), row("c", status="failed")]
    assert rank(pd.DataFrame(rows), OBJECTIVES).table() == rank(rows, OBJECTIVES).table()


def test_bad_requests_are_refused_in_words():
    with pytest.raises(UnknownNameError, match="ttft_ms"):
        rank([row("a")], ["ttft"])
    with pytest.raises(UnknownNameError, match="worst, geomean, local"):
        rank([row("a")], ["ttft_ms"], across="best")
    with pytest.raises(RankingError, match="nothing to rank"):
        rank([row("a")], [])


def test_no_rows_give_an_empty_ranking():
    ranking = rank([], OBJECTIVES)
    assert ranking.entries == ()
    assert not ranking.nothing_feasible


# several places

PHONE = {"device": "phone"}


def two_devices():
    return [
        row("ref", 100, anchor=True), row("ref", 1000, anchor=True, **PHONE),
        row("a", 50), row("a", 1500, **PHONE),
        row("b", 90), row("b", 900, **PHONE),
    ]  # fmt: skip


def test_several_devices_compare_ratios_to_the_reference_by_the_worst():
    ranking = rank(two_devices(), ["ttft_ms"])
    assert ranking.reference == "ref"
    assert ranking.relative == ("ttft_ms",)
    found = {e.title: e.values["ttft_ms"].value for e in ranking.entries}
    assert found == pytest.approx({"ref": 1.0, "a": 1.5, "b": 0.9})
    assert [e.title for e in ranking.ranked] == ["b", "a"]


def test_geomean_and_one_device():
    geomean = rank(two_devices(), ["ttft_ms"], across="geomean")
    assert {e.title: e.values["ttft_ms"].value for e in geomean.entries}["a"] == pytest.approx(math.sqrt(0.75))
    local = rank(two_devices(), ["ttft_ms"], across="local")
    assert [(e.title, e.values["ttft_ms"].value) for e in local.ranked] == [("a", 50), ("b", 90)]
    assert local.relative == ()


def test_the_worst_of_a_maximised_objective_is_the_smallest_ratio():
    rows = [row(c, device=d, decode_tokens_per_s=v, anchor=c == "ref")
            for c, d, v in [("ref", "x", 10.0), ("ref", "y", 20.0), ("a", "x", 20.0), ("a", "y", 10.0)]]  # fmt: skip
    ranking = rank(rows, ["decode_tokens_per_s"])
    assert {e.title: e.values["decode_tokens_per_s"].value for e in ranking.entries}["a"] == 0.5


def test_a_place_without_a_number_for_everybody_is_left_out():
    rows = [row(c, prompt=p, peak_rss_mib=m, anchor=c == "ref")
            for c, p, m in [("ref", 1, None), ("ref", 4, 800.0), ("a", 1, None), ("a", 4, 400.0)]]  # fmt: skip
    ranking = rank(rows, ["peak_rss_mib"])
    assert {e.title: e.values["peak_rss_mib"].value for e in ranking.entries} == {"ref": 1.0, "a": 0.5}


def test_where_the_reference_has_no_numbers_nobody_is_ranked():
    rows = [
        row("ref", 10, anchor=True), row("ref", anchor=True, status="failed", **PHONE),
        row("x", 9), row("x", 300, **PHONE),
        row("y", 12), row("y", 12, **PHONE),
    ]  # fmt: skip
    ranking = rank(rows, ["ttft_ms", "effective_params"])
    assert ranking.ranked == ()
    said = {entry.title: entry.reason for entry in ranking.entries}
    assert said["x"] == said["y"] == "the reference ref has no numbers at phone quick 256 32 1"
    assert said["ref"] == "it was failed"
    assert all(entry.values == {} for entry in ranking.entries)
    lacking = [r for r in rows if r["status"] == "ok"]  # no row at all, in place of a failed one
    assert {e.reason for e in rank(lacking, ["ttft_ms"]).entries if e.title != "ref"} == {said["x"]}
    assert len(rank(lacking, ["ttft_ms"], across="local").ranked) == 2
    assert len(rank(lacking, ["effective_params"]).ranked) == 2, "what is of the layout needs no reference"


@pytest.mark.parametrize("reference", [None, 0.0])
def test_a_quantity_that_the_reference_has_nowhere_or_as_zero_cannot_be_related(reference):
    rows = [row(c, device=d, state_mib=reference if c == "ref" else 2.0, anchor=c == "ref")
            for c in ("ref", "a") for d in ("x", "y")]  # fmt: skip
    said = {entry.title: entry.reason for entry in rank(rows, ["state_mib"]).entries}
    assert said["a"] == "the reference ref has no state_mib to relate to"


def test_an_anchor_counts_in_the_places_of_the_candidates():
    rows = [row("ref", 100, anchor=True), row("a", 50), row("ref", 10, anchor=True, **PHONE)]
    for reference in (None, "ref"):
        ranking = rank(rows, ["ttft_ms"], reference=reference)
        found = [(e.title, e.rank, e.values["ttft_ms"].value) for e in ranking.entries]
        assert found == [("a", 1, 50), ("ref", 2, 100)]
    more = [*two_devices(), row("other", 80, anchor=True), row("other", 800, anchor=True, **PHONE),
            row("other", 1, anchor=True, device="third")]  # fmt: skip
    other = next(e for e in rank(more, ["ttft_ms"], reference="ref").entries if e.title == "other")
    assert (other.rank, other.values["ttft_ms"].value) == (1, pytest.approx(0.8))


def test_a_row_has_its_own_reason_and_that_of_its_entry_as_a_whole():
    rows = [row("a", 50, reason="may be unstable"), row("a", status="timeout", **PHONE),
            row("c", 10, reason="may be unstable")]  # fmt: skip
    ranking = rank([*two_devices()[:2], *two_devices()[4:], *rows], ["ttft_ms"])
    said = {(r["code"], r["device"]): r["reason"] for r in ranking.table()}
    assert said["a", "phone"] == "it was timeout"
    assert said["a", "local"] == "may be unstable", "the phone's reason is the phone's"
    assert said["c", "local"] == "not measured at phone quick 256 32 1; may be unstable"
    assert said["b", "local"] == said["b", "phone"] == ""


def test_parameters_are_not_made_relative():
    ranking = rank(two_devices(), ["ttft_ms", "effective_params"])
    assert ranking.entries[0].values["effective_params"].value == 280_000_000
    assert ranking.relative == ("ttft_ms",)


def test_a_candidate_that_one_device_lacks_is_listed_with_the_reason():
    rows = [*two_devices(), row("c", 10)]
    entry = next(e for e in rank(rows, ["ttft_ms"]).entries if e.title == "c")
    assert entry.rank is None
    assert entry.reason == "not measured at phone quick 256 32 1"


def test_in_several_places_without_a_reference_nobody_is_ranked_and_everybody_is_shown():
    rows = [{**r, "anchor": False} for r in two_devices()]
    for reference, said in ((None, "no anchor was measured"), ("zz", "the reference 'zz' was not measured")):
        ranking = rank(rows, ["ttft_ms"], reference=reference)
        assert len(ranking.table()) == len(rows)
        assert all(entry.rank is None and said in entry.reason for entry in ranking.entries)
    assert rank(rows, ["ttft_ms"], reference="a").reference == "a"


# properties

times = st.integers(1, 6).map(lambda n: n * 16.0)


@st.composite
def tables(draw):
    codes = [f"{i}" for i in range(draw(st.integers(1, 7)))]
    return [
        row(code, draw(times), draw(times), params=draw(st.integers(1, 4)) * 10**8, half=draw(st.integers(0, 3)) * 8.0,
            status=draw(st.sampled_from(["ok"] * 6 + ["failed"])), anchor=draw(st.booleans()) and draw(st.booleans()))
        for code in codes
    ]  # fmt: skip


def facts(ranking):
    return [(e.key, e.rank, e.tier, e.front, e.feasible, e.reason) for e in ranking.entries]


BUDGETS = parse_budgets(["ttft_ms<=80", "effective_params>=150M"])


@given(tables(), st.randoms())
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert facts(rank(rows, OBJECTIVES, BUDGETS)) == facts(rank(shuffled, OBJECTIVES, BUDGETS))


@given(tables(), st.sampled_from([0.25, 3.0, 1000.0]))
def test_a_device_that_is_slower_by_a_factor_ranks_the_same(rows, factor):
    fields = ("ttft_ms", "ttft_ms_low", "ttft_ms_high")
    scaled = [{**r, **{f: r[f] and r[f] * factor for f in fields}} for r in rows]
    assert facts(rank(rows, OBJECTIVES)) == facts(rank(scaled, OBJECTIVES))


@given(tables())
def test_anchors_change_nothing_for_candidates(rows):
    without = [r for r in rows if not r["anchor"]]
    assume(without)
    kept = [
        fact
        for fact in facts(rank(rows, OBJECTIVES, BUDGETS))
        if fact[0] in {e[0] for e in facts(rank(without, OBJECTIVES))}
    ]
    assert kept == facts(rank(without, OBJECTIVES, BUDGETS))


@given(tables())
def test_ranks_count_up_and_nobody_stands_before_who_dominates_them(rows):
    ranking = rank(rows, OBJECTIVES, BUDGETS)
    assert [e.rank for e in ranking.ranked] == list(range(1, len(ranking.ranked) + 1))
    for before, after in itertools.combinations(ranking.ranked, 2):
        a, b = (
            [e.values[n].value * (-1 if n == "effective_params" else 1) for n in OBJECTIVES] for e in (before, after)
        )
        assert not (all(y <= x for x, y in zip(a, b, strict=True)) and a != b)
    for entry in ranking.entries:
        limits = entry.rows[0]["status"] == "ok" and (
            entry.rows[0]["ttft_ms"] <= 80 and entry.rows[0]["effective_params"] >= 150e6
        )
        assert (entry.rank is not None) == limits
    assert len(ranking.entries) == len(rows)


def test_what_a_device_moved_by_is_noise_on_the_front():
    def front(spread: float) -> list[str | None]:
        rows = [
            {"code": code, "status": "ok", "device": "a", "decode_ms": ms, "decode_ms_low": ms, "decode_ms_high": ms,
             "decode_ms_spread": spread, "precision": "int4"}
            for code, ms in (("best", 1.0), ("near", 1.05), ("far", 1.5))
        ]  # fmt: skip
        return [entry.front for entry in rank(rows, ["decode_ms"]).entries]

    assert front(0.0) == ["on", "dominated", "dominated"]
    assert front(0.06) == ["on", "uncertain", "dominated"]


amount = st.integers(1, 6).map(float)
small_tables = st.lists(st.tuples(amount, amount, st.booleans()), min_size=1, max_size=12)


@given(small_tables, st.lists(st.sampled_from(["ttft_ms<=3", "decode_ms<=4", "peak_rss_mib<=600"]), max_size=2))
def test_what_was_prepared_once_ranks_as_what_is_ranked_at_once(table, budgets):
    rows = [row(f"c{at}", *times, anchor=anchor) for at, (*times, anchor) in enumerate(table)]
    prepared = prepare(rows, ["ttft_ms", "decode_ms"])
    prepared.rank()
    assert prepared.rank(parse_budgets(budgets)) == rank(rows, ["ttft_ms", "decode_ms"], parse_budgets(budgets))


@given(small_tables)
def test_every_anchor_stands_where_it_would_stand_were_it_a_candidate(table):
    rows = [row(f"c{at}", *times, half=0.5, anchor=anchor) for at, (*times, anchor) in enumerate(table)]
    found = {entry.key: entry for entry in rank(rows, ["ttft_ms", "decode_ms"]).entries}
    candidates = [one for one in rows if not one["anchor"]]
    for anchor in (one for one in rows if one["anchor"]):
        alone = rank([*candidates, anchor | {"anchor": False}], ["ttft_ms", "decode_ms"])
        [expected] = [entry for entry in alone.entries if entry.rows[0]["code"] == anchor["code"]]
        got = found[expected.key]
        assert (got.rank, got.tier, got.front) == (expected.rank, expected.tier, expected.front)
        assert got.hv_contribution == pytest.approx(expected.hv_contribution)


def test_what_is_drawn_besides_ranks_nobody():
    rows = [row("a", 100, peak_rss_mib=500.0), row("b", 90, peak_rss_mib=None)]
    plain, drawn = rank(rows, ["ttft_ms"]), rank(rows, ["ttft_ms"], drawn=["peak_rss_mib", "ttft_ms"])
    assert [(e.key, e.rank, e.front) for e in drawn.entries] == [(e.key, e.rank, e.front) for e in plain.entries]
    assert [set(e.values) for e in drawn.entries] == [{"ttft_ms"}, {"ttft_ms", "peak_rss_mib"}]
    assert drawn.relative == ()
    assert [q.name for q in drawn.objectives] == ["ttft_ms"]
    with pytest.raises(UnknownNameError):
        rank(rows, ["ttft_ms"], drawn=["tftt_ms"])


def test_what_is_drawn_over_several_places_is_a_ratio_where_objectives_are():
    rows = [
        row("x", 100, anchor=True), row("x", 200, anchor=True, device="phone"),
        row("a", 50, peak_rss_mib=300.0), row("a", 50, peak_rss_mib=900.0, device="phone"),
    ]  # fmt: skip
    ranking = rank(rows, ["ttft_ms", "effective_params"], drawn=["peak_rss_mib", "weights_mib"])
    assert ranking.relative == ("ttft_ms", "peak_rss_mib")
    [entry] = ranking.ranked
    assert entry.values["peak_rss_mib"].value == pytest.approx(1.5)
    alone = rank(rows, ["effective_params"], drawn=["ttft_ms"])
    assert (alone.relative, alone.reference) == (("ttft_ms",), "x")
    assert alone.ranked[0].values["ttft_ms"].value == pytest.approx(0.5)


def test_without_a_reference_nothing_is_drawn_as_a_ratio_and_all_are_ranked_as_before():
    rows = [row("a", 50), row("a", 70, device="phone")]
    ranking = rank(rows, ["effective_params"], drawn=["ttft_ms"])
    assert (ranking.relative, ranking.reference) == ((), None)
    assert set(ranking.ranked[0].values) == {"effective_params"}


def test_a_place_where_the_reference_has_no_numbers_ranks_nobody_down_for_what_is_only_drawn():
    rows = [row("x", 100, anchor=True), row("a", 50), row("a", 70, device="phone")]
    ranking = rank(rows, ["effective_params"], drawn=["ttft_ms"])
    assert [entry.title for entry in ranking.ranked] == ["a"]
    assert set(ranking.ranked[0].values) == {"effective_params"}
