"""A study at one moment, as pictures need it: its table, what it is ranked by, and where it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from reports.budgets import Budget
from reports.figures.text import Colors, place
from reports.objectives import quantities, quantity
from reports.ranking import Prepared, Ranking, prepare
from reports.values import ACROSS, Place, Row, place_of, sortable

ALL_PLACES = "all"
"""Key of the scope over all places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is ranked together: one place, or all places by their ratios to the reference.

    Attributes:
        key: Names it in links.
        title: For people; not safe as markup.
        place: None for all places together.
    """

    key: str
    title: str
    place: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one measurement took, anchors and runs that watch for drift too.

    Attributes:
        device: Where, as rows name it.
        ended_unix: When it ended.
        seconds: Of the device.
    """

    device: str
    ended_unix: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a study has measured so far.

    Attributes:
        name: The study's name.
        rows: Its table, a row for each measured point, in the order of measuring.
        objectives: Names of what it is ranked by.
        budgets: Its limits.
        across: How devices are combined.
        reference: Layout id that values are relative to where there are several places, or None.
        left_out: Devices that are not ranked with the others, with the reason.
        spent: What every measurement took that gave a result.
        facts: What the study is, in words, by heading.
        notes: What a reader must know of its numbers.
        colors: Colour of each mixer's letter.
        letters: What each letter stands for.
    """

    name: str
    rows: Sequence[Row]
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    across: str = "worst"
    reference: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    spent: Sequence[Spent] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    colors: Colors = field(default_factory=dict)
    letters: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def counted(self) -> list[Row]:
        """Rows of the devices that are ranked together."""
        return [row for row in self.rows if row["device"] not in self.left_out]

    @cached_property
    def _by_place(self) -> Mapping[Place, list[Row]]:
        found: dict[Place, list[Row]] = {}
        for row in self.rows:
            found.setdefault(place_of(row), []).append(row)
        return {where: found[where] for where in sorted(found, key=sortable)}

    @cached_property
    def _scopes(self) -> tuple[Scope, ...]:
        single = [
            Scope(key="|".join("" if part is None else str(part) for part in where), title=place(rows[-1]), place=where)
            for where, rows in self._by_place.items()
        ]
        counted = [where for where in self._by_place if where[0] not in self.left_out]
        if len(counted) < 2:
            return tuple(single)
        together = "all devices and sizes together" if self.across in ACROSS else f"{self.across} alone, all sizes"
        return (Scope(key=ALL_PLACES, title=together, place=None), *single)

    @cached_property
    def _measured(self) -> dict[str, tuple[str, ...]]:
        return {}

    def scopes(self) -> tuple[Scope, ...]:
        """All places together, where there are several, then each, in order."""
        return self._scopes

    def scope(self, key: str | None) -> Scope:
        """The scope of that key, or the first.

        Raises:
            LookupError: There is no row, hence no scope.
        """
        scopes = self.scopes()
        return next((scope for scope in scopes if scope.key == key), scopes[0])

    def rows_in(self, scope: Scope) -> list[Row]:
        """The rows of a scope."""
        return self.counted if scope.place is None else self._by_place[scope.place]

    def spent_in(self, scope: Scope) -> list[Spent]:
        """What the measurements of a scope's devices took."""
        if scope.place is not None:
            return [one for one in self.spent if one.device == scope.place[0]]
        alone = None if self.across in ACROSS else self.across
        return [one for one in self.spent if one.device not in self.left_out and alone in (None, one.device)]

    def measured_in(self, scope: Scope) -> tuple[str, ...]:
        """Quantities that a scope has, in table order: what its axes may be.

        A place may lack some of them (peak memory is taken at a workload's largest point).
        """
        if scope.key not in self._measured:
            rows = self.rows_in(scope)
            names = tuple(name for name in quantities() if any(row.get(name) is not None for row in rows))
            self._measured[scope.key] = names
        return self._measured[scope.key]

    def objectives_in(self, scope: Scope) -> tuple[str, ...]:
        """The study's objectives, without those that a place never has."""
        known = self.measured_in(scope)
        return tuple(name for name in self.objectives if name in known)

    def ranking(
        self, scope: Scope, *, objectives: Sequence[str] = (), drawn: Sequence[str] = (),
        budgets: Sequence[Budget] | None = None,
    ) -> Ranking:  # fmt: skip
        """Rank a scope.

        Args:
            scope: One of `scopes`.
            objectives: What the front is of. Default: the study's.
            drawn: Further quantities that are drawn, and do not count.
            budgets: Limits. Default: the study's. Those on what a place never has do not hold there.

        Raises:
            RankingError: There is nothing to rank by.
        """
        return self.prepared(scope, objectives=objectives, drawn=drawn).rank(self.limits_in(scope, budgets))

    def prepared(self, scope: Scope, *, objectives: Sequence[str] = (), drawn: Sequence[str] = ()) -> Prepared:
        """What can be ranked under any budgets; see `ranking`."""
        return prepare(
            self.rows_in(scope), list(objectives) or list(self.objectives_in(scope)), drawn=drawn,
            across=self.across if scope.place is None else "worst", reference=self.reference,
        )  # fmt: skip

    def limits_in(self, scope: Scope, budgets: Sequence[Budget] | None = None) -> list[Budget]:
        """Budgets, by default the study's, on what a scope has."""
        known = self.measured_in(scope)
        return [budget for budget in (self.budgets if budgets is None else budgets) if budget.objective in known]

    def axes(self, scope: Scope) -> tuple[str, str]:
        """What a front is drawn by unless somebody chooses: the first two objectives.

        Beside a single one: the parameters that are left to compute with.
        """
        names = self.objectives_in(scope) or self.measured_in(scope)[:1]
        beside = "embedding_share" if "effective_params" in names else "effective_params"
        x, y = [*names, beside][:2]
        return x, y


def kinds_text(objectives: Sequence[str], drawn: Sequence[str] = ()) -> str:
    """What it means to be on a front of these objectives, drawn by two quantities; text."""
    if set(objectives) <= set(drawn):
        return "Hover a point for what it is; click the legend to hide a kind."
    labels = ", ".join(quantity(name).label for name in objectives)
    return f"On the front counts in {labels}, and two quantities are drawn: a point may be on it for another."
