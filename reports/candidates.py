"""From rows to candidates: which rows belong to one, and what its values come to over the places it was measured in.

All that a ranking needs and that no budget changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reports.budgets import Budget, number
from reports.errors import RankingError
from reports.objectives import Quantity, quantity, unknown
from reports.values import ACROSS, Place, Row, Value, combined, place_of, place_text, sortable

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str]
_AS_THEY_ARE = frozenset({str, int, bool, type(None)})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layout or file in one precision, or an anchor.

    Attributes:
        key: Layout id (or name, or code) and precision.
        rows: Its rows, one per place.
        anchor: Whether it is a reference model.
        status: ``ok``, or the status of the first row that is not.
        reason: Why it cannot be ranked whatever the budgets are, or empty.
        values: What it is ranked by, and what is drawn besides.
    """

    key: Key
    rows: tuple[Row, ...]
    anchor: bool
    status: str
    reason: str
    values: Mapping[str, Value]

    @cached_property
    def title(self) -> str:
        """Name, code or id, for people."""
        return title_of(self.rows)

    @cached_property
    def _extremes(self) -> dict[str, tuple[float, float] | None]:
        return {}

    def violation(self, budget: Budget) -> float | None:
        """The worst relative excess over its rows; None where none has the number."""
        name = budget.objective
        if name not in self._extremes:
            found = [value for row in self.rows if (value := number(row.get(name))) is not None]
            self._extremes[name] = (min(found), max(found)) if found else None
        extremes = self._extremes[name]
        return None if extremes is None else max(map(budget.excess, extremes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The candidates of a table.

    Attributes:
        objectives: What they are ranked by.
        members: All of them, in the order in which they appear.
        relative: Objectives, and what is drawn besides, that are ratios to the reference.
        reference: Title of the reference, or None where nothing is relative.
    """

    objectives: tuple[Quantity, ...]
    members: tuple[Candidate, ...]
    relative: tuple[str, ...]
    reference: str | None


def records(rows: Iterable[Row] | pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain dicts: numpy numbers become Python's, NaN and infinities become None."""
    found = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    return [
        {str(key): value if type(value) in _AS_THEY_ARE else _plain(value) for key, value in row.items()}
        for row in found
    ]


def read_candidates(
    rows: Iterable[Row] | pd.DataFrame,
    objectives: Sequence[str],
    *,
    across: str = "worst",
    reference: str | None = None,
    drawn: Sequence[str] = (),
) -> Candidates:
    """Group rows and combine their values; see `reports.ranking.rank` for the arguments.

    Raises:
        UnknownNameError: An objective, a drawn quantity or `across` is not known.
        RankingError: No objectives.
    """
    plain = records(rows)
    devices = sorted({str(row["device"]) for row in plain if row.get("device") is not None})
    if across not in ACROSS:
        if across not in devices:
            raise unknown("way across devices", across, [*ACROSS, *devices])
        plain = [row for row in plain if row.get("device") == across]
    names = list(dict.fromkeys(objectives))
    known = tuple(quantity(name) for name in names)
    further = tuple(quantity(name) for name in dict.fromkeys(drawn) if name not in names)
    if not known:
        raise RankingError("there is nothing to rank by", hint="Name at least one objective.")
    grouped = _group(plain)
    places = _places(grouped)
    several = len(places) > 1  # `archsearch.outcomes.study_values` decides alike
    relative = tuple(q.name for q in known if several and not q.per_layout)
    ratios = tuple(q.name for q in further if several and not q.per_layout)
    base: dict[Place, Row] = {}
    title = None
    unrelated = ""
    if relative or ratios:
        key, unrelated = _reference(grouped, reference)
        base = {place_of(row): row for row in grouped.get(key, ()) if row.get("status") == "ok"}
        title = None if unrelated else title_of(grouped[key])
    if unrelated:  # nothing is drawn as a ratio to nothing
        further = tuple(q for q in further if q.name not in ratios)
        ratios = ()
    reader = _Reader(
        objectives=known, drawn=further, places=places, base=base, across=across, reference=title,
        unrelated=unrelated if relative else "", relative=bool(relative),
    )  # fmt: skip
    return Candidates(
        objectives=known, members=tuple(reader.candidate(key, own) for key, own in grouped.items()),
        relative=relative + ratios, reference=title,
    )  # fmt: skip


def title_of(rows: Sequence[Row]) -> str:
    """Name, code or id of whom the rows belong to."""
    return str(rows[0].get("name") or rows[0].get("code") or rows[0].get("layout_id") or "?")


def _group(rows: Sequence[Row]) -> dict[Key, tuple[Row, ...]]:
    """Rows by candidate; in each place the latest ok row, else the latest."""
    found: dict[Key, dict[Place, Row]] = {}
    for row in rows:
        name = row.get("layout_id") or row.get("name") or row.get("code") or "?"
        own = found.setdefault((str(name), str(row.get("precision") or "")), {})
        place = place_of(row)
        before = own.get(place)
        if before is None or row.get("status") == "ok" or before.get("status") != "ok":
            own[place] = row
    order: dict[Place, Any] = {place: sortable(place) for own in found.values() for place in own}
    return {key: tuple(own[place] for place in sorted(own, key=order.__getitem__)) for key, own in found.items()}


def _places(grouped: Mapping[Key, Sequence[Row]]) -> list[Place]:
    """Where candidates (or, without any, anchors) were measured."""
    some = [row for own in grouped.values() if not _is_anchor(own) for row in own]
    rows = some or [row for own in grouped.values() for row in own]
    return sorted({place_of(row) for row in rows}, key=sortable)


def _is_anchor(rows: Sequence[Row]) -> bool:
    return any(bool(row.get("anchor")) for row in rows)


def _reference(grouped: Mapping[Key, Sequence[Row]], wanted: str | None) -> tuple[Key, str]:
    """The candidate that others are related to, or why there is none."""

    def measured(key: Key) -> int:
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
    return min(keys, key=lambda key: (-measured(key), title_of(grouped[key]), key)), ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """What the values of all candidates have in common."""

    objectives: tuple[Quantity, ...]
    drawn: tuple[Quantity, ...]
    places: Sequence[Place]
    base: Mapping[Place, Row]
    across: str
    reference: str | None
    unrelated: str
    relative: bool

    def candidate(self, key: Key, rows: tuple[Row, ...]) -> Candidate:
        bad = next((row for row in rows if row.get("status") != "ok"), None)
        status = "ok" if bad is None else str(bad.get("status") or "failed")
        reason = "" if bad is None else str(bad.get("reason") or status)
        values: dict[str, Value] = {}
        if bad is None and self.unrelated:
            reason = self.unrelated
        elif bad is None:
            here = [(place_of(row), row) for row in rows]
            counted = [row for place, row in here if place in self.places]  # an anchor may have been elsewhere too
            reason = self._absent({place for place, _ in here})
            for objective in () if reason else self.objectives:
                found = combined(objective, counted, self.base, self.across)
                if found is None:
                    reason = reason or _lacking(objective, counted, self.base, self.reference)
                else:
                    values[objective.name] = found
            for further in () if reason else self.drawn:
                found = combined(further, counted, self.base, self.across)
                if found is not None:
                    values[further.name] = found
        return Candidate(
            key=key, rows=rows, anchor=_is_anchor(rows), status=status, reason=reason, values=values
        )  # fmt: skip

    def _absent(self, here: set[Place]) -> str:
        missing = next((place for place in self.places if place not in here), None)
        if missing is not None:
            return f"not measured at {place_text(missing)}"
        related = self.places if self.relative and self.base else ()
        unknown_there = next((place for place in related if place not in self.base), None)
        if unknown_there is not None:
            return f"the reference {self.reference} has no numbers at {place_text(unknown_there)}"
        return ""


def _lacking(objective: Quantity, rows: Sequence[Row], base: Mapping[Place, Row], reference: str | None) -> str:
    """Why `combined` has no value."""

    def has(row: Row) -> bool:
        return number(row.get(objective.name)) is not None

    if objective.per_layout or not base or any(has(base[place_of(row)]) and not has(row) for row in rows):
        return f"has no {objective.name}"
    return f"the reference {reference} has no {objective.name} to relate to"


def _plain(value: Any) -> Any:
    if type(value) is float:
        return value if math.isfinite(value) else None
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        value = item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value
