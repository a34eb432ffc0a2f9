"""What a study knows of its anchors."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.measured import Measured
from archsearch.measurement import ANCHOR, WATCH
from archsearch.store import Store
from tests.unit.archsearch.samples import ANCHOR_LAYOUT, LAYOUT, measurement


@pytest.fixture
def measured(tmp_path: Path):
    with Store.open(tmp_path / "study.db") as store:
        yield Measured(store, "s", ANCHOR_LAYOUT.layout_id)


@pytest.mark.parametrize(
    ("role", "status", "spoilt"),
    [
        (ANCHOR, "ok", False),
        (ANCHOR, "out_of_memory", False),  # an outcome, if a bad one
        (ANCHOR, "throttled", True),
        (ANCHOR, "not_cooled", True),
        (WATCH, "ok", True),  # a short run that watches is no measurement of the anchor
    ],
)
def test_an_anchor_is_spoilt_until_a_run_of_it_says_something(measured: Measured, role: str, status: str, spoilt: bool):
    measured.add(measurement(1, role, layout=ANCHOR_LAYOUT, status=status))
    assert measured.spoilt(ANCHOR_LAYOUT, ["local"]) is spoilt
    assert measured.spoilt(LAYOUT, ["local"])
    measured.add(measurement(2, ANCHOR, layout=ANCHOR_LAYOUT))
    assert not measured.spoilt(ANCHOR_LAYOUT, ["local"])
    assert measured.spoilt(ANCHOR_LAYOUT, ["local", "phone"])
