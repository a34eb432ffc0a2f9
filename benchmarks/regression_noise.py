"""Nights of series on which nothing happened: six kinds of noise whose standard deviation is stated.

All is in logarithms of the value. A night has a component of the day, which fresh runs of the same night share, and
noise of each run within the night, which they do not: 80% and 20% of the variance. A large share of the day makes fresh
runs worth little, which is the unkind case for false alarms.

- independent: the day's component is normal, each day anew.
- correlated: it is AR(1) with phi = 0.7.
- drifting: half of the series a sinusoid with a period drawn between 20 and 60 nights and a phase of its own, half a
  random walk whose steps give it the stated deviation over 60 nights on average.
- spiky: it has Student's t distribution with 4 degrees of freedom, and on 3% of the nights, on top of the stated
  deviation, a neighbour makes the first run 10% to 30% slower. It stays from each run to the next half of the time, and
  is as bad then.
- bimodal: two modes, the rarer one on 20% to 50% of the nights (drawn for the series), faster or slower, as far from
  the other as the stated deviation asks: 2 to 2.5 deviations. A day is in one mode, drawn anew each day.
- bimodal in runs: the same, and the rarer mode stays for 4 nights on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.nights import FRESH_RUNS

KINDS = ("independent", "correlated", "drifting", "spiky", "bimodal", "bimodal in runs")
DAY = 0.8
"""Share of the day's component in the variance."""
PHI = 0.7
SPIKES = 0.03
PERSISTENCE = 0.5
"""Probability that a neighbour is still there for the next run."""
RUN = 4.0
"""Nights for which the rarer mode stays, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Series, one a row, nights in columns.

    Attributes:
        first: Of the night's measurement, the logarithm of its ratio to the true value.
        fresh: The same of fresh runs in the same night, one after the other.
        within: Standard deviation within a night.
    """

    first: np.ndarray
    fresh: tuple[np.ndarray, ...]
    within: float


def sample(kind: str, deviation: float, *, series: int, nights: int, seed: int) -> Sample:
    """Unchanged series of one kind; the same for the same arguments.

    Args:
        kind: One of `KINDS`.
        deviation: Standard deviation of a night's measurement, relative.
        series: How many.
        nights: Of each.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind), round(1e6 * deviation)])
    shape = (series, nights)
    size, within = deviation * DAY**0.5, deviation * (1 - DAY) ** 0.5
    spikes = [np.zeros(shape)] * (1 + FRESH_RUNS)
    if kind == "independent":
        day = rng.normal(0, size, shape)
    elif kind == "correlated":
        day = _ar1(size, shape, rng)
    elif kind == "drifting":
        day = _drift(size, shape, rng)
    elif kind == "spiky":
        day = size * rng.standard_t(4, shape) / 2**0.5  # whose variance is 2
        spikes = [np.where(rng.random(shape) < SPIKES, np.log1p(rng.uniform(0.1, 0.3, shape)), 0.0)]
        for _ in range(FRESH_RUNS):
            spikes.append(np.where(rng.random(shape) < PERSISTENCE, spikes[-1], 0.0))
    else:
        rarer = rng.uniform(0.2, 0.5, (series, 1))
        distance = rng.choice([-1, 1], (series, 1)) * size / np.sqrt(rarer * (1 - rarer))
        stay = 1 - 1 / RUN if kind == "bimodal in runs" else rarer
        day = distance * _modes(rarer, stay, shape, rng)
    first, *fresh = (day + rng.normal(0, within, shape) + spike for spike in spikes)
    return Sample(first=first, fresh=tuple(fresh), within=within)


def _ar1(size: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    day = rng.normal(0, size, shape)
    for night in range(1, shape[1]):
        day[:, night] = PHI * day[:, night - 1] + (1 - PHI**2) ** 0.5 * day[:, night]
    return day


def _drift(size: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    series, nights = shape
    waves = series // 2
    period, phase = rng.uniform(20, 60, (waves, 1)), rng.uniform(0, 2 * np.pi, (waves, 1))
    sinusoids = 2**0.5 * size * np.sin(2 * np.pi * np.arange(nights) / period + phase)
    # The variance of n nights of a random walk around their mean is n / 6 of that of a step.
    walks = np.cumsum(rng.normal(0, size * (6 / 60) ** 0.5, (series - waves, nights)), axis=1)
    return np.concatenate([sinusoids, walks])


def _modes(rarer: np.ndarray, stay: np.ndarray | float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """1 on nights in the rarer mode, of which a share `rarer` is: a chain that stays there with probability `stay`."""
    enter = (1 - stay) * rarer / (1 - rarer)
    found = np.zeros(shape)
    found[:, :1] = rng.random((shape[0], 1)) < rarer
    for night in range(1, shape[1]):
        before = found[:, night - 1 : night] > 0
        found[:, night : night + 1] = rng.random((shape[0], 1)) < np.where(before, stay, enter)
    return found
