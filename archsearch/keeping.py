"""What measurements become: records of the store under their keys; and what is known already under one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.judging import SUPERSEDED, Judgement
from archsearch.measurement import CANDIDATE, NIGHTLY, WATCH, Evidence, Measurement, conditions
from archsearch.owners import owner_id
from archsearch.records import REUSED, from_record, kept_summary, layout_json, load_measurements, to_record
from archsearch.store import Check as PassedCheck
from archsearch.store import Claim, MeasurementRecord, Store
from archsearch.subjects import Subject
from profiler.jobs import Job, MeasurementKey
from profiler.results import Result

if TYPE_CHECKING:
    from profiler.runner import DeviceSession

SETTLED = ("ok", "out_of_memory", "invalid", "timeout", "infeasible")
"""Statuses that say something of the candidate: known, they are not measured again. The others are about the device's
moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A measurement and whether it was known already."""

    measurement: Measurement
    reused: bool


class Keeper:
    """Keeps what one open device measures for one study.

    Args:
        session: The device.
        store: Where records go.
        study: Name of the study that they belong to.
    """

    def __init__(self, session: DeviceSession, store: Store, study: str) -> None:
        self._session = session
        self._store = store
        self._study = study
        self._others: dict[str, dict[str, bool]] = {}  # by study and job: whether it stands

    def known(self, key_hash: str, subject: Subject) -> Outcome | None:
        """What is stored under a key, as a measurement of this subject; None where nothing is settled."""
        # A watch run is short and takes no peak memory: it says whether the device moved, and is no measurement. Those
        # of a night count by what was measured beside them.
        record = self._store.find_measurement(key_hash, statuses=SETTLED, but_roles=[WATCH, NIGHTLY])
        if record is None or (record.study != self._study and not self._stands(record)):
            return None
        layouts = {} if subject.layout is None else {subject.layout.layout_id: subject.layout}
        if record.study != self._study:
            self._store.add_event(
                self._study,
                REUSED,
                {
                    "job_id": record.job_id,
                    "role": subject.role,
                    "trial": subject.trial,
                    "name": subject.name,
                    "label": subject.label,
                },
            )
        measurement = replace(
            from_record(record, layouts),
            role=subject.role,
            trial=subject.trial,
            name=subject.name,
            label=subject.label,
        )
        return Outcome(measurement=measurement, reused=True)

    def _stands(self, record: MeasurementRecord) -> bool:
        """Whether another study has not thrown away what it measured: it stores what it saw, and judges it by all."""
        if record.status != "ok" or record.role != CANDIDATE:
            return True
        if record.study not in self._others or record.job_id not in self._others[record.study]:
            theirs = load_measurements(self._store, record.study)
            judgement = Judgement(theirs)
            self._others[record.study] = {m.job_id: judgement.status(m)[0] in ("ok", SUPERSEDED) for m in theirs}
        return self._others[record.study].get(record.job_id, True)

    def measurement(
        self, subject: Subject, job: Job, result: Result | None, bytes_sent: int, *, status: str = "", reason: str = ""
    ) -> Measurement:
        """A result as a measurement of a subject; without one, with the `status` and `reason` given."""
        return Measurement(
            job_id=job.job_id,
            role=subject.role,
            layout=subject.layout,
            name=subject.name,
            label=subject.label,
            device=self._session.device.name,
            workload=subject.workload.name,
            points=subject.points,
            precision=subject.precision,
            status=status or (result.status if result else "failed"),
            reason=reason or (result.reason if result else ""),
            evidence=Evidence.of(result),
            weights_bytes=subject.weights_bytes(),
            bytes_sent=bytes_sent,
            created_unix=time.time(),
            trial=subject.trial,
            lowerings=dict(subject.lowerings()),
            conditions=conditions(self._session.key(job).fields),
            foreign_state_bytes=subject.foreign_state_bytes(),
            group=self._session.device.group or "",
            seed=subject.seed,
            notes=_noted(subject, result),
        )

    def keep(
        self,
        measurement: Measurement,
        subject: Subject,
        key: MeasurementKey,
        *,
        raw: bytes | None = None,
        info: Mapping[str, Any] | None = None,
        claim: Claim | None = None,
        checks: Sequence[PassedCheck] = (),
    ) -> None:
        """Store a measurement, in the transaction that ends its claim.

        Raises:
            StoreError: It could not be stored; nothing of it is.
        """
        record = to_record(
            measurement,
            study=self._study,
            key=key,
            device_fingerprint=self._session.fingerprint,
            raw_result=raw,
            info={"owner": owner_id(), **(info or {})},
        )
        layout = subject.layout
        self._store.add_measurement(
            record,
            claim_hash=None if claim is None else claim.key_hash,
            layout=None if layout is None else layout_json(layout),
            code="" if layout is None else layout.code,
            checks=checks,
            summary=kept_summary(measurement),
        )


_ENVIRONMENT = (
    "machine", "cpu_model", "cores", "os", "os_build", "kernel", "libc", "python", "numpy", "governor", "clock_policy",
)  # fmt: skip


def _noted(subject: Subject, result: Result | None) -> dict[str, Any]:
    """A subject's notes, and beside them what the device said of itself while it was measured."""
    if not subject.notes or result is None:
        return dict(subject.notes)
    said = {name: getattr(result.environment, name, None) or result.environment.further(name) for name in _ENVIRONMENT}
    found = {name: str(value) for name, value in said.items() if value is not None}
    return {**subject.notes, "environment": found}
