"""What a comparison of two runtimes says of one quantity, from the ratios B / A of pairs that were measured in turns.

| kind | when |
|---|---|
| SLOWER | dearer by the minimum effect or more, the interval leaves out no change, and fresh pairs say the same |
| FASTER | the other way round |
| SAME | the whole interval lies within the minimum effect |
| AMBIGUOUS | there are numbers, and nothing of this can be said |
| INVALID | B computes something else, or does not run what A runs, whatever its speed |
| NO-DATA | no number to compare, or none to compare with |

A change is by a factor, as in `reports.gate`: dearer by 1 + minimum effect, or cheaper by it. The interval is that of
`profiler.stats.ratio_of_pairs`. One round of pairs finds a change in one of twenty unchanged quantities if their noise
is above the minimum effect, and a comparison has dozens of them: what the first round finds is measured again in as
many fresh pairs, which have to find it by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reports.formatting import change_text
from reports.objectives import Direction
from reports.values import Value
from reports.verdict import Kind

FEWEST_PAIRS: Final = 4
"""From which on anything is said."""
ORDER: Final = (Kind.INVALID, Kind.SLOWER, Kind.NO_DATA, Kind.AMBIGUOUS, Kind.FASTER, Kind.SAME)
"""Kinds, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeVerdict:
    """What is said of one quantity of one thing on one device.

    Attributes:
        device: Its name.
        what: Name of the thing in its suite.
        workload: Its point, as ``256/32``.
        precision: Storage of the weights.
        quantity: Name of the quantity.
        runtimes: The versions A and B.
        kind: See the module.
        why: One sentence for people.
        values: Geometric means over the pairs that count, of A and of B, in the quantity's unit.
        change: Relative change from A to B with its 95% interval, over all pairs that count.
        detectable: The smallest relative change that would have been found with 95% probability.
        minimum_effect: Smallest relative change that counts.
        pairs: That count.
        left_out: That do not.
        confirmed: Whether fresh pairs confirm what the first ones found; None where they found nothing.
    """

    device: str
    what: str
    workload: str
    precision: str
    quantity: str
    runtimes: tuple[str, str]
    kind: Kind
    why: str
    values: tuple[float | None, float | None] = (None, None)
    change: Value | None = None
    detectable: float | None = None
    minimum_effect: float
    pairs: int = 0
    left_out: int = 0
    confirmed: bool | None = None


def found(ratio: Value | None, *, direction: Direction, minimum_effect: float) -> Kind | None:
    """SLOWER or FASTER where the ratio of one round of pairs says so by itself."""
    if ratio is None:
        return None
    dearer = ratio.low > 1 and ratio.value >= 1 + minimum_effect
    cheaper = ratio.high < 1 and ratio.value <= 1 / (1 + minimum_effect)
    if not (dearer or cheaper):
        return None
    return Kind.SLOWER if dearer == (direction == "min") else Kind.FASTER


def decide(
    first: Value | None,
    fresh: Value | None,
    everything: Value | None,
    *,
    direction: Direction,
    minimum_effect: float,
) -> tuple[Kind, str]:
    """The verdict on what has numbers, and why.

    Fresh pairs are taken of a thing because one of its quantities moved; of another quantity they are only more pairs.

    Args:
        first: Ratio B / A of the first round; None where fewer than `FEWEST_PAIRS` of it count.
        fresh: Of the fresh one; None where it was not taken, or too few count.
        everything: Of both together, which is what is shown.
        direction: Which way is better.
        minimum_effect: Smallest relative change that counts.
    """
    if first is None or everything is None:
        return Kind.AMBIGUOUS, f"fewer than {FEWEST_PAIRS} pairs count"
    kind = found(first, direction=direction, minimum_effect=minimum_effect)
    if kind is None:
        return _unmoved(everything, direction=direction, minimum_effect=minimum_effect)
    rounds = f"{change_text(first.value - 1)} at first"
    if fresh is None:
        return Kind.AMBIGUOUS, f"{rounds}; too few fresh pairs to confirm it"
    rounds += f", {change_text(fresh.value - 1)} in fresh pairs"
    if found(fresh, direction=direction, minimum_effect=minimum_effect) is kind:
        return kind, f"fresh pairs confirm it: {rounds}"
    return Kind.AMBIGUOUS, f"fresh pairs do not confirm it: {rounds}"


def _unmoved(everything: Value, *, direction: Direction, minimum_effect: float) -> tuple[Kind, str]:
    """Of what the first pairs did not find to differ."""
    limit, least, most = f"{minimum_effect:.1%}", 1 / (1 + minimum_effect), 1 + minimum_effect
    if least < everything.low and everything.high < most:
        return Kind.SAME, f"the whole interval lies within {limit}"
    if found(everything, direction=direction, minimum_effect=minimum_effect) is not None:
        return Kind.AMBIGUOUS, "all pairs together find it, and the first ones alone did not"
    if least < everything.value < most:
        return Kind.AMBIGUOUS, f"the change is below {limit}, and its interval reaches beyond that"
    return Kind.AMBIGUOUS, "the interval does not leave out that nothing changed"
