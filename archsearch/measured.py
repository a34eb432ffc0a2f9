"""What a study has measured so far, held in memory beside the store: its table, its drift, its best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from archsearch.measurement import ANCHOR, CANDIDATE, UNSETTLED, Drift, Measurement, moved
from archsearch.objectives import objectives as all_objectives
from archsearch.records import load_measurements
from archsearch.store import Store
from archsearch.table import rows
from search_space.layout import Layout


class Measured:
    """The measurements of one study, in the order they were stored. Belongs to the study's thread.

    Args:
        store: Where they are kept.
        study: The study's name.
        watched: Layout id of the anchor that watches for drift, or None.
    """

    def __init__(self, store: Store, study: str, watched: str | None) -> None:
        self._store = store
        self._study = study
        self._watched = watched
        self._measurements: list[Measurement] = []

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._measurements)

    def __len__(self) -> int:
        return len(self._measurements)

    def load(self) -> None:
        """Read all that is stored, by this process or another."""
        self._measurements = load_measurements(self._store, self._study)

    def add(self, measurement: Measurement) -> None:
        """Add one that was just stored; one that is known is left alone."""
        if all(known.job_id != measurement.job_id for known in self._measurements):
            self._measurements.append(measurement)

    def latest_of(self, trial: int) -> dict[str, Measurement]:
        """The last measurement of a trial in each pool."""
        return {m.pool: m for m in self._measurements if m.trial == trial}

    def settled(self, anchor: Layout, *, device: str | None = None, pool: str | None = None) -> bool:
        """Whether an anchor has, on a device or in a pool, more than runs that others' work or heat made worthless."""
        return any(
            m.role == ANCHOR and m.layout == anchor and m.status not in UNSETTLED
            and device in (None, m.device) and pool in (None, m.pool)
            for m in self._measurements
        )  # fmt: skip

    def unlike(self, anchor: Layout, one: str, other: str) -> str:
        """How the first runs of an anchor on two devices differ by more than drift may; or an empty text."""
        runs = {m.device: m for m in reversed(self._measurements) if m.role == ANCHOR and m.layout == anchor}
        if one not in runs or other not in runs:
            return ""
        return moved(runs[one], runs[other])

    def rows(self) -> list[dict[str, Any]]:
        """The study as a plain table."""
        return rows(self._measurements)

    def drift(self) -> Drift:
        """How the devices moved, as far as is known now."""
        return Drift(self._measurements, self._watched)

    def seconds_per_candidate(self, pool: str | None = None) -> float | None:
        """Mean time that candidates took in a pool, or in all; before the first that of anchors; None before those."""
        here = [m for m in self._measurements if pool in (None, m.pool)]
        for role in (CANDIDATE, ANCHOR):
            mine = [m.result for m in here if m.role == role and m.result is not None]
            if mine:
                return fmean(result.seconds.get("total", 0.0) for result in mine)
        return None

    def best(self, objectives: Sequence[str]) -> Iterator[str]:
        """The best candidate so far in each objective that is measured, in words."""
        mine = [row for row in self.rows() if row["status"] == "ok" and row["trial"] is not None]
        several = len({row["device"] for row in mine}) > 1
        for name in objectives:
            objective = all_objectives()[name]
            values = [
                (row[name], f"{row['code']} on {row['device']}" if several else row["code"])
                for row in mine
                if row.get(name) is not None
            ]
            if objective.measured and values:
                value, code = min(values) if objective.direction == "min" else max(values)
                yield f"{name} {value:.4g} ({code})"
