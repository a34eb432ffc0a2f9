"""Events that are damaged, or of another version: they are passed over, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.cli.regress_series import say_damaged
from archsearch.regress.events import acceptance_of, damaged, loss_of, plan_of
from archsearch.regress.notes import ACCEPTED, LOST, NIGHT, STUDY
from archsearch.regress.series import load_series
from archsearch.store import Store
from tests.unit.archsearch.regress.nights import block, lost, night, plan

ODD = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3)
JSON = st.recursive(ODD, lambda one: st.lists(one, max_size=5) | st.dictionaries(st.text(max_size=3), one, max_size=3))
NAMES = ("night", "suite", "devices", "asked", "device", "reason", "time", "by", "series", "pinned")
ASKED = st.lists(st.tuples(JSON, JSON, JSON, JSON, st.lists(st.lists(ODD, max_size=6), max_size=2)).map(list))


@given(
    st.dictionaries(st.sampled_from(NAMES), JSON | ASKED)
    | st.fixed_dictionaries({"night": st.floats(), "suite": JSON, "devices": st.lists(JSON), "asked": ASKED})
)
def test_any_object_is_read_or_passed_over(event: dict[str, Any]):
    loss, accepted, read = loss_of(event), acceptance_of(event), plan_of(event)
    assert loss is None or loss[0][0] == event["night"]
    assert accepted is None or accepted[1].reason.strip()
    hash((loss, accepted, read))


def test_damaged_events_are_passed_over_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with Store.open(tmp_path / "study.db") as store:
        store.create_study(STUDY, {})
        plan(store, night(0))
        block(store, night(0))
        plan(store, night(1))
        lost(store, night(1), "local", "no answer")
        before = load_series(store)
        say_damaged(store)
        assert capsys.readouterr().err == ""
        for kind in (NIGHT, LOST, ACCEPTED):
            store.add_event(STUDY, kind, {})
        store.add_event(STUDY, ACCEPTED, {"series": before[0].key, "time": night(0), "reason": " ", "by": "me"})
        assert load_series(store) == before
        assert damaged(store) == 4
        say_damaged(store)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("archsearch: 4 events of nights in ")
    assert line.endswith("are passed over")
