"""How often the nightly gate is wrong, and how often it misses: `python benchmarks/regression_gate.py`.

Simulates series on which nothing happens (`regression_noise` says how) and prints, for each kind of noise and standard
deviation, the share of series (unless said otherwise):

- FAIL: that failed at least once, falsely. FASTER: with a falsely established improvement.
- WARN: that warned at least once, falsely. fresh: nights, of all, on which fresh runs were asked for.
- +5%, +10%, +20%: of which a step by that much was a FAIL by its second night. The step comes on a night drawn between
  the 21st and the last but one; what had falsely failed before and still did counts as found.
- MDC: the median of the minimum detectable change that was printed on the night of the step; found: a step by exactly
  what was printed for that series was a FAIL by its second night (95% is promised for normal noise).
- points: with a change point, falsely. at +10%: with a change point within two nights of a step by 10% that has at
  least a week behind it.
- MAD rule: FAIL and +10% for median and scaled MAD of the last 14 good nights, alarm beyond max(4%, 3.5 MADs), one
  fresh run beyond that too, two nights in a row.
- bare: with a night that was more than 5% above the night before, which is all that this rule asks.

Every series is judged alone: with an anchor beside it what the device does to both would be told apart as well.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median

import numpy as np

from regression_noise import KINDS, Sample, sample
from reports.change_points import SEGMENT, change_points
from reports.nights import Night, Run, Series
from reports.values import Value
from reports.verdicts import Kind, Level, replay

DEVIATIONS = (0.01, 0.02, 0.03)
STEPS = (0.05, 0.1, 0.2)
FIRST_STEP = 20
"""Index of the first night on which a step may come."""
DAY_S = 86400.0
LEVEL_MS = 12.0
Levels = Sequence[float]
"""Of the nights of a series, in logarithms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Shares of one kind of noise and one deviation, in the order of the columns."""

    false_fail: float
    false_faster: float
    false_warn: float
    fresh: float
    steps: tuple[float, ...]
    detectable: float
    found: float
    false_points: float
    points_found: float
    mad_fail: float
    mad_found: float
    bare: float


class MadRule:
    """The gate's ancestor: median and MAD of the last 14 good nights, and nothing else."""

    def __init__(self) -> None:
        self._good: list[float] = []
        self._streak = 0

    def night(self, first: float, fresh: float) -> bool:
        """Whether the night is a FAIL."""
        window = self._good[-14:]
        if len(window) < 14:
            self._good.append(first)
            return False
        baseline = median(window)
        threshold = max(math.log(1.04), 3.5 * 1.4826 * median(abs(level - baseline) for level in window))
        side = math.copysign(1, first - baseline)
        if abs(first - baseline) <= threshold:
            self._good.append(first)
            self._streak = 0
        elif (fresh - baseline) * side <= threshold:
            self._streak = 0
        else:
            self._streak = int(side) + (self._streak if self._streak * side > 0 else 0)
        return self._streak > 1


def made(first: Levels, fresh: Sequence[Levels], within: float) -> Series:
    """A series of these nights, each with fresh runs, which are looked at where the first run raises an alarm."""

    def run(level: float) -> Run:
        value = LEVEL_MS * math.exp(level)
        return Run(value=Value(value=value, low=value * (1 - 1.96 * within), high=value * (1 + 1.96 * within)))

    nights = [
        Night(time=DAY_S * index, first=run(level), confirmations=tuple(map(run, others)))
        for index, (level, *others) in enumerate(zip(first, *fresh, strict=True))
    ]
    return Series(
        key="s", device="d", label="s", quantity="decode_ms", direction="min", nights=tuple(nights)
    )  # fmt: skip


def cell(kind: str, deviation: float, *, series: int, nights: int, seed: int) -> Cell:
    """Everything of one row of the table."""
    drawn = sample(kind, deviation, series=series, nights=nights, seed=seed)
    rng = np.random.default_rng([seed, 1])
    at = rng.integers(FIRST_STEP, nights - 1, series)
    at_history = rng.integers(FIRST_STEP, nights - SEGMENT + 1, series)
    rows = [_row(drawn, index, int(at[index]), int(at_history[index])) for index in range(series)]
    middle = [row[5] for row in rows]
    table = np.asarray([row[:5] + row[6:] for row in rows], dtype=float).mean(axis=0).tolist()
    names = ["false_fail", "false_faster", "false_warn", "fresh", "found", "false_points", "points_found", "mad_fail"]
    values = dict(zip([*names, "mad_found", "bare"], table, strict=False))
    return Cell(steps=tuple(table[-len(STEPS) :]), detectable=median(middle), **values)


def _row(drawn: Sample, index: int, at: int, at_history: int) -> tuple[float, ...]:
    """Of one series; see `cell` for the order."""
    first, fresh = drawn.first[index].tolist(), [levels[index].tolist() for levels in drawn.fresh]
    whole = made(first, fresh, drawn.within)
    verdicts = [verdict for _, (verdict,) in replay([whole])]
    fail = any(v.level is Level.FAIL for v in verdicts)
    faster = any(v.kind is Kind.FASTER and v.established for v in verdicts)
    warned = any(v.kind is Kind.SLOWER and v.level is Level.WARN for v in verdicts)
    asked = sum(v.alarm for v in verdicts)
    detectable = verdicts[at].detectable
    assert detectable is not None

    def found(step: float) -> bool:
        shift = math.log1p(step)
        moved = [[*levels[:at], *(level + shift for level in levels[at : at + 2])] for levels in (first, *fresh)]
        last = [verdict for _, (verdict,) in replay([made(moved[0], moved[1:], drawn.within)])][-2:]
        return any(v.kind is Kind.SLOWER and v.level is Level.FAIL for v in last)

    stepped = [level + math.log1p(0.1) * (night >= at_history) for night, level in enumerate(first)]
    points = [point.time / DAY_S for point in change_points(made(stepped, fresh, drawn.within))]
    rule, mad = MadRule(), []
    for night in range(len(first)):
        mad.append(rule.night(first[night], fresh[0][night]))
    rule, mad_step = MadRule(), []
    for night in range(at + 2):
        step = math.log1p(0.1) * (night >= at)
        mad_step.append(rule.night(first[night] + step, fresh[0][night] + step))
    return (
        fail, faster, warned, asked / len(first), found(detectable), detectable, bool(change_points(whole)),
        any(abs(point - at_history) <= 2 for point in points), any(mad), any(mad_step[-2:]),
        any(b - a > math.log1p(0.05) for a, b in pairwise(first)), *map(found, STEPS),
    )  # fmt: skip


HEADER = (
    "noise                FAIL FASTER  WARN  fresh |   +5%   +10%   +20% |  MDC  found | points at +10% | MAD rule:"
    " FAIL  +10% | bare"
)


def line(kind: str, deviation: float, one: Cell) -> str:
    steps = " ".join(f"{share:6.1%}" for share in one.steps)
    return (
        f"{kind:15} {deviation:3.0%} {one.false_fail:5.1%} {one.false_faster:6.1%} {one.false_warn:5.1%}"
        f" {one.fresh:6.2%} | {steps} | {one.detectable:4.0%} {one.found:6.1%} |"
        f" {one.false_points:6.1%} {one.points_found:7.1%} | {one.mad_fail:15.1%} {one.mad_found:6.1%} |"
        f" {one.bare:5.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", type=int, default=1000, help="of each kind and deviation (default %(default)s)")
    parser.add_argument("--nights", type=int, default=60, help="of each series (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default %(default)s)")
    options = parser.parse_args()
    if options.nights < FIRST_STEP + SEGMENT:
        parser.error(f"--nights must be at least {FIRST_STEP + SEGMENT}")
    work = partial(cell, series=options.series, nights=options.nights, seed=options.seed)
    rows = [(kind, deviation) for kind in KINDS for deviation in DEVIATIONS]
    print(HEADER)
    with ProcessPoolExecutor(options.jobs) as pool:
        for row, one in zip(rows, pool.map(work, *zip(*rows, strict=True)), strict=True):
            print(line(*row, one), flush=True)


if __name__ == "__main__":
    main()
