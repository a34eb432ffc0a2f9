"""What is made of pairs: numbers, wrong outputs, what does not count; and how often it is wrong on simulated noise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archsearch.measurement import NIGHTLY
from archsearch.regress.device_runtimes import PAIRS
from archsearch.regress.notes import Note
from archsearch.regress.runtime_judged import has_moved, judged
from archsearch.regress.runtime_notes import RuntimeNote, Side, Stage
from archsearch.regress.runtime_pairs import SIDES, Noted, paired
from profiler.results import Result
from profiler.stats import Interval, error_of_pairs, ratio_of_pairs
from profiler.workloads import Point
from reports.runtime_verdicts import RuntimeVerdict, decide
from reports.values import Value
from tests.unit.archsearch.samples import measurement, result

NOTE = RuntimeNote(
    compared=1.8e9, suite="s", item="tiny", identity="x", runtimes=("1.30.0", "1.31.1"), side="a", stage="pairs",
    pair=0, quantities=("ttft_ms", "decode_ms", "peak_rss_mib"), minimum_effect=0.04, archsearch="0",
)  # fmt: skip


def sampled(of: Result, values: list[float]) -> Result:
    """The same with these logits."""
    data = json.loads(of.model_dump_json())
    for process in data["processes"]:
        for samples in process.get("points", []):
            samples["logits"] = {"finite": True, "sample": values, "rms": 1.0}
    return Result.model_validate_json(json.dumps(data))


def run(side: Side, pair: int, stage: Stage = "pairs", *, logits: list[float] | None = None, **more: Any) -> Noted:
    """One run with its note; `times` are those of `samples.result`."""
    note = replace(NOTE, side=side, pair=pair, stage=stage, **more.pop("note", {}))
    times = more.pop("times", {})
    environment = more.pop("environment", {"python": "3.11.7", "numpy": "2.4.6"})
    if more.get("status", "ok") == "ok":
        made = result(**times, points=len(more.get("points", (1,))))
        more["result"] = made if logits is None else sampled(made, logits)
    job_id = f"{stage}-{pair}-{side}".replace(" ", "-")
    notes = {**note.to_json(), "environment": environment}
    return note, measurement(1.0 + pair, NIGHTLY, job_id=job_id, notes=notes, **more)


def pairs(
    count: int = PAIRS, stage: Stage = "pairs", *, b: dict[str, Any] | None = None, **more: Any
) -> Iterator[Noted]:
    """So many pairs, whose runs differ a little; `b` is what B has of its own."""
    for pair in range(count):
        drift = 1 + 0.001 * (pair % 3)
        for side, slower in (("a", 1.0), ("b", 1.001)):
            own = dict(b or {}) if side == "b" else {}
            factor = own.pop("factor", 1.0) * drift * slower
            times = {"ttft_ms": 5.0 * factor, "decode_ms": 1.0 * factor}
            yield run("a" if side == "a" else "b", pair, stage, **{"times": times, **more, **own})


def by_quantity(noted: Iterator[Noted] | list[Noted]) -> dict[str, RuntimeVerdict]:
    return {verdict.quantity: verdict for verdict in judged(noted)}


def test_alike_is_the_same_with_its_numbers():
    said = by_quantity(pairs())
    assert set(said) == {"ttft_ms", "decode_ms", "peak_rss_mib"}
    assert {verdict.kind for verdict in said.values()} == {"SAME"}
    decode = said["decode_ms"]
    assert decode.change is not None
    assert decode.change.low < 0.001 < decode.change.high
    assert decode.change.value == pytest.approx(0.001, abs=1e-4)
    assert decode.detectable is not None
    assert 0.04 < decode.detectable < 0.06
    assert (decode.pairs, decode.left_out, decode.confirmed) == (PAIRS, 0, None)
    assert (decode.device, decode.what, decode.workload, decode.precision) == ("local", "tiny", "16/4", "int4")
    peak = said["peak_rss_mib"].change
    assert peak is not None
    assert peak.high - peak.low > 0.005, "equal peaks give no certainty"


def test_a_change_needs_fresh_pairs_that_say_the_same():
    slower = {"factor": 1.1}
    first = list(pairs(b=slower))
    [one] = paired(first).values()
    assert has_moved(one)
    assert by_quantity(first)["decode_ms"].kind == "AMBIGUOUS"
    confirmed = by_quantity([*first, *pairs(stage="fresh pairs", b=slower)])
    assert (confirmed["decode_ms"].kind, confirmed["decode_ms"].confirmed) == ("SLOWER", True)
    assert confirmed["decode_ms"].pairs == 2 * PAIRS
    assert confirmed["peak_rss_mib"].kind == "SAME"
    not_confirmed = by_quantity([*first, *pairs(stage="fresh pairs")])["decode_ms"]
    assert (not_confirmed.kind, not_confirmed.confirmed) == ("AMBIGUOUS", False)
    faster = by_quantity([*pairs(b={"factor": 0.9}), *pairs(stage="fresh pairs", b={"factor": 0.9})])
    assert faster["ttft_ms"].kind == "FASTER"
    kinds = [verdict.kind for verdict in judged([*first, *pairs(stage="fresh pairs", b=slower)])]
    assert kinds == ["SLOWER", "SLOWER", "SAME"], "the worst first"


def test_other_outputs_are_invalid_whatever_the_speed():
    alike, other = [1.0, -2.0, 3.0], [1.0, 2.0, -3.0]
    said = by_quantity(pairs(logits=alike, b={"logits": other, "factor": 0.5}))
    assert {verdict.kind for verdict in said.values()} == {"INVALID"}
    assert "its outputs are not those of onnxruntime 1.30.0: relative RMS" in said["decode_ms"].why
    assert said["decode_ms"].change is not None
    [one] = paired(pairs(logits=alike, b={"logits": other, "factor": 0.5})).values()
    assert not has_moved(one), "nothing is measured again of what is wrong"
    near = [1.01, -2.0, 3.0]
    assert {verdict.kind for verdict in judged(pairs(logits=alike, b={"logits": near}))} == {"SAME"}


@pytest.mark.parametrize(
    ("a", "b", "kind", "why"),
    [
        ("ok", "invalid", "INVALID", "onnxruntime 1.31.1 computes something wrong: so it is"),
        ("ok", "failed", "INVALID", "onnxruntime 1.31.1 does not run what 1.30.0 runs: failed: so it is"),
        ("ok", "out_of_memory", "INVALID", "does not run what 1.30.0 runs: out of memory: so it is"),
        ("invalid", "ok", "NO-DATA", "onnxruntime 1.30.0 computes something wrong itself"),
        ("failed", "ok", "NO-DATA", "onnxruntime 1.30.0 does not run it: failed: so it is"),
        ("failed", "failed", "NO-DATA", "onnxruntime 1.30.0 does not run it"),
        ("throttled", "ok", "NO-DATA", "no pair has decode_ms under both; 2 pairs are left out (throttled: so it is)"),
    ],
)
def test_what_has_no_numbers(a: str, b: str, kind: str, why: str):
    statuses = {"a": a, "b": b}
    runs = [
        run(side, pair, status=statuses[side], reason="" if statuses[side] == "ok" else "so it is")
        for pair in range(2)
        for side in SIDES
    ]
    verdict = by_quantity(runs)["decode_ms"]
    assert verdict.kind == kind
    assert why in verdict.why
    assert verdict.change is None


def test_a_pair_that_does_not_count_is_told():
    runs = [*pairs(5), run("a", 5, status="not_cooled", reason="58 °C"), run("b", 5), run("a", 6)]
    verdict = by_quantity(runs)["decode_ms"]
    assert (verdict.kind, verdict.pairs, verdict.left_out) == ("SAME", 5, 2)
    assert "2 pairs are left out (not cooled: 58 °C, the second run of it was not taken)" in verdict.why
    few = by_quantity(list(pairs(3, b={"factor": 2.0})))["decode_ms"]
    assert (few.kind, few.detectable) == ("AMBIGUOUS", None)
    assert "fewer than 4 pairs count" in few.why
    one_wrong = [*pairs(5), run("a", 5), run("b", 5, status="invalid", reason="nan")]
    assert by_quantity(one_wrong)["decode_ms"].kind == "INVALID", "once is enough"


def test_another_numpy_is_told():
    said = by_quantity(pairs(b={"environment": {"python": "3.11.7", "numpy": "1.26.4"}}))
    assert "not only onnxruntime differs: numpy 2.4.6 -> 1.26.4" in said["decode_ms"].why


def test_memory_is_judged_at_the_largest_point_alone_and_things_apart():
    points = (Point(prompt=16, decode=4), Point(prompt=32, decode=4))
    said = judged([*pairs(points=points), *pairs(precision="fp32")])
    memory = [(one.precision, one.workload) for one in said if one.quantity == "peak_rss_mib"]
    assert sorted(memory) == [("fp32", "16/4"), ("int4", "32/4")]
    assert len(said) == 3 + 5


def test_a_note_of_a_comparison_is_none_of_a_night_and_is_read_again():
    notes = NOTE.to_json()
    assert RuntimeNote.read(json.loads(json.dumps(notes))) == NOTE
    assert Note.read(notes) is None
    for name, wrong in (("side", "c"), ("runtimes", ["1"]), ("pair", "x"), ("minimum_effect", -1), ("stage", 3)):
        assert RuntimeNote.read({**notes, name: wrong}) is None
    assert RuntimeNote.read({}) is None


class Simulated:
    """A quantity of one thing: noise of each run, noise that stays from run to run, and drift over the session."""

    def __init__(self, *, noise: float, correlated: float, drift: float, seed: int) -> None:
        self._noise, self._correlated, self._drift = noise, correlated, drift
        self._rng = np.random.default_rng(seed)

    def round(self, change: float, begun: int, level: float) -> tuple[Interval, float]:
        """The ratio of one round, and the level of the noise that stays."""
        values: dict[str, list[float]] = {"a": [], "b": []}
        first = int(self._rng.integers(2))
        for number in range(PAIRS):
            order = SIDES if (first + number.bit_count()) % 2 == 0 else SIDES[::-1]
            for at, side in enumerate(order):
                level = 0.8 * level + 0.6 * self._correlated * float(self._rng.standard_normal())
                log = level + self._noise * float(self._rng.standard_normal())
                log += self._drift * (begun + 2 * number + at) / (4 * PAIRS)
                values[side].append(math.exp(log) * (1 + change * (side == "b")))
        runs = [[Interval(value=v, low=0.995 * v, high=1.005 * v) for v in values[side]] for side in ("b", "a")]
        ratio = ratio_of_pairs(values["b"], values["a"], least_half=error_of_pairs(*runs))
        assert ratio is not None
        return ratio, level

    def verdict(self, change: float) -> str:
        first, level = self.round(change, 0, 0.0)
        fresh, _ = self.round(change, 2 * PAIRS, level)
        first_value, fresh_value = (Value(value=one.value, low=one.low, high=one.high) for one in (first, fresh))
        return decide(first_value, fresh_value, first_value, direction="min", minimum_effect=0.04)[0]


@pytest.mark.parametrize(
    ("noise", "correlated", "drift"), [(0.01, 0.02, 0.0), (0.02, 0.02, 0.1), (0.05, 0.0, 0.0), (0.05, 0.1, 0.3)]
)
def test_what_did_not_change_is_hardly_ever_called_slower_or_faster(noise: float, correlated: float, drift: float):
    simulated = Simulated(noise=noise, correlated=correlated, drift=drift, seed=1)
    wrong = sum(simulated.verdict(0.0) in ("SLOWER", "FASTER") for _ in range(1000))
    assert wrong <= 3


def test_a_change_by_a_tenth_is_found_in_noise_of_a_fiftieth_and_a_small_one_never_called():
    simulated = Simulated(noise=0.02, correlated=0.02, drift=0.1, seed=2)
    assert sum(simulated.verdict(0.1) == "SLOWER" for _ in range(500)) >= 475
    quiet = Simulated(noise=0.004, correlated=0.01, drift=0.1, seed=3)
    said = [quiet.verdict(0.02) for _ in range(500)]
    assert not {"SLOWER", "FASTER"} & set(said)
    assert said.count("SAME") >= 400
