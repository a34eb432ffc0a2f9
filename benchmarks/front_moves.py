"""How often a front is said to have moved falsely, and how often a move is missed: `python benchmarks/front_moves.py`.

Simulates studies of 8 layouts, ranked by two times and by parameters: more parameters cost more time, up to a factor of
two over all, and each layout is up to 20% off that line, in each time by itself. A study is one night's numbers, with
the intervals of that night's own processes. Then come 60 nights, on which nothing happens; noise is that of
`regression_noise`, of every layout and time by itself. What a study and its nights draw comes from a pool of series,
each judged alone.

Prints, for each kind of noise and standard deviation of a night, the share of studies

- MOVED: for which any night said so, falsely. exact: the same, of studies whose numbers are the true ones. DIFFERS: for
  which any night said that: the study's own night was drifted or disturbed, and later nights never agree with it.
  AMBIGUOUS: nights, of all, that left it to the next.
- +10%, +15%, +30%: in which a slow-down by that much of one layout of the front, on some night from the 21st on and in
  both times, was MOVED by its second night, with that layout named. Only layouts are slowed down that it truly makes
  dominated. left: named as one that left the front; clear: the same, where somebody is better than it by two thirds
  of the step in both times, and not by a hair.
- points: on whose front, by point estimates alone, two nights in a row agreed that is not the study's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from regression_gate import DAY_S, LEVEL_MS, made
from regression_noise import KINDS, Sample, sample
from reports.front_noise import NightNoise
from reports.front_verdicts import FrontKind, FrontVerdict, replay_front
from reports.fronts import dominates
from reports.gate import CONFIRMED
from reports.nights import Night
from reports.study_fronts import FrontNight, Reading, Said, Scope, StudyFront
from reports.values import Value
from reports.verdicts import Verdict, replay

DEVIATIONS = (0.01, 0.02, 0.03)
STEPS = (0.10, 0.15, 0.30)
LAYOUTS = 8
TIMES = ("ttft_ms", "decode_ms")
OBJECTIVES = (*TIMES, "effective_params")
FIRST_STEP = 20
CLEAR = 2 / 3
"""Share of a step by which somebody is better than the slower layout in both times: not by a hair."""
SERIES_A_STUDY = LAYOUTS * len(TIMES)
IDS = tuple(f"layout{at}" for at in range(LAYOUTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Series that were judged, one a row, nights in columns.

    Attributes:
        drawn: As they were drawn.
        levels: Logarithms of the nights' numbers, fresh runs considered.
        noise: What nights differ by.
        changed: As `Reading.changed`.
        pending: As `Reading.pending`.
    """

    drawn: Sample
    levels: np.ndarray
    noise: np.ndarray
    changed: np.ndarray
    pending: np.ndarray

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """All but what was drawn."""
        return self.levels, self.noise, self.changed, self.pending

    def stepped(self, row: int, step: float, at: int) -> Pool:
        """One series up to the night after the one on which a step comes."""
        shift = step * (np.arange(at + 2) >= at)
        first, *fresh = (levels[row : row + 1, : at + 2] + shift for levels in (self.drawn.first, *self.drawn.fresh))
        return judged(Sample(first=first, fresh=tuple(fresh), within=self.drawn.within))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Shares of one kind of noise and one deviation, in the order of the columns."""

    moved: float
    exact: float
    differs: float
    ambiguous: float
    found: tuple[float, ...]
    left: tuple[float, ...]
    clear: tuple[float, ...]
    points: float


def judged(drawn: Sample) -> Pool:
    """Series with what the gate knew of each on each night before it, and what it said of it."""
    tables = [np.zeros(drawn.first.shape) for _ in range(4)]
    for at in range(len(drawn.first)):
        whole = made(drawn.first[at].tolist(), [levels[at].tolist() for levels in drawn.fresh], drawn.within)
        noise = NightNoise()
        for night, (_, (verdict,)) in enumerate(replay([whole])):
            asked = taken(whole.nights[night], verdict)
            nights = (*whole.nights[:night], asked, *whole.nights[night + 1 :])
            reading = noise.reading(replace(verdict, series=replace(whole, nights=nights)))
            assert reading is not None
            found = math.log(reading.value.value / LEVEL_MS), reading.noise, reading.changed, reading.pending
            for table, number in zip(tables, found, strict=True):
                table[at, night] = number
    levels, scatter, changed, pending = tables
    return Pool(drawn=drawn, levels=levels, noise=scatter, changed=changed, pending=pending)


def taken(night: Night, verdict: Verdict) -> Night:
    """A night with the fresh runs that were asked for: none without an alarm, none after one that denies it."""
    first, fresh, baseline = night.first.value, night.confirmations, verdict.baseline
    if not verdict.alarm:
        return replace(night, confirmations=())
    assert first is not None
    assert baseline is not None
    assert verdict.threshold is not None
    side = 1 if first.value > baseline else -1
    enough = CONFIRMED * math.log1p(verdict.threshold)
    count = 1
    for run in fresh[:-1]:
        assert run.value is not None
        if side * math.log(run.value.value / baseline) <= enough:
            break
        count += 1
    return replace(night, confirmations=fresh[:count])


def true_costs(rng: np.random.Generator) -> np.ndarray:
    """Logarithms of the times of each layout, then minus that of its parameters: lower is better."""
    size = np.sort(rng.uniform(0, math.log(2), LAYOUTS))
    return np.column_stack([*(size + rng.uniform(-0.2, 0.2, LAYOUTS) for _ in TIMES), -size])


def value(level: float, within: float) -> Value:
    """With the interval that a night's own processes give."""
    middle = LEVEL_MS * math.exp(level)
    return Value(value=middle, low=middle * (1 - 1.96 * within), high=middle * (1 + 1.96 * within))


def told(costs: np.ndarray, noise: np.ndarray, within: float) -> StudyFront:
    """What a study says that measured true costs with some noise."""
    values: dict[str, Mapping[str, Value]] = {}
    for at, layout in enumerate(IDS):
        params = 1e8 * math.exp(-costs[at, -1])
        times = {name: value(costs[at, k] + noise[at, k], within) for k, name in enumerate(TIMES)}
        values[layout] = {**times, "effective_params": Value(value=params, low=params, high=params)}
    said = tuple(Said(layout=one, title=one, front="on", item=one) for one in IDS)
    return StudyFront(
        study="s", name="s", objectives=OBJECTIVES, fixed=("effective_params",), budgets=(), across="worst",
        precision="int4", said=said, scopes=(Scope(values=values),),
    )  # fmt: skip


def nights_of(costs: np.ndarray, parts: Sequence[np.ndarray], within: float) -> list[FrontNight]:
    """Nights of these layouts from the pool's tables, each by night, layout and time."""
    found = []
    for night, (levels, noise, changed, pending) in enumerate(zip(*parts, strict=True)):
        readings = {
            layout: {
                name: Reading(
                    value=value(costs[at, k] + levels[at, k], within), noise=float(noise[at, k]),
                    changed=int(changed[at, k]), pending=bool(pending[at, k]),
                )
                for k, name in enumerate(TIMES)
            }
            for at, layout in enumerate(IDS)
        }  # fmt: skip
        found.append(FrontNight(time=DAY_S * night, readings=readings))
    return found


def verdicts(front: StudyFront, nights: Sequence[FrontNight]) -> list[FrontVerdict]:
    return list(replay_front(front, nights, device="d", workload="256/32", precision="int4"))


def by_points(front: StudyFront, nights: Sequence[FrontNight]) -> bool:
    """Whether two nights in a row have the same front, by point estimates, that is not the study's."""
    said = front.scopes[0].values
    before: list[bool] = []
    own = _front({layout: [said[layout][name].value for name in TIMES] for layout in IDS}, said)
    for night in nights:
        now = _front({one: [night.readings[one][name].value.value for name in TIMES] for one in IDS}, said)
        if now != own and now == before:
            return True
        before = now
    return False


def _front(times: Mapping[str, list[float]], said: Mapping[str, Mapping[str, Value]]) -> list[bool]:
    costs = np.asarray([[*times[one], -said[one]["effective_params"].value] for one in IDS])
    on: list[bool] = (~dominates(costs, costs, [0.0, 0.0, 0.02]).any(axis=0)).tolist()
    return on


def made_dominated(costs: np.ndarray, step: float) -> list[int]:
    """Layouts of the true front that a slow-down takes off it."""
    resolutions = [0.0, 0.0, 0.0]
    on = np.flatnonzero(~dominates(costs, costs, resolutions).any(axis=0))
    found = []
    for at in on.tolist():
        slower = costs.copy()
        slower[at, : len(TIMES)] += step
        if dominates(slower, slower, resolutions)[:, at].any():
            found.append(at)
    return found


def one_study(pool: Pool, nights: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Of one study; see `cell` for the order. NaN where no layout of it is made dominated by a step."""
    within = pool.drawn.within
    picked = rng.choice(len(pool.levels), 2 * SERIES_A_STUDY, replace=False).reshape(2, LAYOUTS, len(TIMES))
    costs = true_costs(rng)
    front = told(costs, pool.drawn.first[picked[0], rng.integers(nights)], within)
    parts = [np.moveaxis(table[picked[1]], 2, 0) for table in pool.tables]
    unchanged = nights_of(costs, parts, within)
    found = []
    for step in map(math.log1p, STEPS):
        at = int(rng.integers(FIRST_STEP, nights - 1))
        slow = made_dominated(costs, step)
        if not slow:
            found += [math.nan] * 3
            continue
        layout = int(rng.choice(slow))
        stepped = [np.array(part[at : at + 2]) for part in parts]
        for k in range(len(TIMES)):
            one = pool.stepped(int(picked[1, layout, k]), step, at)
            for part, table in zip(stepped, one.tables, strict=True):
                part[:, layout, k] = table[0, at:]
        verdict = verdicts(front, nights_of(costs, stepped, within))[-1]
        moves = [one.move.what for one in verdict.findings if one.certain and one.move.layout == IDS[layout]]
        slower = costs + np.eye(LAYOUTS)[layout][:, None] * step * (np.arange(len(OBJECTIVES)) < len(TIMES))
        clear = _by_more(slower, layout, CLEAR * step)
        found += [bool(moves), "left" in moves, "left" in moves if clear else math.nan]
    kinds = [one.kind for one in verdicts(front, unchanged)]
    exact = told(costs, np.zeros(picked[0].shape), within)
    moved, truly = FrontKind.MOVED in kinds, FrontKind.MOVED in [one.kind for one in verdicts(exact, unchanged)]
    differs, waiting = FrontKind.DIFFERS in kinds, kinds.count(FrontKind.AMBIGUOUS) / nights
    return (moved, truly, differs, waiting, by_points(front, unchanged), *found)


def _by_more(costs: np.ndarray, layout: int, gap: float) -> bool:
    """Whether somebody dominates a layout and is better by at least so much in both times."""
    ahead = costs[layout] - costs
    return bool(((ahead[:, : len(TIMES)] >= gap).all(axis=1) & (ahead[:, -1] >= 0)).any())


def cell(kind: str, deviation: float, *, studies: int, series: int, nights: int, seed: int) -> Cell:
    """Everything of one row of the table."""
    pool = judged(sample(kind, deviation, series=series, nights=nights, seed=seed))
    rng = np.random.default_rng([seed, 2, KINDS.index(kind), round(1e6 * deviation)])
    rows = np.asarray([one_study(pool, nights, rng) for _ in range(studies)], dtype=float)
    known = ~np.isnan(rows)
    shares = [float(row[of].mean()) if of.any() else math.nan for row, of in zip(rows.T, known.T, strict=True)]
    moved, exact, differs, ambiguous, points, *found = shares
    return Cell(
        moved=moved,
        exact=exact,
        differs=differs,
        ambiguous=ambiguous,
        points=points,
        found=tuple(found[::3]),
        left=tuple(found[1::3]),
        clear=tuple(found[2::3]),
    )


HEADER = "noise                MOVED exact DIFFERS AMBIGUOUS | " + " | ".join(
    f"{f'+{step:.0%}':>6}   left  clear" for step in STEPS
)
HEADER += " | points"


def line(kind: str, deviation: float, one: Cell) -> str:
    steps = " | ".join(f"{a:6.1%} {b:6.1%} {c:6.1%}" for a, b, c in zip(one.found, one.left, one.clear, strict=True))
    shares = f"{one.moved:5.1%} {one.exact:5.1%} {one.differs:7.1%} {one.ambiguous:9.2%}"
    return f"{kind:16} {deviation:3.0%} {shares} | {steps} | {one.points:5.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", type=int, default=100, help="of each kind and deviation (default %(default)s)")
    parser.add_argument("--series", type=int, default=300, help="in the pool of each (default %(default)s)")
    parser.add_argument("--nights", type=int, default=60, help="of each study (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default %(default)s)")
    options = parser.parse_args()
    if options.nights < FIRST_STEP + 2:
        parser.error(f"--nights must be at least {FIRST_STEP + 2}")
    if options.series < 2 * SERIES_A_STUDY:
        parser.error(f"--series must be at least {2 * SERIES_A_STUDY}")
    work = partial(
        cell, studies=options.studies, series=options.series, nights=options.nights, seed=options.seed
    )  # fmt: skip
    rows = [(kind, deviation) for kind in KINDS for deviation in DEVIATIONS]
    print(HEADER)
    with ProcessPoolExecutor(options.jobs) as workers:
        for row, one in zip(rows, workers.map(work, *zip(*rows, strict=True)), strict=True):
            print(line(*row, one), flush=True)


if __name__ == "__main__":
    main()
