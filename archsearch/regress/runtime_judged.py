"""Verdicts on a comparison of two runtimes, from its pairs: outputs first, then the numbers of each quantity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from archsearch.agreement import unlike
from archsearch.measurement import UNSETTLED, Measurement
from archsearch.objectives import Objective, objectives
from archsearch.regress.runtime_notes import Side, Stage
from archsearch.regress.runtime_pairs import SIDES, Noted, Pair, Paired, paired
from archsearch.regress.series import OF_THE_LARGEST
from profiler.stats import Interval, error_of_pairs, found_twice, ratio_of_pairs
from reports.runtime_verdicts import FEWEST_PAIRS, ORDER, RuntimeVerdict, decide, found
from reports.values import Value
from reports.verdict import Kind

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """What some pairs say of one quantity.

    Attributes:
        values: Geometric means of A and of B.
        ratio: B / A; None of a single pair.
        pairs: With numbers on both sides.
    """

    values: tuple[float, float]
    ratio: Interval | None
    pairs: int

    @property
    def judgeable(self) -> Value | None:
        """The ratio, where enough pairs are behind it."""
        if self.ratio is None or self.pairs < FEWEST_PAIRS:
            return None
        return Value(value=self.ratio.value, low=self.ratio.low, high=self.ratio.high)


def judged(noted: Iterable[Noted]) -> list[RuntimeVerdict]:
    """Verdicts on one comparison, the worst first, else in the order in which things were first measured."""
    found_all = [verdict for one in paired(noted).values() for verdict in _judged(one)]
    return sorted(found_all, key=lambda verdict: ORDER.index(verdict.kind))


def has_moved(one: Paired) -> bool:
    """Whether the first pairs found a change in any quantity, so that fresh ones have to confirm it."""
    if _wrong(one) is not None:
        return False
    for known, at in _quantities(one):
        first = _numbers(one.of("pairs"), known, at)
        ratio = None if first is None else first.judgeable
        if found(ratio, direction=known.direction, minimum_effect=one.note.minimum_effect) is not None:
            return True
    return False


def _judged(one: Paired) -> Iterator[RuntimeVerdict]:
    run, note, wrong = next(iter(one.pairs.values())).any_run, one.note, _wrong(one)
    left_out = [pair for pair in one.pairs.values() if not pair.counts]
    for known, at in _quantities(one):
        kind, why = wrong or (Kind.NO_DATA, f"no pair has {known.name} under both")
        verdict = RuntimeVerdict(
            device=run.device, what=note.item, workload=run.points[at].text, precision=run.precision,
            quantity=known.name, runtimes=note.runtimes, kind=kind, why=why, minimum_effect=note.minimum_effect,
            left_out=len(left_out),
        )  # fmt: skip
        verdict = _with_numbers(verdict, one, known, at)
        if wrong is None:
            verdict = _decided(verdict, one, known, at)
        said = (verdict.why, _left_out(left_out), _else_different(one))
        yield replace(verdict, why="; ".join(filter(None, said)))


def _with_numbers(verdict: RuntimeVerdict, one: Paired, known: Objective, at: int) -> RuntimeVerdict:
    """With the numbers of all pairs, where there are any."""
    everything, first = _numbers(one.pairs.values(), known, at), _numbers(one.of("pairs"), known, at)
    if everything is None:
        return verdict
    detectable = None
    if first is not None and first.ratio is not None and first.judgeable is not None:
        detectable = found_twice(first.ratio, first.pairs, verdict.minimum_effect)
    ratio = everything.ratio
    change = None if ratio is None else Value(value=ratio.value - 1, low=ratio.low - 1, high=ratio.high - 1)
    return replace(
        verdict, values=everything.values, change=change, detectable=detectable, pairs=everything.pairs
    )  # fmt: skip


def _decided(verdict: RuntimeVerdict, one: Paired, known: Objective, at: int) -> RuntimeVerdict:
    """With what the numbers come to; as it was where there are none."""
    if not verdict.pairs:
        return verdict
    stages: tuple[Stage, Stage] = ("pairs", "fresh pairs")
    numbers = [_numbers(pairs, known, at) for pairs in (*map(one.of, stages), one.pairs.values())]
    first, fresh, everything = (None if some is None else some.judgeable for some in numbers)
    least = verdict.minimum_effect
    kind, why = decide(first, fresh, everything, direction=known.direction, minimum_effect=least)
    moved = found(first, direction=known.direction, minimum_effect=least)
    return replace(verdict, kind=kind, why=why, confirmed=None if moved is None else kind is moved)


def _wrong(one: Paired) -> tuple[Kind, str] | None:
    """The verdict that no number changes, and why: wrong output, or nothing to compare."""
    a, b = one.note.runtimes
    bad = {side: _settled(one.runs(side)) for side in SIDES}
    ran = {side: any(run.status == "ok" for run in one.runs(side)) for side in SIDES}
    ours, theirs = bad["b"], bad["a"]
    if ours is not None and ours.status == "invalid":
        return Kind.INVALID, f"onnxruntime {b} computes something wrong: {ours.reason}"
    if theirs is not None and theirs.status == "invalid":
        return Kind.NO_DATA, f"onnxruntime {a} computes something wrong itself: {theirs.reason}"
    if ran["a"] and not ran["b"] and ours is not None:
        return Kind.INVALID, f"onnxruntime {b} does not run what {a} runs: {_status(ours)}"
    if not ran["a"] and theirs is not None:
        return Kind.NO_DATA, f"onnxruntime {a} does not run it: {_status(theirs)}"
    if not ran["b"] and ours is not None:
        return Kind.NO_DATA, f"onnxruntime {b} does not run it: {_status(ours)}"
    for pair in one.pairs.values():
        if pair.counts and (why := unlike(pair.sides["b"], pair.sides["a"], whose=f"onnxruntime {a}")):
            return Kind.INVALID, f"onnxruntime {b}: {why}"
    return None


def _settled(runs: Sequence[Measurement]) -> Measurement | None:
    """Of runs the first that ended badly for a reason of its own, wrong output before all."""
    bad = [run for run in runs if run.status not in ("ok", *UNSETTLED)]
    return next((run for run in bad if run.status == "invalid"), next(iter(bad), None))


def _status(run: Measurement) -> str:
    return f"{run.status.replace('_', ' ')}: {run.reason}"


def _quantities(one: Paired) -> Iterator[tuple[Objective, int]]:
    """What is judged, each at every point that has it, by the point's index."""
    points = next(iter(one.pairs.values())).any_run.points
    largest = max(points, key=lambda point: point.batch * point.context)
    known = objectives()
    for at, point in enumerate(points):
        for name in one.note.quantities:
            if name in known and (name not in OF_THE_LARGEST or point == largest):
                yield known[name], at


def _numbers(pairs: Iterable[Pair], known: Objective, at: int) -> _Numbers | None:
    """Of those pairs that count; None where none has the quantity on both sides."""
    both = [
        (ours, theirs)
        for pair in pairs
        if pair.counts
        if (ours := _interval(pair, "b", known, at)) is not None
        if (theirs := _interval(pair, "a", known, at)) is not None
    ]
    if not both:
        return None
    b, a = ([pair[side] for pair in both] for side in (0, 1))
    of_b, of_a = ([one.value for one in side] for side in (b, a))
    return _Numbers(
        values=(_geometric(of_a), _geometric(of_b)),
        ratio=ratio_of_pairs(of_b, of_a, least_half=error_of_pairs(b, a)),
        pairs=len(both),
    )


def _interval(pair: Pair, side: Side, known: Objective, at: int) -> Interval | None:
    value = known.value(pair.sides[side].measured_points[at])
    if value is not None and not isinstance(value, Interval):
        value = Interval(value=float(value), low=float(value), high=float(value))
    return value if value is not None and 0 < value.value < math.inf else None


def _geometric(values: Sequence[float]) -> float:
    return math.exp(fmean(map(math.log, values)))


def _left_out(pairs: Sequence[Pair]) -> str:
    """How many pairs do not count, and why; empty when all do."""
    if not pairs:
        return ""
    reasons = list(dict.fromkeys(pair.trouble for pair in pairs))
    more = f" and {len(reasons) - _MOST_REASONS} other reasons" if len(reasons) > _MOST_REASONS else ""
    counted = "1 pair is" if len(pairs) == 1 else f"{len(pairs)} pairs are"
    return f"{counted} left out ({', '.join(reasons[:_MOST_REASONS])}{more})"


def _else_different(one: Paired) -> str:
    """What else differs between the two runtimes: their wheels may ask for another Python or numpy."""
    told: list[Mapping[str, str]] = []
    for side in SIDES:
        known = (run.notes.get("environment") for run in one.runs(side))
        told.append(next((found_there for found_there in known if isinstance(found_there, Mapping)), {}))
    changed = [
        f"{name} {told[0][name]} -> {told[1][name]}"
        for name in ("python", "numpy")
        if name in told[0] and name in told[1] and told[0][name] != told[1][name]
    ]
    return f"not only onnxruntime differs: {', '.join(changed)}" if changed else ""
