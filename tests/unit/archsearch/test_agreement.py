"""Devices are compared by their outputs, and one that computes something else is not ranked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsearch.agreement import disagreements
from archsearch.cli.show import print_study
from archsearch.configuration import new_config
from archsearch.judging import AtWork, Judgement
from archsearch.left_out import left_out
from archsearch.measurement import ANCHOR, WATCH, Measurement
from archsearch.records import layout_json, to_record
from archsearch.store import Store
from archsearch.table import rows
from archsearch.timing import LEFT_OUT, POOLS, RUN_ENDED, RUN_STARTED
from profiler.jobs import MeasurementKey
from profiler.results import Logits
from search_space.notation import resolve
from tests.unit.archsearch.samples import ANCHOR_LAYOUT, LAYOUT, measurement, result

LAYOUT_2 = resolve("CGCG:width=64,vocab=512,ffn=96,head_dim=16").layout

SAMPLES = {
    "right": (1.0, -1.0, 0.5, 2.0),
    "close": (1.02, -0.97, 0.52, 1.96),
    "wrong": (-0.3, 1.4, 1.1, -0.2),
    "else": (0.1, 0.2, -2.0, 0.3),
}


def on(device: str, sample: str, at: float = 1.0, role: str = "candidate", **changes: Any) -> Measurement:
    found = result()
    logits = Logits(finite=True, tokens=(1, 2), sample=SAMPLES[sample], rms=1.0)
    processes = tuple(
        process.model_copy(
            update={"points": tuple(p.model_copy(update={"logits": logits}) for p in process.points)}
        )
        for process in found.processes
    )  # fmt: skip
    return measurement(
        at, role, device=device, job_id=f"{device}-{role}-{at:g}", seed=0,
        result=found.model_copy(update={"processes": processes}), **changes,
    )  # fmt: skip


def jobs(*measurements: Measurement) -> set[str]:
    return {job.partition("-")[0] for job in disagreements(measurements)}


def test_devices_that_agree_are_not_doubted():
    assert jobs(on("a", "right"), on("b", "close"), on("c", "right")) == set()
    assert jobs(on("a", "right")) == set()


def test_the_odd_one_out_is_wrong():
    assert jobs(on("a", "right"), on("b", "wrong"), on("c", "close")) == {"b"}
    found = disagreements([on("a", "right"), on("b", "wrong"), on("c", "close")])
    assert found["b-candidate-1"].startswith("its outputs are not those of a: relative RMS 1.")


def test_of_two_both_are_doubted_and_of_three_that_all_differ_all():
    assert jobs(on("a", "right"), on("b", "wrong")) == {"a", "b"}
    assert jobs(on("a", "right"), on("b", "wrong"), on("c", "else")) == {"a", "b", "c"}


def test_fp32_must_agree_closely():
    assert jobs(on("a", "right", precision="fp32"), on("b", "close", precision="fp32")) == {"a", "b"}


def test_other_weights_are_another_question():
    other = on("b", "wrong")
    assert jobs(on("a", "right"), measurement(1, device="b", job_id="b-x", seed=1, result=other.result)) == set()


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "study.db") as opened:
        yield opened


def keep(store: Store, *measurements: Measurement) -> None:
    config = new_config({
        "space": "tiny", "workload": "16/4", "precision": "int4", "objective": ["decode_ms"], "budget": [],
        "anchor": ["CG:width=64,vocab=512,ffn=96,head_dim=16"], "sampler": "random", "seed": 0, "across": "worst",
        "tune": False, "lowering": {},
    })  # fmt: skip
    store.create_study("s", config)
    for found in measurements:
        assert found.result is not None
        assert found.layout is not None
        raw = found.result.model_dump_json().encode()
        key = MeasurementKey(fields={"method": "m", "job": found.job_id})
        record = to_record(found, study="s", key=key, device_fingerprint="f", raw_result=raw, info={})
        store.add_measurement(record, layout=layout_json(found.layout), code=found.layout.code)


def anchor(device: str, sample: str = "right") -> Measurement:
    return on(device, sample, 0.5, ANCHOR, layout=ANCHOR_LAYOUT)


def test_a_device_that_disagrees_is_shown_and_not_ranked(store: Store, capsys: pytest.CaptureFixture[str]):
    keep(store, *(m for d, s in (("a", "right"), ("b", "wrong"), ("c", "close")) for m in (anchor(d, s), on(d, s))))
    print_study(store, "s", output_format="csv")
    shown = capsys.readouterr()
    lines = [line.split(",") for line in shown.out.splitlines()]
    ranked = {line[4] for line in lines[1:] if line[0]}
    assert ranked == {"a", "c"}
    assert "ranked without b" in shown.err
    assert "its outputs are not those of a" in shown.err
    assert sum(line[4] == "b" for line in lines) == 2, "its rows are there all the same"


def test_a_candidate_that_one_device_computes_otherwise_is_not_the_device_s_end(
    store: Store, capsys: pytest.CaptureFixture[str]
):
    other = [on(d, "right", 2.0, layout=LAYOUT_2, trial=1) for d in "abc"]
    keep(
        store, *(m for d, s in (("a", "right"), ("b", "wrong"), ("c", "close")) for m in (anchor(d), on(d, s))), *other
    )
    print_study(store, "s", output_format="json")
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert {row["device"] for row in rows if row["rank"] and row["trial"] == 1} == {"a", "b", "c"}
    assert not any(row["rank"] for row in rows if row["trial"] == 0)
    assert {row["device"] for row in rows if row["disagrees"]} == {"b"}
    assert "ranked without" not in shown.err


def test_a_device_that_is_outvoted_twice_is_not_believed_in_anything():
    measurements = [anchor(d) for d in "abc"]
    for trial, layout in enumerate((LAYOUT, LAYOUT_2)):
        measurements += [
            on(d, "wrong" if d == "b" else "right", 1.0 + trial, layout=layout, trial=trial) for d in "abc"
        ]
    assert set(Judgement(measurements, ANCHOR_LAYOUT.layout_id).wrong) == {"b"}
    assert Judgement(measurements[:6], ANCHOR_LAYOUT.layout_id).wrong == {}


def test_one_that_is_wrong_convicts_nobody_else():
    found = [anchor("a"), anchor("b", "wrong"), anchor("c"), on("a", "right"), on("b", "wrong")]
    judgement = Judgement(found, ANCHOR_LAYOUT.layout_id)
    assert set(judgement.wrong) == {"b"}
    assert judgement.status(found[3])[0] == "ok"
    assert judgement.status(found[4])[0] == "invalid"


def test_a_device_that_was_mended_is_believed_again():
    found = [anchor("a"), anchor("b", "wrong"), anchor("c")]
    again = on("b", "right", 9.0, WATCH, layout=ANCHOR_LAYOUT)
    assert Judgement([*found, again], ANCHOR_LAYOUT.layout_id).wrong == {}


def test_nobody_is_convicted_before_all_have_answered():
    now = {name: AtWork(name, "") for name in "abc"}
    assert Judgement([anchor("a"), anchor("b", "wrong")], ANCHOR_LAYOUT.layout_id, now).wrong == {}
    found = [anchor("a"), anchor("b", "wrong"), anchor("c")]
    assert set(Judgement(found, ANCHOR_LAYOUT.layout_id, now).wrong) == {"b"}


def test_a_device_that_was_lost_does_not_keep_the_others_from_being_ranked(store: Store):
    other = on("a", "right", 2.0, layout=LAYOUT_2, trial=1)
    found = [anchor("a"), anchor("b"), on("a", "right"), on("b", "right"), other]
    keep(store, *found)
    judgement = Judgement(found)

    def without() -> dict[str, str]:
        return left_out(store, "s", found, rows(found, judgement), judgement, ANCHOR_LAYOUT.layout_id)

    assert without() == {}, "it may only be slow"
    store.add_event("s", RUN_ENDED, {LEFT_OUT: {"b": "out of reach"}})
    assert without() == {"b": "it lacks 1 of 2 candidates (out of reach)"}
    store.add_event("s", RUN_ENDED, {LEFT_OUT: {"a": "gone", "b": "out of reach"}})
    assert set(without()) == {"b"}, "what has most is the best that is known"
    store.add_event("s", RUN_ENDED, {LEFT_OUT: {}})
    assert without() == {}
    store.add_event("s", RUN_STARTED, {POOLS: {"a": "a"}})
    assert without() == {"b": "it lacks 1 of 2 candidates (the last run was without it)"}
