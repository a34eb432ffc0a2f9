"""What a study has measured so far, held in memory beside the store: its table, its drift, its best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from archsearch.judging import AtWork, Judgement
from archsearch.measurement import ANCHOR, CANDIDATE, UNSETTLED, Measurement
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
        at_work: Gives the devices that measure now.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        watched: str | None,
        at_work: Callable[[], Mapping[str, AtWork]] = dict,
    ) -> None:
        self._store = store
        self._study = study
        self._watched = watched
        self._at_work = at_work
        self._measurements: list[Measurement] = []
        self._begun = time.time()
        self._state: object = None
        self._judgement = Judgement(())
        self._rows: list[dict[str, Any]] | None = None
        self._of_trials: dict[tuple[int, str], list[Measurement]] | None = None

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._measurements)

    def __len__(self) -> int:
        return len(self._measurements)

    def load(self) -> None:
        """Read all that is stored, by this process or another."""
        self._measurements = load_measurements(self._store, self._study)
        self._state = None

    def add(self, measurement: Measurement) -> bool:
        """Add one that was just stored; whether it was new: one that is known is left alone."""
        new = all(known.job_id != measurement.job_id for known in self._measurements)
        if new:
            self._measurements.append(measurement)
        return new

    def of_trials(self) -> dict[tuple[int, str], list[Measurement]]:
        """The measurements that count of each trial in each pool, in the order they were stored."""
        judgement = self.judgement()
        if self._of_trials is None:
            self._of_trials = {}
            for m in self._measurements:
                if m.trial is not None and judgement.counts(m):
                    self._of_trials.setdefault((m.trial, m.pool), []).append(m)
        return self._of_trials

    def worth_retrying(self, measurement: Measurement) -> bool:
        """Whether it failed in an earlier run: that may have been the device's fault, which this run finds well."""
        return measurement.status == "failed" and measurement.created_unix < self._begun

    def settled(self, anchor: Layout, *, device: str | None = None, pool: str | None = None) -> bool:
        """Whether an anchor has, on a device or in a pool, a run that counts.

        Not one under other conditions, none that others' work or heat made worthless, and no failure of an earlier run.
        """
        judgement = self.judgement()
        return any(
            judgement.status(m)[0] not in UNSETTLED and not self.worth_retrying(m)
            and (device is not None or judgement.counts(m))
            for m in self.anchors(anchor, device=device, pool=pool)
        )  # fmt: skip

    def anchors(self, anchor: Layout, *, device: str | None = None, pool: str | None = None) -> list[Measurement]:
        """The runs of an anchor on a device, or in a pool, under the conditions that there are now."""
        judgement = self.judgement()
        return [
            m for m in self._measurements
            if m.role == ANCHOR and m.layout == anchor and not judgement.is_superseded(m)
            and device in (None, m.device) and pool in (None, m.pool)
        ]  # fmt: skip

    def superseded(self, device: str) -> list[Measurement]:
        """What a device measured under other conditions than those it has now, oldest first."""
        judgement = self.judgement()
        return [m for m in self._measurements if m.device == device and judgement.is_superseded(m)]

    def rows(self) -> list[dict[str, Any]]:
        """The study as a plain table."""
        judgement = self.judgement()
        if self._rows is None:
            self._rows = rows(self._measurements, judgement)
        return self._rows

    def judgement(self) -> Judgement:
        """What each measurement is worth, by all that is known now."""
        now = dict(self._at_work())
        state = (len(self._measurements), now)
        if self._state != state:
            self._state, self._rows, self._of_trials = state, None, None
            self._judgement = Judgement(self._measurements, self._watched, now)
        return self._judgement

    def seconds_per_candidate(self, pool: str | None = None) -> float | None:
        """Mean time that candidates took in a pool, or in all; before the first that of anchors; None before those."""
        here = [m for m in self._measurements if pool in (None, m.pool)]
        for role in (CANDIDATE, ANCHOR):
            mine = [m.summary for m in here if m.role == role and m.summary is not None]
            if mine:
                return fmean(summary.total_s for summary in mine)
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
