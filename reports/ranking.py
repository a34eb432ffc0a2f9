"""From rows to a ranking: which rows belong to one candidate, which candidates compete, and in what order.

A candidate is a layout (or a named file) in one precision. Its rows are its measured points: one per device, workload
and sizes. With one such place the values are ranked as they are. With several, each value is taken relative to the
reference candidate's value in the same place, and combined: the worst ratio (default) or the geometric mean. The
reference's own interval is left out: it is common to all candidates. Without a reference, or in a place where it has no
numbers, nobody is ranked, and each says so.

Order: Pareto tier among the candidates inside the budgets, then the hypervolume that a candidate adds to its tier, then
the sum of its normalised costs, then its name. Anchors are ranked beside: each has the rank that it would take, and
moves nobody. Whoever has no numbers is listed with the reason and never ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from reports import fronts
from reports.budgets import Budget
from reports.candidates import Candidate, Candidates, read_candidates, records, title_of
from reports.objectives import Quantity
from reports.values import Row, Value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RELATIVE", "Entry", "Prepared", "Ranking", "prepare", "rank", "records"]

RELATIVE = "_relative"
"""Ends the name of a field that holds an objective's ratio to the reference."""
_DIGITS = 9
"""Decimals of contributions and normalised costs that are told apart; below is rounding noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A candidate or anchor in the ranking.

    Attributes:
        key: Layout id (or name, or code) and precision.
        rows: Its rows, one per place.
        anchor: Whether it is a reference model.
        status: ``ok``, or the status of the first row that is not.
        reason: Why it is not ranked, or empty.
        values: Objectives that it is ranked by, and of what is drawn besides what it has; ratios to the reference where
            `Ranking.relative` names them.
        violations: For each budget the worst relative excess over its rows, None where there is no number.
        feasible: Whether every budget is met; None when that cannot be said.
        rank: From 1; for an anchor the rank it would take; None when not ranked.
        tier: Pareto tier, from 1, among the feasible candidates.
        front: Membership in the front of the feasible candidates.
        hv_contribution: Share of the unit cube that it adds to its tier.
    """

    key: tuple[str, str]
    rows: tuple[Row, ...]
    anchor: bool
    status: str
    reason: str
    values: Mapping[str, Value]
    violations: Mapping[str, float | None]
    feasible: bool | None
    rank: int | None = None
    tier: int | None = None
    front: fronts.Membership | None = None
    hv_contribution: float | None = None

    @property
    def violation(self) -> float | None:
        """The largest violation of all budgets; at most 0 when all are met; None when one is not known."""
        found = list(self.violations.values())
        return None if not found or None in found else max(v for v in found if v is not None)

    @property
    def title(self) -> str:
        """Name, code or id, for people."""
        return title_of(self.rows)

    def reason_in(self, row: Row) -> str:
        """What a row of it has to say: why the entry as a whole is not ranked, and what there is about the row itself.

        The reason of an entry that is not ok is that of one of its rows, and stands there.
        """
        own = str(row.get("reason") or "")
        return "; ".join(filter(None, (self.reason, own))) if self.status == "ok" else own


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Entries in order: ranked ones (anchors where they would stand), then nearest misses, then those without numbers.

    Attributes:
        objectives: What was ranked by.
        budgets: The limits.
        entries: All of them, best first.
        relative: Objectives, and what is drawn besides, that are ratios to the reference.
        reference: Title of the reference, or None where nothing is relative.
    """

    objectives: tuple[Quantity, ...]
    budgets: tuple[Budget, ...]
    entries: tuple[Entry, ...]
    relative: tuple[str, ...] = ()
    reference: str | None = None

    @property
    def ranked(self) -> tuple[Entry, ...]:
        """Candidates with a rank, best first; no anchors."""
        return tuple(entry for entry in self.entries if entry.rank is not None and not entry.anchor)

    @property
    def nothing_feasible(self) -> bool:
        """Whether candidates were measured and none of them meets the budgets."""
        return not self.ranked and any(entry.feasible is False and not entry.anchor for entry in self.entries)

    def nearest_misses(self, count: int = 5) -> tuple[Entry, ...]:
        """Candidates outside the budgets, the smallest excess first."""
        misses = [e for e in self.entries if e.feasible is False and not e.anchor and e.violation is not None]
        return tuple(misses[:count])

    def front(self) -> tuple[Entry, ...]:
        """Those on the front and those that noise could put there; anchors too."""
        return tuple(entry for entry in self.entries if entry.front in ("on", "uncertain") or entry.anchor)

    def table(self, entries: Iterable[Entry] | None = None) -> list[dict[str, Any]]:
        """One dict per row: rank, tier, front, feasible, violation and hv_contribution, then the row's own fields.

        Relative objectives appear as ``{name}_relative`` too, the same in all rows of an entry.
        """
        return [
            {
                "rank": entry.rank,
                "front": entry.front,
                "tier": entry.tier,
                "feasible": entry.feasible,
                "violation": entry.violation,
                "hv_contribution": entry.hv_contribution,
                **{f"{name}{RELATIVE}": getattr(entry.values.get(name), "value", None) for name in self.relative},
                **row,
                "reason": entry.reason_in(row),
            }
            for entry in (self.entries if entries is None else entries)
            for row in entry.rows
        ]


def rank(
    rows: Iterable[Row] | pd.DataFrame,
    objectives: Sequence[str],
    budgets: Sequence[Budget] = (),
    *,
    across: str = "worst",
    reference: str | None = None,
    drawn: Sequence[str] = (),
) -> Ranking:
    """Rank candidates by Pareto tier inside the budgets, then by hypervolume contribution.

    Args:
        rows: Rows in the order they were measured: of two ok rows of one candidate in one place the later counts.
        objectives: Names of quantities, at least one.
        budgets: Limits; each holds in every place.
        across: ``worst``, ``geomean``, or the name of a device: only its rows are ranked.
        reference: Layout id, name or code that values are relative to when there are several places. Default: the
            anchor that was measured in most places, by name among equals.
        drawn: Further quantities whose values pictures need. They are combined as objectives are, and rank nobody;
            whoever has none of one is ranked all the same.

    Raises:
        UnknownNameError: An objective, a drawn quantity or `across` is not known.
        RankingError: No objectives, or too many of them.
    """
    return prepare(rows, objectives, across=across, reference=reference, drawn=drawn).rank(budgets)


def prepare(
    rows: Iterable[Row] | pd.DataFrame,
    objectives: Sequence[str],
    *,
    across: str = "worst",
    reference: str | None = None,
    drawn: Sequence[str] = (),
) -> Prepared:
    """What does not depend on budgets, for ranking the same rows under many of them; see `rank`.

    Raises:
        UnknownNameError: An objective, a drawn quantity or `across` is not known.
        RankingError: No objectives.
    """
    return Prepared(read_candidates(rows, objectives, across=across, reference=reference, drawn=drawn))


class Prepared:
    """Candidates that can be ranked under any budgets."""

    def __init__(self, candidates: Candidates) -> None:
        import numpy as np

        self._candidates = candidates
        self._at = [at for at, one in enumerate(candidates.members) if one.status == "ok" and not one.reason]
        own = [candidates.members[at].values for at in self._at]

        def costs(end: str) -> Any:
            """Lower is better: quantities to maximise change sign, and their ends change places."""
            columns = [[_cost(values[q.name], q, end) for values in own] for q in candidates.objectives]
            return np.asarray(columns, dtype=float).T

        self._costs = _Costs(values=costs("value"), lows=costs("low"), highs=costs("high"))

    def rank(self, budgets: Sequence[Budget] = ()) -> Ranking:
        """The ranking inside these budgets.

        Raises:
            RankingError: There are too many objectives.
        """
        candidates = self._candidates
        named = {str(budget): budget for budget in budgets}
        verdicts = [_verdict(one, named) for one in candidates.members]
        feasible = [(row, at) for row, at in enumerate(self._at) if verdicts[at].feasible]
        places = self._places(
            [pair for pair in feasible if not candidates.members[pair[1]].anchor],
            [pair for pair in feasible if candidates.members[pair[1]].anchor],
        )
        order: list[tuple[tuple[Any, ...], Entry]] = []
        for at, (one, verdict) in enumerate(zip(candidates.members, verdicts, strict=True)):
            place = places.get(at, _NOWHERE)
            entry = Entry(
                key=one.key, rows=one.rows, anchor=one.anchor, status=one.status, reason=verdict.reason,
                values=one.values, violations=verdict.violations, feasible=verdict.feasible, rank=place.rank,
                tier=place.tier, front=place.front, hv_contribution=place.hv_contribution,
            )  # fmt: skip
            first: tuple[Any, ...] = (2, one.status != "ok", one.status)
            if entry.rank is not None:
                first = (0, entry.rank, not one.anchor)
            elif entry.feasible is False and entry.violation is not None:
                first = (1, entry.violation)
            order.append(((*first, one.title, one.key), entry))
        return Ranking(
            objectives=candidates.objectives, budgets=tuple(budgets),
            entries=tuple(entry for _, entry in sorted(order, key=lambda pair: pair[0])),
            relative=candidates.relative, reference=candidates.reference,
        )  # fmt: skip

    def _places(self, ranked: Sequence[tuple[int, int]], beside: Sequence[tuple[int, int]]) -> dict[int, _Place]:
        """The places of feasible candidates, and those that anchors would take, each by itself.

        Both are given as their row among the costs and their place among the members.
        """
        if not ranked and not beside:
            return {}
        costs = self._costs.of([row for row, _ in (*ranked, *beside)])
        resolutions = [q.resolution for q in self._candidates.objectives]
        beats = fronts.dominates(costs.values, costs.values, resolutions)  # of all, once
        found = {}
        if ranked:
            inner = costs.of(slice(len(ranked)))
            among = beats[: len(ranked), : len(ranked)]
            tier = fronts.tiers(inner.values, resolutions, among)
            front = fronts.membership(*inner, resolutions, among)
            unit = fronts.normalised(inner.values)
            added = fronts.contributions(unit, tier)
            sums = unit.sum(axis=1)
            order = sorted(range(len(ranked)), key=lambda i: self._before(tier[i], added[i], sums[i], ranked[i][1]))
            for rank, i in enumerate(order, start=1):
                found[ranked[i][1]] = _Place(rank, tier[i], front[i], added[i])
        for row, (_, at) in enumerate(beside, start=len(ranked)):
            found[at] = self._place_beside(costs, [at for _, at in ranked], beats, row, at)
        return found

    def _place_beside(self, costs: _Costs, ranked: Sequence[int], beats: Any, row: int, at: int) -> _Place:
        """The place of one anchor, were it a candidate.

        Args:
            costs: Of the candidates, then of the anchors.
            ranked: The candidates' places among the members.
            beats: Who dominates whom among them.
            row: The anchor's row there.
            at: Its place among the members.
        """
        import numpy as np

        members = [*range(len(ranked)), row]
        resolutions = [q.resolution for q in self._candidates.objectives]
        tiers = fronts.tiers_until(beats, members)
        own = tiers[row]
        unit = fronts.normalised(costs.values[members])
        mates = [i for i, member in enumerate(members) if tiers[member] == own]
        added = fronts.contributions(unit[mates], [own] * len(mates))
        sums = unit.sum(axis=1)
        everybody = [*ranked, at]
        keys = [self._before(own, of_one, sums[i], everybody[i]) for i, of_one in zip(mates, added, strict=True)]
        before = int(np.count_nonzero((tiers > 0) & (tiers < own))) + sum(key < keys[-1] for key in keys)
        attack = costs.of(members)
        front = fronts.membership_of(len(ranked), *attack, resolutions)
        return _Place(before + 1, int(own), front, added[-1])

    def _before(self, tier: int, added: float, total: float, at: int) -> tuple[Any, ...]:
        """What the order of candidates goes by."""
        one = self._candidates.members[at]
        return (tier, -round(added, _DIGITS), round(float(total), _DIGITS), one.title, one.key)


class _Costs(NamedTuple):
    """Costs, n x m: point estimates and the ends of their intervals."""

    values: Any
    lows: Any
    highs: Any

    def of(self, rows: Any) -> _Costs:
        return _Costs(self.values[rows], self.lows[rows], self.highs[rows])


class _Place(NamedTuple):
    rank: int | None = None
    tier: int | None = None
    front: fronts.Membership | None = None
    hv_contribution: float | None = None


_NOWHERE = _Place()


class _Verdict(NamedTuple):
    """What budgets say to a candidate; see `Entry`."""

    feasible: bool | None
    reason: str
    violations: Mapping[str, float | None]


def _verdict(one: Candidate, budgets: Mapping[str, Budget]) -> _Verdict:
    violations = {name: one.violation(budget) for name, budget in budgets.items()}
    known = [violation for violation in violations.values() if violation is not None]
    if one.status == "infeasible" or any(violation > 0 for violation in known):
        return _Verdict(False if one.status in ("ok", "infeasible") else None, one.reason, violations)
    if one.status != "ok" or one.reason:
        return _Verdict(None, one.reason, violations)
    if len(known) == len(violations):
        return _Verdict(True, "", violations)
    unknown = next(name for name, violation in violations.items() if violation is None)
    return _Verdict(None, f"has no number for the budget {unknown}", violations)


def _cost(value: Value, objective: Quantity, end: str) -> float:
    if objective.direction == "min":
        return float(getattr(value, end))
    return -{"value": value.value, "low": value.high, "high": value.low}[end]
