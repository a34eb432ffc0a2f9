"""How far two devices agree on an order: Kendall's tau-b with an interval.

tau-b counts pairs of candidates that both put in one order against those that they put in the opposite one; equal
values are ties (Kendall 1945). Its interval is a bootstrap over candidates: percentiles of tau over samples drawn with
replacement, seeded, so that it is the same each time. Noise of measuring puts near-equal candidates in a random order
and lowers tau; so beside it stand the pairs that both devices tell apart, by their intervals, and how many of these
they put in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.values import Value

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
MIN_CANDIDATES = 4
"""With fewer there is no interval to speak of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Rank agreement of two devices: 1 is one order, 0 none, -1 the opposite.

    Attributes:
        tau: Of the point estimates.
        low: Lower end of its 95% interval.
        high: Upper end.
        candidates: How many both have measured.
        told_apart: Pairs of candidates whose intervals lie apart on both devices.
        alike: Of these, how many both put in one order.
    """

    tau: float
    low: float
    high: float
    candidates: int
    told_apart: int
    alike: int


def agreement(one: Sequence[Value], other: Sequence[Value], *, seed: int = 0) -> Agreement | None:
    """Kendall's tau-b of two sequences of values of the same candidates; None where it cannot be said.

    That is with fewer than `MIN_CANDIDATES`, or where one device gives all of them the same value.

    Raises:
        ValueError: The sequences differ in length.
    """
    import numpy as np

    a, b = (np.asarray([value.value for value in values], dtype=float) for values in (one, other))
    count = len(a)
    if count != len(b):
        raise ValueError(f"{count} values of one device and {len(b)} of the other")
    if count < MIN_CANDIDATES:
        return None
    x, y = np.sign(a[:, None] - a[None, :]), np.sign(b[:, None] - b[None, :])
    products, of_x, of_y = x * y, x * x, y * y

    def tau(weights: np.ndarray) -> float:
        """Of candidates that count so many times each: pairs of a candidate with itself are ties, and add nothing."""
        norm = float(np.sqrt((weights @ of_x @ weights) * (weights @ of_y @ weights)))
        return float(weights @ products @ weights) / norm if norm else float("nan")

    apart = [_told_apart(values) for values in (one, other)]
    both = np.triu(apart[0] * apart[1])
    whole = tau(np.ones(count))
    if np.isnan(whole):
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    taus = [found for weights in drawn if not np.isnan(found := tau(weights.astype(float)))]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = (float(np.percentile(taus, at)) for at in (tail, 100 - tail))
    return Agreement(
        tau=whole, low=min(low, whole), high=max(high, whole), candidates=count,
        told_apart=int(np.count_nonzero(both)), alike=int(np.count_nonzero(both > 0)),
    )  # fmt: skip


def _told_apart(values: Sequence[Value]) -> np.ndarray:
    """1 where the row's candidate certainly has the larger value, -1 the smaller, 0 where intervals overlap."""
    import numpy as np

    low, high = (np.asarray([getattr(value, end) for value in values], dtype=float) for end in ("low", "high"))
    found: np.ndarray = (low[:, None] > high[None, :]).astype(int) - (high[:, None] < low[None, :]).astype(int)
    return found
