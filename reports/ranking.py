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

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reports import fronts
from reports.budgets import Budget, number
from reports.errors import RankingError
from reports.objectives import Quantity, quantity, unknown
from reports.values import ACROSS, Place, Row, Value, combined, place_of, place_text, sortable

if TYPE_CHECKING:
    import pandas as pd

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
        values: Objectives that it is ranked by; ratios to the reference where `Ranking.relative` names them.
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
        return _entry_title(self.rows)

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
        relative: Objectives that are ratios to the reference.
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


def records(rows: Iterable[Row] | pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain dicts: numpy numbers become Python's, NaN and infinities become None."""
    found = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    return [{str(key): _plain(value) for key, value in row.items()} for row in found]


def rank(
    rows: Iterable[Row] | pd.DataFrame,
    objectives: Sequence[str],
    budgets: Sequence[Budget] = (),
    *,
    across: str = "worst",
    reference: str | None = None,
) -> Ranking:
    """Rank candidates by Pareto tier inside the budgets, then by hypervolume contribution.

    Args:
        rows: Rows in the order they were measured: of two ok rows of one candidate in one place the later counts.
        objectives: Names of quantities, at least one.
        budgets: Limits; each holds in every place.
        across: ``worst``, ``geomean``, or the name of a device: only its rows are ranked.
        reference: Layout id, name or code that values are relative to when there are several places. Default: the
            anchor that was measured in most places, by name among equals.

    Raises:
        UnknownNameError: An objective or `across` is not known.
        RankingError: No objectives, or too many of them.
    """
    plain = records(rows)
    devices = sorted({str(row["device"]) for row in plain if row.get("device") is not None})
    if across not in ACROSS:
        if across not in devices:
            raise unknown("way across devices", across, [*ACROSS, *devices])
        plain = [row for row in plain if row.get("device") == across]
    names = list(dict.fromkeys(objectives))
    known = tuple(quantity(name) for name in names)
    if not known:
        raise RankingError("there is nothing to rank by", hint="Name at least one objective.")
    grouped = _group(plain)
    places = _places(grouped)
    relative: tuple[str, ...] = ()
    base: dict[Place, Row] = {}
    title = None
    if len(places) > 1:  # `archsearch.outcomes.study_values` decides alike
        relative = tuple(q.name for q in known if not q.per_layout)
    unrelated = ""
    if relative:
        key, unrelated = _reference(grouped, reference)
        base = {place_of(row): row for row in grouped.get(key, ()) if row.get("status") == "ok"}
        title = None if unrelated else _entry_title(grouped[key])
    entries = [
        _entry(
            key=key,
            rows=own,
            objectives=known,
            budgets=budgets,
            places=places,
            base=base,
            across=across,
            reference=title,
            unrelated=unrelated,
        )
        for key, own in grouped.items()
    ]
    return Ranking(
        objectives=known, budgets=tuple(budgets), entries=_ordered(entries, known), relative=relative, reference=title
    )


def _group(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[Row, ...]]:
    """Rows by candidate; in each place the latest ok row, else the latest."""
    found: dict[tuple[str, str], dict[Place, Row]] = {}
    for row in rows:
        name = row.get("layout_id") or row.get("name") or row.get("code") or "?"
        own = found.setdefault((str(name), str(row.get("precision") or "")), {})
        before = own.get(place_of(row))
        if before is None or row.get("status") == "ok" or before.get("status") != "ok":
            own[place_of(row)] = row
    return {key: tuple(own[place] for place in sorted(own, key=sortable)) for key, own in found.items()}


def _places(grouped: Mapping[tuple[str, str], Sequence[Row]]) -> list[Place]:
    """Where candidates (or, without any, anchors) were measured."""
    some = [row for own in grouped.values() if not _is_anchor(own) for row in own]
    rows = some or [row for own in grouped.values() for row in own]
    return sorted({place_of(row) for row in rows}, key=sortable)


def _is_anchor(rows: Sequence[Row]) -> bool:
    return any(bool(row.get("anchor")) for row in rows)


def _entry_title(rows: Sequence[Row]) -> str:
    return str(rows[0].get("name") or rows[0].get("code") or rows[0].get("layout_id") or "?")


def _reference(grouped: Mapping[tuple[str, str], Sequence[Row]], wanted: str | None) -> tuple[tuple[str, str], str]:
    """The candidate that others are related to, or why there is none."""

    def measured(key: tuple[str, str]) -> int:
        return sum(row.get("status") == "ok" for row in grouped[key])

    if wanted is None:
        keys = [key for key, own in grouped.items() if _is_anchor(own)]
        what = "no anchor was measured"
    else:
        names = ("layout_id", "name", "code")
        keys = [key for key, own in grouped.items() if any(wanted == row.get(name) for row in own for name in names)]
        what = f"the reference {wanted!r} was not measured"
    keys = [key for key in keys if measured(key)]
    if not keys:
        return ("", ""), f"not ranked: {what}, so what was measured in several places cannot be related"
    return min(keys, key=lambda key: (-measured(key), _entry_title(grouped[key]), key)), ""


def _entry(
    *,
    key: tuple[str, str],
    rows: tuple[Row, ...],
    objectives: Sequence[Quantity],
    budgets: Sequence[Budget],
    places: Sequence[Place],
    base: Mapping[Place, Row],
    across: str,
    reference: str | None,
    unrelated: str,
) -> Entry:
    bad = next((row for row in rows if row.get("status") != "ok"), None)
    status = "ok" if bad is None else str(bad.get("status") or "failed")
    reason = "" if bad is None else str(bad.get("reason") or status)
    values: dict[str, Value] = {}
    if bad is None and unrelated:
        reason = unrelated
    elif bad is None:
        counted = [row for row in rows if place_of(row) in places]  # an anchor may have been measured elsewhere too
        here = {place_of(row) for row in counted}
        missing = next((place for place in places if place not in here), None)
        unknown_there = next((place for place in places if base and place not in base), None)
        if missing is not None:
            reason = f"not measured at {place_text(missing)}"
        elif unknown_there is not None:
            reason = f"the reference {reference} has no numbers at {place_text(unknown_there)}"
        for objective in () if reason else objectives:
            found = combined(objective, counted, base, across)
            if found is None:
                reason = reason or _lacking(objective, counted, base, reference)
            else:
                values[objective.name] = found
    violations = {str(budget): _worst_violation(budget, rows) for budget in budgets}
    known = [violation for violation in violations.values() if violation is not None]
    feasible: bool | None = None
    if status == "infeasible" or any(violation > 0 for violation in known):
        feasible = False if status in ("ok", "infeasible") else None
    elif status == "ok" and len(known) == len(violations) and not reason:
        feasible = True
    elif status == "ok" and not reason:
        unknown_budget = next(name for name, violation in violations.items() if violation is None)
        reason = f"has no number for the budget {unknown_budget}"
    return Entry(
        key=key, rows=rows, anchor=_is_anchor(rows), status=status, reason=reason, values=values, violations=violations,
        feasible=feasible,
    )  # fmt: skip


def _lacking(objective: Quantity, rows: Sequence[Row], base: Mapping[Place, Row], reference: str | None) -> str:
    """Why `combined` has no value."""

    def has(row: Row) -> bool:
        return number(row.get(objective.name)) is not None

    if objective.per_layout or not base or any(has(base[place_of(row)]) and not has(row) for row in rows):
        return f"has no {objective.name}"
    return f"the reference {reference} has no {objective.name} to relate to"


def _worst_violation(budget: Budget, rows: Sequence[Row]) -> float | None:
    found = [violation for row in rows if (violation := budget.violation(row)) is not None]
    return max(found, default=None)


def _ordered(entries: Sequence[Entry], objectives: Sequence[Quantity]) -> tuple[Entry, ...]:
    candidates = [entry for entry in entries if entry.feasible and not entry.anchor]
    ranked = _ranked(candidates, objectives)
    beside = []
    for entry in entries:
        if entry.anchor and entry.feasible:
            placed = next(e for e in _ranked([*candidates, entry], objectives) if e.key == entry.key)
            beside.append(placed)
        elif entry.anchor:
            beside.append(replace(entry, front=None))
    order: list[tuple[tuple[Any, ...], Entry]] = []
    for entry in [*ranked, *beside, *(e for e in entries if not e.anchor and not e.feasible)]:
        if entry.rank is not None:
            place: tuple[Any, ...] = (0, entry.rank, not entry.anchor)
        elif entry.feasible is False and entry.violation is not None:
            place = (1, entry.violation)
        else:
            place = (2, entry.status != "ok", entry.status)
        order.append(((*place, entry.title, entry.key), entry))
    return tuple(entry for _, entry in sorted(order, key=lambda pair: pair[0]))


def _ranked(entries: Sequence[Entry], objectives: Sequence[Quantity]) -> list[Entry]:
    import numpy as np

    if not entries:
        return []

    def costs(end: str) -> Any:
        """Lower is better: quantities to maximise change sign, and their ends change places."""
        return np.asarray([[_cost(e.values[q.name], q, end) for q in objectives] for e in entries], dtype=float)

    values = costs("value")
    resolutions = [q.resolution for q in objectives]
    membership = fronts.membership(values, costs("low"), costs("high"), resolutions)
    tier = fronts.tiers(values, resolutions)
    unit = fronts.normalised(values)
    added = fronts.contributions(unit, tier)
    sums = unit.sum(axis=1)

    def place(index: int) -> tuple[Any, ...]:
        rounded = round(added[index], _DIGITS), round(float(sums[index]), _DIGITS)
        return (tier[index], -rounded[0], rounded[1], entries[index].title, entries[index].key)

    return [
        replace(entries[i], rank=position, tier=tier[i], front=membership[i], hv_contribution=added[i])
        for position, i in enumerate(sorted(range(len(entries)), key=place), start=1)
    ]


def _cost(value: Value, objective: Quantity, end: str) -> float:
    if objective.direction == "min":
        return float(getattr(value, end))
    return -{"value": value.value, "low": value.high, "high": value.low}[end]


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        value = item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value
