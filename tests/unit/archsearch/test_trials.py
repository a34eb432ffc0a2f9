"""Trials: new layouts only, final when the anchor was seen again, taken up where another run left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.configuration import new_config, settings
from archsearch.measured import Measured
from archsearch.measurement import ANCHOR, WATCH, Measurement, conditions
from archsearch.records import layout_json, to_record
from archsearch.store import Store
from archsearch.study_settings import Settings
from archsearch.trials import MAX_TRIES, Trial, Trials
from profiler.jobs import MeasurementKey
from tests.unit.archsearch.samples import ANCHOR_LAYOUT, measurement

ONE_LAYOUT = """
description: one layout
width: [64]
depth: [2]
embedding: {vocab_size: [512]}
mixers: {gqa: {head_dim: 16, heads: 2, kv_heads: 1}}
pattern: free
ffn: {hidden: 64}
constraints: {min_global_mixers: 1}
"""


ANCHOR_TEXT = "CG:width=64,vocab=512,ffn=96,head_dim=16"
"""Notation of `ANCHOR_LAYOUT`."""


def study_settings(space: str, across: str = "worst") -> Settings:
    return settings(
        new_config({
            "space": space, "workload": "16/4", "precision": "int4", "objective": ["decode_ms"], "budget": [],
            "anchor": [ANCHOR_TEXT], "sampler": "random", "seed": 0, "across": across,
            "tune": False, "lowering": {},
        })
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "study.db") as opened:
        opened.create_study("s", {})
        yield opened


class Run:
    """A run without devices: measurements are put in by hand, at ascending times."""

    def __init__(
        self, store: Store, space: str = "tiny", *, pools: Sequence[str] = ("local",), across: str = "worst"
    ) -> None:
        self.store = store
        self.pools = list(pools)
        self.measured = Measured(store, "s", ANCHOR_LAYOUT.layout_id)
        self.measured.load()
        self.trials = Trials(store, "s", study_settings(space, across), self.measured, lambda: self.pools, wanted=None)

    def add(self, found: Measurement) -> None:
        raw = None if found.result is None else found.result.model_dump_json().encode()
        key = MeasurementKey(fields={"method": "m", "job": found.job_id})
        found = replace(found, conditions=conditions(key.fields))
        record = to_record(found, study="s", key=key, device_fingerprint="f", raw_result=raw, info={})
        assert found.layout is not None
        self.store.add_measurement(record, layout=layout_json(found.layout), code=found.layout.code)
        self.measured.add(found)

    def anchor(self, at: float, role: str = WATCH, *, device: str = "local", group: str = "", **times: float) -> None:
        self.add(measurement(at, role, times=times, device=device, group=group))

    def measure(self, trial: Trial | None, at: float, **changes: Any) -> None:
        assert trial is not None
        self.add(measurement(at, layout=trial.layout, trial=trial.number, **changes))
        self.trials.settle()

    def states(self) -> list[str]:
        return [record.state for record in self.store.trials("s")]


def test_every_trial_is_a_new_layout(store: Store):
    run = Run(store)
    asked = [run.trials.ask() for _ in range(12)]
    assert [trial.number for trial in asked if trial] == list(range(12))
    assert len({trial.layout.layout_id for trial in asked if trial}) == 12
    assert [record.layout_id for record in store.trials("s")] == [t.layout.layout_id for t in asked if t]
    assert run.states() == ["open"] * 12
    assert run.trials.done() == 0


def test_a_used_up_space_gives_none(store: Store, tmp_path: Path):
    space = tmp_path / "one.yaml"
    space.write_text(ONE_LAYOUT, encoding="utf-8")
    run = Run(store, str(space))
    assert run.trials.ask() is not None
    assert run.trials.ask() is None


def test_an_outcome_waits_for_the_anchor(store: Store):
    run = Run(store)
    run.anchor(1, ANCHOR)
    trial = run.trials.ask()
    assert run.trials.unmeasured("local") is trial
    run.measure(trial, 2)
    assert run.trials.unmeasured("local") is None
    assert run.trials.done() == 1
    assert run.states() == ["open"]
    run.anchor(3)
    run.trials.settle()
    assert run.states() == ["done"]


def test_a_trial_that_the_device_moved_under_is_measured_again_but_not_for_ever(store: Store):
    run = Run(store)
    run.anchor(1, ANCHOR)
    trial = run.trials.ask()
    for attempt in range(MAX_TRIES):
        assert run.trials.unmeasured("local") is trial
        run.measure(trial, 10 * attempt + 2)
        run.anchor(10 * attempt + 3, decode_ms=1.1 + attempt)
        run.trials.settle()
    assert run.trials.unmeasured("local") is None
    assert run.states() == ["failed"]


def test_a_candidate_that_cannot_run_has_failed_at_once(store: Store):
    run = Run(store)
    run.anchor(1, ANCHOR)
    run.measure(run.trials.ask(), 2, status="out_of_memory", reason="too big")
    assert run.states() == ["failed"]
    assert run.trials.done() == 1


def test_a_lost_device_decides_nothing(store: Store):
    # What it was to measure is still open for the next run, not a failure of the layout.
    run = Run(store)
    run.anchor(1, ANCHOR)
    trial = run.trials.ask()
    assert trial is not None
    run.pools = []
    run.trials.settle()
    assert run.states() == ["open"]
    again = Run(store).trials.unmeasured("local")
    assert again is not None
    assert (again.number, again.layout, again.lost) == (trial.number, trial.layout, {})


def test_only_devices_that_are_still_there_count(store: Store):
    run = Run(store)
    run.pools = ["local", "phone"]
    for device in run.pools:
        run.add(measurement(1, ANCHOR, device=device, job_id=device))
    trial = run.trials.ask()
    run.measure(trial, 2)
    run.anchor(3)
    run.trials.settle()
    assert run.trials.unmeasured("local") is None
    assert run.trials.unmeasured("phone") is trial
    run.pools = ["local"]
    run.trials.settle()
    assert run.states() == ["done"]
    # The phone comes back in a later run: what it lacks is queued, and the sampler waits for it.
    again = Run(store)
    assert again.trials.unmeasured("local") is None
    later = Run(store, pools=["local", "phone"])
    missing = later.trials.unmeasured("phone")
    assert missing is not None
    assert (missing.number, missing.told) == (trial.number, False)
    assert later.trials.unmeasured("local") is None


@pytest.mark.parametrize(("across", "states"), [("worst", ["open", "open"]), ("local", ["open", "open"])])
def test_the_sampler_is_told_when_the_pools_that_count_have_answered(store: Store, across: str, states: list[str]):
    run = Run(store, pools=["local", "phone"], across=across)
    for device in run.pools:
        run.add(measurement(1, ANCHOR, device=device, job_id=device))
    first, second = run.trials.ask(), run.trials.ask()
    assert first is not None
    assert second is not None
    run.measure(first, 2)
    run.measure(second, 3)
    run.anchor(4)
    run.trials.settle()
    assert [first.told, second.told] == [across == "local"] * 2
    assert run.trials.waiting() == (0 if across == "local" else 2)
    assert run.states() == states, "open until the phone has them too"
    run.measure(first, 5, device="phone")
    run.add(measurement(6, WATCH, device="phone", job_id="watch on the phone"))
    run.trials.settle()
    assert first.told
    assert run.states() == ["done", "open"]
    assert run.trials.unmeasured("phone") is second


def test_devices_of_a_group_share_the_trials(store: Store):
    run = Run(store, pools=["phones"])
    run.anchor(1, ANCHOR, device="phone1", group="phones")
    trial, other = run.trials.ask(), run.trials.ask()
    assert trial is not None
    trial.at_work.add("phones")
    assert run.trials.unmeasured("phones") is other, "the first is at work"
    trial.at_work.clear()
    run.add(measurement(2, layout=trial.layout, trial=trial.number, device="phone1", group="phones"))
    run.anchor(3, device="phone2", group="phones")
    run.trials.settle()
    assert not trial.told, "another device's anchor says nothing of this one"
    run.anchor(4, device="phone1", group="phones")
    run.trials.settle()
    assert trial.told


def test_another_run_goes_on_where_one_stopped(store: Store):
    first = Run(store)
    first.anchor(1, ANCHOR)
    first.measure(first.trials.ask(), 2)
    first.anchor(3)
    first.trials.settle()
    first.measure(first.trials.ask(), 4)  # its anchor run is missing
    waiting = first.trials.ask()
    assert waiting is not None

    second = Run(store)
    assert second.trials.done() == 2
    taken = second.trials.unmeasured("local")
    assert taken is not None
    assert (taken.number, taken.layout) == (waiting.number, waiting.layout)
    second.anchor(5)
    second.trials.settle()
    assert second.states() == ["done", "done", "open"]
    new = second.trials.ask()
    assert new is not None
    assert new.number == 3


def test_what_another_process_finished_is_learned(store: Store):
    mine, theirs = Run(store), Run(store)
    theirs.anchor(1, ANCHOR)
    trial = theirs.trials.ask()
    theirs.measure(trial, 2)
    mine.trials.learn_from_others()
    assert mine.trials.done() == 0
    theirs.anchor(3)
    theirs.trials.settle()
    mine.trials.learn_from_others()
    assert mine.trials.done() == 1
    assert len(mine.measured) == 3
    drawn = [mine.trials.ask() for _ in range(8)]
    assert trial is not None
    assert trial.layout.layout_id not in {found.layout.layout_id for found in drawn if found}
