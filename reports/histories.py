"""A series with what each night said of it by then, its change points, and what changed around it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.change_points import ChangePoint, change_points
from reports.nights import Night, Series
from reports.verdict import Verdict
from reports.verdict_rows import verdict_row
from reports.verdicts import replay

UNKNOWN = "unknown"
"""What a name has on nights whose environment does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentChange:
    """A night whose environment differs from that of the night before.

    Attributes:
        time: The night, seconds since 1970.
        names: Old and new value, by what changed.
    """

    time: float
    names: Mapping[str, tuple[str, str]]

    @property
    def text(self) -> str:
        """``runtime 1.31.1 -> 1.32.0, agent 5 -> 6``; not safe yet."""
        return ", ".join(f"{name} {old} -> {new}" for name, (old, new) in self.names.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One series, looked back on.

    Attributes:
        series: With its nights.
        verdicts: Of each of its nights in order of time, from what was known by then; at least one.
        points: Its change points.
        changes: Of its environment.
    """

    series: Series
    verdicts: tuple[Verdict, ...]
    points: tuple[ChangePoint, ...]
    changes: tuple[EnvironmentChange, ...]

    @property
    def latest(self) -> Verdict:
        """On its last night."""
        return self.verdicts[-1]


def histories(
    series: Sequence[Series], *, at: float | None = None, shown: Collection[str] | None = None
) -> tuple[History, ...]:
    """Histories up to one night, in the order of the series; of those that have no night by then there is none.

    Args:
        series: All that are judged together, anchors too.
        at: Time of the night; the latest of all by default.
        shown: Keys of those whose histories are wanted; all by default.

    Raises:
        ValueError: Two series have one key.
    """
    own = {one.key: {night.time for night in one.nights} for one in series}
    verdicts: dict[str, list[Verdict]] = {one.key: [] for one in series}
    for time, tonight in replay(series, at=at):
        for verdict in tonight:
            if time in own[verdict.series.key]:
                verdicts[verdict.series.key].append(verdict)
    return tuple(
        History(
            series=one, verdicts=tuple(found), points=change_points(one, at=found[-1].time),
            changes=environment_changes(one.until(found[-1].time)),
        )
        for one in series
        if (shown is None or one.key in shown) and (found := verdicts[one.key])
    )  # fmt: skip


def environment_changes(nights: Sequence[Night]) -> tuple[EnvironmentChange, ...]:
    """What differs from night to night; nights that say nothing of their environment are passed over."""
    found = []
    before: Mapping[str, str] | None = None
    for night in nights:
        now = night.environment
        if not now:
            continue
        if before is not None:
            names = {
                name: (before.get(name, UNKNOWN), now.get(name, UNKNOWN))
                for name in sorted({*before, *now})
                if before.get(name, UNKNOWN) != now.get(name, UNKNOWN)
            }
            if names:
                found.append(EnvironmentChange(time=night.time, names=names))
        before = now
    return tuple(found)


def night_rows(history: History) -> list[dict[str, Any]]:
    """Every night as `verdict_row`, with the change point and the changes that fall on it, and what was accepted."""
    points = {point.time: point for point in history.points}
    changes = {change.time: change for change in history.changes}
    rows, before = [], -math.inf
    for verdict in history.verdicts:
        point, change = points.get(verdict.time), changes.get(verdict.time)
        accepted = [one for one in history.series.acceptances if before < one.time <= verdict.time]
        before = verdict.time
        rows.append({
            **verdict_row(verdict),
            "change_point": None if point is None else point.effect,
            "change_point_before": None if point is None else point.before,
            "change_point_after": None if point is None else point.after,
            "environment_changes": {} if change is None else {name: list(pair) for name, pair in change.names.items()},
            "accepted_tonight": [{"by": one.by, "reason": one.reason, "pinned": one.pinned} for one in accepted],
        })  # fmt: skip
    return rows


def series_row(history: History) -> dict[str, Any]:
    """A series as its latest `verdict_row`, with the number of its nights and its change points."""
    return {
        **verdict_row(history.latest),
        "nights": len(history.series.until(history.latest.time)),
        "change_points": [
            {"time_unix": point.time, "effect": point.effect, "before": point.before, "after": point.after,
             "worse": point.worse}
            for point in history.points
        ],
    }  # fmt: skip
