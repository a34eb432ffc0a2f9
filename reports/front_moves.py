"""Did a front move? One night's numbers of a study's layouts beside what the study said of them.

A night's value is never set beside a study's value: they may come from another runtime, method or device. Compared are
orders: that of the study among its own numbers, and that of the night among its own.

Noise is that of nights, not of the processes of one night: T of `reports.front_noise`. All is in logarithms of cost.

Interval: of a night's number T / sqrt(2) to both sides, or its own where that is wider. Two of them do not touch where
    numbers differ by more than sqrt(2) T: as far beyond what a difference of two such series scatters by as T is beyond
    what one does. With these intervals the night's front is made as rankings make theirs (`reports.fronts`).
Swing: how far the difference of two layouts lies from where the study had it. It holds the noise of four numbers, and
    is noise up to sqrt(sum T^2) = 2 T. A study's number is one night's, too: its own narrow interval would promise
    more. Where the verdict on a series is a confirmed change that accounts for it, a swing to that side is no noise:
    the gate knows the level of its nights better than one night of a study does.

A layout *left* the front: it was on the study's, tonight another one certainly dominates it, and in an objective in
    which the study had it no worse than that one the swing is more than noise.
A layout *came* on to it: in the study others certainly dominated it, tonight nobody dominates it, and it is better than
    each of them in some objective, by intervals that do not touch and a swing that is more than noise.
Two layouts *swapped*: in one objective their intervals do not touch in the study nor tonight, the other way round, and
    the swing is more than noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from reports import fronts
from reports.objectives import Quantity
from reports.study_fronts import Reading
from reports.values import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Table = npt.NDArray[np.float64]

What = Literal["left", "came", "swapped"]
LEAST: Final = 2
"""Layouts that must have numbers: one alone has no order."""
_SMALLEST: Final = 1e-300
_LARGEST: Final = 300.0  # of a logarithm whose number is finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Something that differs from what the study said, beyond the noise.

    Attributes:
        what: See the module.
        layout: Id of the layout that is worse off than the study said, or that came on to the front.
        other: Id of the one that dominates it, that dominated it, or that it changed places with.
        tonight: How much more the layout has than the other, relative, by objective.
        study: The same of the study's values.
        pending: Whether it hangs on a number that may be a disturbed night's (`Reading.pending`).
    """

    what: What
    layout: str
    other: str
    tonight: Mapping[str, float]
    study: Mapping[str, float]
    pending: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """What two nights must agree in. Who dominates a layout need not be the same."""
        if self.what != "swapped":
            return self.what, self.layout
        return self.what, self.layout, self.other, *self.tonight


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One night beside a study.

    Attributes:
        layouts: Ids of those that have all numbers, in order.
        study: Their places in the front that the study's values make of them.
        tonight: Their places tonight, with intervals as wide as the noise.
        moves: What differs; those that left first.
    """

    layouts: tuple[str, ...] = ()
    study: Mapping[str, fronts.Membership]
    tonight: Mapping[str, fronts.Membership]
    moves: tuple[Move, ...] = ()


def compare(
    objectives: Sequence[Quantity],
    fixed: Sequence[str],
    said: Mapping[str, Mapping[str, Value]],
    readings: Mapping[str, Mapping[str, Reading]],
    before: Compared | None = None,
) -> Compared:
    """Set a night beside a study.

    Args:
        objectives: What the study ranks by.
        fixed: Names of those that no night changes; a night has the study's values of them.
        said: The study's values, by layout id.
        readings: The night's numbers, by layout id.
        before: The same of another night: among the same layouts the study's front is the same.

    Returns:
        Without anything where fewer than `LEAST` layouts have all numbers.
    """
    names = [one.name for one in objectives]
    measured = [name for name in names if name not in fixed]
    layouts = tuple(
        sorted(
            layout for layout, values in said.items()
            if all(name in values for name in names) and all(name in readings.get(layout, {}) for name in measured)
        )
    )  # fmt: skip
    if len(layouts) < LEAST:
        return Compared(study={}, tonight={})
    both = _Both(objectives, fixed, [said[one] for one in layouts], [readings[one] for one in layouts])
    if before is not None and before.layouts == layouts:
        both.study_front = [before.study[one] for one in layouts]
    moves = [*both.left(), *both.came(), *both.swapped()]
    return Compared(
        layouts=layouts,
        study=dict(zip(layouts, both.study_front, strict=True)),
        tonight=dict(zip(layouts, both.front, strict=True)),
        moves=tuple(both.move(what, layouts, at, other, places) for what, at, other, places in moves),
    )


class _Both:
    """Costs of n layouts in m objectives, of the study and of tonight."""

    def __init__(
        self,
        objectives: Sequence[Quantity],
        fixed: Sequence[str],
        said: Sequence[Mapping[str, Value]],
        readings: Sequence[Mapping[str, Reading]],
    ) -> None:
        import numpy as np

        self._objectives = objectives
        self._measured = [at for at, one in enumerate(objectives) if one.name not in fixed]
        self._resolutions = [one.resolution for one in objectives]
        signs = np.asarray([1.0 if one.direction == "min" else -1.0 for one in objectives])
        names = [one.name for one in objectives]
        tonight = [
            [found[name].value if name in found else own[name] for name in names]
            for own, found in zip(said, readings, strict=True)
        ]
        noise = np.asarray([[found[name].noise if name in found else 0.0 for name in names] for found in readings])
        noise[:, [at for at in range(len(names)) if at not in self._measured]] = 0.0
        self._study = _Costs.of([[own[name] for name in names] for own in said], signs)
        own = _Costs.of(tonight, signs)
        self._tonight = own.widened(np.maximum(noise / math.sqrt(2), own.half_widths))
        changed = [[found[name].changed if name in found else 0 for name in names] for found in readings]
        self._changed = np.asarray(changed)
        self._pending = [{at for at, name in enumerate(names) if name in r and r[name].pending} for r in readings]
        self._variance = np.maximum(noise, self._study.half_widths) ** 2 + np.maximum(noise, own.half_widths) ** 2

    @cached_property
    def study_front(self) -> list[fronts.Membership]:
        """By the study's own intervals."""
        return fronts.membership(*self._study.table, self._resolutions)

    @cached_property
    def front(self) -> list[fronts.Membership]:
        """Tonight's, by intervals as wide as the noise."""
        return fronts.membership(*self._tonight.table, self._resolutions)

    def left(self) -> list[tuple[What, int, int, list[int]]]:
        """Layouts that left, each with the one that dominates it by most."""
        found: list[tuple[What, int, int, list[int]]] = []
        sure = fronts.dominates(self._tonight.highs, self._tonight.lows, self._resolutions)
        for at in self._on(self.study_front, "on"):
            by = [
                other for other in sure[:, at].nonzero()[0].tolist()
                if any(self._study.gap(at, other)[o] <= 0 and self._swung(at, other, o) for o in self._measured)
            ]  # fmt: skip
            if by:
                most = max(by, key=lambda other: (float(self._tonight.gap(at, other).sum()), -other))
                found.append(("left", at, most, self._differing(at, most)))
        return found

    def came(self) -> list[tuple[What, int, int, list[int]]]:
        """Layouts that came, each with the one of its former dominators that it is least beyond."""
        found: list[tuple[What, int, int, list[int]]] = []
        candidates = [at for at in self._on(self.study_front, "dominated") if self.front[at] == "on"]
        sure = fronts.dominates(self._study.highs, self._study.lows, self._resolutions) if candidates else None
        for at in candidates:
            assert sure is not None
            by = sure[:, at].nonzero()[0].tolist()
            better = {other: [o for o in self._measured if self._beats(at, other, o)] for other in by}
            if by and all(better.values()):
                gaps = {other: min(float(self._tonight.gap(at, other)[o]) for o in better[other]) for other in by}
                last = max(by, key=lambda other: (gaps[other], -other))
                found.append(("came", at, last, self._differing(at, last)))
        return found

    def swapped(self) -> list[tuple[What, int, int, list[int]]]:
        """Pairs that changed their order, the one that is worse off first."""
        found: list[tuple[What, int, int, list[int]]] = []
        for o in self._measured:
            before = self._study.highs[:, None, o] < self._study.lows[None, :, o]
            now = self._tonight.highs[None, :, o] < self._tonight.lows[:, None, o]
            found += [
                ("swapped", at, other, [o])
                for at, other in zip(*(before & now).nonzero(), strict=True) if self._swung(at, other, o)
            ]  # fmt: skip
        return found

    def move(self, what: What, layouts: Sequence[str], at: int, other: int, objectives: Sequence[int]) -> Move:
        """With names and relative differences of the quantities themselves."""
        names = [self._objectives[o].name for o in objectives]
        tonight, study = (table.relative(at, other) for table in (self._tonight, self._study))
        return Move(
            what=what, layout=layouts[at], other=layouts[other],
            tonight=dict(zip(names, (tonight[o] for o in objectives), strict=True)),
            study=dict(zip(names, (study[o] for o in objectives), strict=True)),
            pending=bool((self._pending[at] | self._pending[other]) & set(objectives)),
        )  # fmt: skip

    def _on(self, front: Sequence[fronts.Membership], kind: fronts.Membership) -> list[int]:
        return [at for at, found in enumerate(front) if found == kind]

    def _differing(self, at: int, other: int) -> list[int]:
        """Objectives in which two layouts are not the same, tonight or in the study."""
        gaps = abs(self._tonight.gap(at, other)) + abs(self._study.gap(at, other))
        return [o for o, gap in enumerate(gaps.tolist()) if gap > 0]

    def _beats(self, at: int, other: int, o: int) -> bool:
        """Whether tonight it is better than the other beyond the noise, and was not so in the study."""
        apart = self._tonight.highs[at, o] < self._tonight.lows[other, o]
        return bool(apart) and self._swung(other, at, o)

    def _swung(self, at: int, other: int, o: int) -> bool:
        """Whether a layout is worse beside another one than the study had it, by more than noise."""
        swing = float(self._tonight.gap(at, other)[o] - self._study.gap(at, other)[o])
        known = self._changed[at, o] > 0 or self._changed[other, o] < 0
        return swing > (0.0 if known else math.sqrt(self._variance[at, o] + self._variance[other, o]))


class _Costs:
    """Quantities with their ends, as costs: lower is better."""

    def __init__(self, numbers: Table, ends: tuple[Table, Table], signs: Table) -> None:
        import numpy as np

        self._numbers, self._ends, self._signs = numbers, ends, signs
        self._logs = np.log(np.maximum(np.abs(numbers), _SMALLEST))

    @classmethod
    def of(cls, values: Sequence[Sequence[Value]], signs: Table) -> _Costs:
        """Of values with their own intervals; an end that is not a number says nothing."""
        import numpy as np

        numbers, *ends = (
            np.asarray([[getattr(one, end) for one in row] for row in values], dtype=float)
            for end in ("value", "low", "high")
        )
        low, high = (np.where(np.isnan(end), numbers, end) for end in ends)
        return cls(numbers, (low, high), signs)

    @cached_property
    def half_widths(self) -> Table:
        """Of the intervals, their longer side, as a difference of logarithms."""
        import numpy as np

        logs = [np.log(np.maximum(np.abs(end), _SMALLEST)) for end in self._ends]
        return np.asarray(np.maximum(*(np.abs(found - self._logs) for found in logs)))

    def widened(self, half_widths: Table) -> _Costs:
        """The same with other intervals."""
        import numpy as np

        factor = np.exp(np.minimum(half_widths, _LARGEST))
        return _Costs(self._numbers, (self._numbers / factor, self._numbers * factor), self._signs)

    @property
    def table(self) -> tuple[Table, Table, Table]:
        """Values, lows and highs of the costs, each n x m."""
        return self._signs * self._numbers, self.lows, self.highs

    @cached_property
    def lows(self) -> Table:
        """Optimistic ends."""
        import numpy as np

        return np.asarray(np.minimum(*(self._signs * end for end in self._ends)))

    @cached_property
    def highs(self) -> Table:
        """Pessimistic ends."""
        import numpy as np

        return np.asarray(np.maximum(*(self._signs * end for end in self._ends)))

    def gap(self, at: int, other: int) -> Table:
        """By how much dearer one is than another in each objective, in logarithms."""
        import numpy as np

        return np.asarray(self._signs * (self._logs[at] - self._logs[other]))

    def relative(self, at: int, other: int) -> list[float]:
        """How much more one has of each quantity than another."""
        found: Any = self._logs[at] - self._logs[other]
        return [math.expm1(min(float(one), _LARGEST)) for one in found]
