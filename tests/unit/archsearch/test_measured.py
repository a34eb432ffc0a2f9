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
    assert measured.settled(ANCHOR_LAYOUT, device="local") is not spoilt
    assert not measured.settled(LAYOUT, device="local")
    measured.add(measurement(2, ANCHOR, layout=ANCHOR_LAYOUT))
    assert measured.settled(ANCHOR_LAYOUT, device="local")
    assert not measured.settled(ANCHOR_LAYOUT, device="phone")
    measured.add(measurement(3, ANCHOR, layout=ANCHOR_LAYOUT, device="phone1", group="phones"))
    assert measured.settled(ANCHOR_LAYOUT, pool="phones")
    assert not measured.settled(ANCHOR_LAYOUT, device="phone2")


def test_devices_of_a_group_must_be_alike(measured: Measured):
    for device, decode_ms in (("a", 1.0), ("b", 1.01), ("c", 1.2)):
        measured.add(
            measurement(
                ord(device),
                ANCHOR,
                layout=ANCHOR_LAYOUT,
                device=device,
                group="g",
                job_id=device,
                times={"decode_ms": decode_ms},
            )
        )
    assert set(measured.judgement().unlike) == {"c"}
    assert "it is not like a, of the same group" in measured.judgement().unlike["c"]
    assert "+20.0%" in measured.judgement().unlike["c"]
    # One run that is like them: the others before it may have been of a warm device.
    measured.add(measurement(200, WATCH, layout=ANCHOR_LAYOUT, device="c", group="g", job_id="again"))
    assert measured.judgement().unlike == {}
