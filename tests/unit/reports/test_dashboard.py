"""What is on the dashboard's screen: links, sliders, rankings that are found again; its looks, in tests/e2e."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.budgets import parse_budgets
from reports.dashboard import Key
from reports.dashboard.board import Asked, Boards, _round_step, budgets, key_of, key_text, own_limits, sliders
from reports.dashboard.view import TABS, THEME_CHOICES, TRAY, View, read_view
from reports.details import Details
from reports.snapshot import ALL_PLACES, Snapshot, Spent

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: text.strip() == text
)
RANGES = st.tuples(NUMBERS, NUMBERS)


@given(
    st.builds(
        View, study=st.none() | TEXT, scope=st.none() | TEXT, x=st.none() | NAMES, y=st.none() | NAMES,
        of=st.sampled_from(("study", "axes")), context=st.none() | st.integers(1, 1 << 20),
        limits=st.none() | st.dictionaries(NAMES, NUMBERS, max_size=4), selected=st.none() | TEXT,
        tray=st.lists(TEXT, max_size=TRAY, unique=True).map(tuple),
        brush=st.dictionaries(NAMES, st.lists(RANGES, min_size=1, max_size=3), max_size=3),
        find=st.just("") | TEXT, theme=st.sampled_from(THEME_CHOICES), tab=st.sampled_from(TABS),
        zoom=st.dictionaries(st.sampled_from(("x", "y")), RANGES),
    )
)  # fmt: skip
def test_a_link_says_all_that_was_chosen(view: View):
    assert read_view("?" + view.query()) == view


@given(st.text(max_size=300) | st.from_regex(r"(limit|zoom|keep|vs|context|tab|of|theme)=[a-z0-9:%.&=+-]{0,80}"))
def test_any_link_is_read(query: str):
    found = read_view(query)
    assert read_view(found.query()) == found


def row(code: str, ttft: float, **more: Any) -> dict[str, Any]:
    return {
        "layout_id": f"id-{code}", "code": code, "name": None, "anchor": False, "device": "local", "workload": "w",
        "prompt": 8, "chunk": None, "decode": 4, "batch": 1, "precision": "int4", "status": "ok", "reason": "",
        "ttft_ms": ttft, "ttft_ms_low": ttft - 1, "ttft_ms_high": ttft + 1, "decode_ms": 100 / ttft,
        "embedding_share": ttft / 1000, "memory_mib": 10.0, "weights_mib": 8.0, **more,
    }  # fmt: skip


STUDY = Snapshot(
    name="s", rows=[row("CCG", 10.0), row("GGG", 20.0), row("CCC", 30.0)], objectives=("ttft_ms", "decode_ms"),
    budgets=parse_budgets(["ttft_ms<=25", "embedding_share>=1%"]),
)  # fmt: skip


class Still:
    """A study that does not change unless it is told to."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now = snapshot

    def version(self) -> str:
        return str(id(self.now))

    def snapshot(self) -> Snapshot:
        return self.now

    def going_on(self) -> str:
        return ""

    def state_mib(self, context: int) -> Mapping[str, float]:
        return {"id-CCG": 1.0 * context, "id-GGG": 2.0 * context}

    def details(self, key: Key) -> Details:
        raise LookupError(key)

    def file(self, key: Key, name: str) -> bytes:
        raise LookupError(key, name)


def asked(**more: Any) -> Asked:
    return replace(Asked(scope=STUDY.scopes()[0].key, x="ttft_ms", y="decode_ms"), **more)


def test_a_ranking_is_found_again_until_the_study_changes():
    source = Still(STUDY)
    boards = Boards(source)
    first = boards.board(asked())
    assert boards.board(asked()) is first
    assert boards.board(asked(of="axes")) is not first
    source.now = replace(STUDY, rows=STUDY.rows[:2])
    assert len(boards.board(asked()).ranking.entries) == 2


def test_limits_of_sliders_stand_beside_the_study_s_own():
    assert own_limits(STUDY) == {"ttft_ms": 25.0}, "from below is no slider of a share"
    assert [str(budget) for budget in budgets(STUDY, {"decode_ms": 4.0})] == ["embedding_share>=0.01", "decode_ms<=4"]
    board = Boards(Still(STUDY)).board(asked(limits=(("ttft_ms", 15.0),)))
    assert [entry.title for entry in board.ranking.ranked] == ["CCG"]
    assert len(Boards(Still(STUDY)).board(asked()).ranking.ranked) == 3


def test_memory_is_that_of_the_context_asked_for():
    board = Boards(Still(STUDY)).board(asked(x="memory_mib", context=1024))
    values = {
        entry.title: entry.values["memory_mib"].value
        for entry in board.ranking.entries
        if entry.values.get("memory_mib")
    }
    assert values == {"CCG": 8 + 1024.0, "GGG": 8 + 2048.0}
    limited = Boards(Still(STUDY)).board(asked(context=1024, limits=(("memory_mib", 1500.0),)))
    assert [entry.title for entry in limited.ranking.ranked] == ["CCG"]


@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=20, unique=True))
def test_a_slider_reaches_from_nobody_to_everybody(values: list[float]):
    study = replace(STUDY, rows=[row(f"C{number}", value) for number, value in enumerate(values)], budgets=())
    for slider in sliders(study, study.scopes()[0], {}):
        if slider.name == "ttft_ms":
            assert slider.low <= min(values) <= max(values) < slider.high == slider.free
            assert (slider.high - slider.low) / slider.step <= 160
            break
    else:
        assert max(values) - min(values) <= 1e-6 * max(values)


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_a_slider_reaches_as_far_as_the_limit_that_holds(limit: float, value: float):
    study = replace(STUDY, rows=[row("C", value), row("CC", 2 * value)], budgets=())
    [found] = [one for one in sliders(study, study.scopes()[0], {"ttft_ms": limit}) if one.name == "ttft_ms"]
    assert found.low <= limit < found.free, "what somebody set is shown, and is no end without a limit"


def test_device_minutes_are_those_of_the_devices_that_are_looked_at():
    rows = [row("CCG", 10.0), row("CCG", 12.0, device="board"), row("GGG", 11.0, device="odd")]
    spent = [Spent(device=name, ended_unix=1.0, seconds=took) for name, took in
             (("local", 1.0), ("board", 2.0), ("odd", 4.0))]  # fmt: skip
    study = replace(STUDY, rows=rows, spent=spent, left_out={"odd": "why"}, reference="id-CCG")
    together, *single = study.scopes()
    assert sum(one.seconds for one in study.spent_in(together)) == 3.0
    assert {scope.place[0]: sum(one.seconds for one in study.spent_in(scope)) for scope in single if scope.place} == {
        "local": 1.0, "board": 2.0, "odd": 4.0
    }  # fmt: skip
    alone = replace(study, across="board")
    assert sum(one.seconds for one in alone.spent_in(alone.scopes()[0])) == 2.0


@given(st.floats(1e-9, 1e12))
def test_steps_are_round(least: float):
    step = _round_step(least)
    assert least <= step * (1 + 1e-9)
    assert step <= 2.5 * least * (1 + 1e-9)
    mantissa = step / 10 ** __import__("math").floor(__import__("math").log10(step * (1 + 1e-9)))
    assert mantissa == pytest.approx(min((1, 2, 5, 10), key=lambda part: abs(part - mantissa)))


def test_a_brush_and_a_text_fade_the_others():
    board = Boards(Still(STUDY)).board(asked())
    assert board.faded({}, "") == ()
    assert board.faded({"ttft_ms": [(5.0, 12.0), (28.0, 40.0)]}, "") == {("id-GGG", "int4")}
    assert board.faded({}, "cc") == {("id-GGG", "int4")}
    assert board.faded({"depth": [(1.0, 2.0)]}, "") == {entry.key for entry in board.ranking.entries}


def test_keys_survive_links():
    for key in (("a", "int4"), ("with~tilde", "fp32"), ("", "")):
        assert key_of(key_text(key)) == key


def test_an_empty_study_has_no_ranking():
    empty = replace(STUDY, rows=[])
    assert empty.scopes() == ()
    with pytest.raises(LookupError, match="nothing measured yet"):
        Boards(Still(empty)).board(asked())


def test_places_are_scopes_and_all_of_them_one_more():
    rows = [row("CCG", 10.0), row("CCG", 12.0, device="phone"), row("CCG", 1.0, device="phone", prompt=16)]
    both = replace(STUDY, rows=rows)
    titles = [scope.title for scope in both.scopes()]
    assert titles == ["all devices and sizes together", "local, prompt 8", "phone, prompt 8", "phone, prompt 16"]
    assert both.scope("nonsense").key == both.scope(None).key == ALL_PLACES
    assert [r["prompt"] for r in both.rows_in(both.scope(both.scopes()[3].key))] == [16]
    alone = replace(both, across="phone")
    assert alone.scopes()[0].title == "phone alone, all sizes"
    assert {e.rows[0]["device"] for e in alone.ranking(alone.scopes()[0]).entries} == {"phone"}
    without = replace(both, left_out={"phone": "it is lost"})
    assert [scope.title for scope in without.scopes()] == titles[1:], "one place alone is not combined"
