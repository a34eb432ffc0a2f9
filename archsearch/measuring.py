"""Measures one layout or file on one device: reuse what is known, check new blocks, send, wait, store.

A measurement is claimed in the store before it starts and stored in the transaction that ends the claim, so that a
killed driver leaves either nothing, or a job that its successor finds again on the device, or a stored result; never
two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from archsearch.keeping import Keeper, Outcome
from archsearch.measurement import Measurement, conditions
from archsearch.store import STALE_S, Claim, Store
from archsearch.subjects import Subject, timeout_factor
from archsearch.timing import Seconds
from archsearch.verification import passed_checks, with_checks
from profiler.agent.protocol import METHOD
from profiler.errors import (
    AccessRefused,
    AgentDied,
    ConnectionLost,
    DeviceUnavailable,
    ProfilerError,
    ResultError,
    TransportError,
)
from profiler.jobs import Job, MeasurementKey, Protocol, new_job_id
from profiler.results import Result, parse_result

if TYPE_CHECKING:
    from archsearch.tuning import Tuner
    from profiler.results import JobStatus
    from profiler.runner import DeviceSession, JobHandle

MAX_RERUNS = 2
"""How often a job is run again that could not be sent, whose agent died, or whose result is nonsense or a failure."""

RERUN_AFTER_S = (10.0, 2.0)
"""How long a device is left alone before the last repetition, and before the one that comes first: a disk that is full,
or whoever ends processes there, may have been a matter of the moment."""

_FRESH = "-"
"""Stands in the claims of fresh measurements, and in no key."""

IfChanged = Literal["again", "raise"]
OnStatus = Callable[["JobStatus | None"], None]


MAX_CHANGES = 3
"""How often a device may become another (an update, another governor) in one run: each time its anchors, and all that
it has measured, are measured again."""


class DeviceChanged(DeviceUnavailable):
    """A result belongs to another series than the one it was asked for, and so will what is measured next."""


class Restless(DeviceChanged):
    """And this has happened too often."""


class _Failed(Exception):  # noqa: N818 - it may end otherwise the next time
    """A job could not be sent, or ended with status `failed`."""


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """The measurement was cancelled; nothing of it is stored."""


class Measurer:
    """Measures on one open device; belongs to the thread that uses it.

    Attributes:
        waited_s: Time spent waiting for other runs' results, which no measurement of ours accounts for.
        tuning_s: Time spent choosing lowerings.

    Args:
        session: The open device.
        store: Where results go.
        study: Name of the study that the measurements belong to.
        protocol: How hard the agent tries.
        cancel: Set from outside to stop.
        say: Called with a sentence when somebody else is measuring the same thing, or a job is run again.
        tuner: Chooses the lowerings of this device; None for those of the subject.
    """

    def __init__(
        self,
        session: DeviceSession,
        store: Store,
        *,
        study: str,
        protocol: Protocol,
        cancel: Event | None = None,
        say: Callable[[str], None] | None = None,
        tuner: Tuner | None = None,
    ) -> None:
        self.session = session
        self.store = store
        self.study = study
        self.protocol = protocol
        self.cancel = cancel or Event()
        self.waited_s = 0.0
        self.tuning_s = 0.0
        self._say = say or (lambda _: None)
        session.link.stop = self.cancel
        session.link.on_link = lambda line: self._say(f"{session.device.name}: {line}")
        self._tuner = tuner
        self._changes = 0
        self._keeper = Keeper(session, store, study)
        self._sent_before = 0
        self._in_vain: tuple[Subject, int] | None = None  # what was sent for a subject without a result

    def measure(
        self,
        subject: Subject,
        *,
        fresh: bool = False,
        protocol: Protocol | None = None,
        on_status: OnStatus | None = None,
        if_changed: IfChanged = "again",
    ) -> Outcome:
        """Measure, or take what is known under the same key.

        Args:
            subject: What.
            fresh: Measure even if a result is known.
            protocol: In place of the usual one.
            on_status: Called with what the agent says.
            if_changed: Whether it is run again, in the series of what the device has become.

        Raises:
            Interrupted: `cancel` was set.
            DeviceChanged: The device has become another, and `if_changed` is ``raise``, or it did so for the
                `MAX_CHANGES` + 1st time (`Restless`).
            AgentDied: The agent died without a result, and did so again.
            ResultError: What it wrote is no result, and was not either when it was run again.
            TransportError: The device is out of reach, and the job goes on; a later run finds it. Or it does not
                take the job.
            StoreError: The result could not be stored; the job stays on the device and is found again.
        """
        self._in_vain = None
        as_given = subject
        if self._tuner is not None:
            begun = time.monotonic()
            try:
                subject = self._tuner.tuned(subject, on_status)
            finally:
                self.tuning_s += time.monotonic() - begun
        self._sent_before = self.session.bytes_sent
        try:
            return self._attempts(subject, fresh, protocol, on_status, if_changed=if_changed)
        except ProfilerError:
            self._in_vain = (as_given, self._sent())
            raise

    def _sent(self) -> int:
        """Bytes that have crossed the link for what is being measured, over all attempts."""
        return self.session.bytes_sent - self._sent_before

    def _attempts(
        self,
        subject: Subject,
        fresh: bool,
        protocol: Protocol | None,
        on_status: OnStatus | None,
        *,
        if_changed: IfChanged = "again",
    ) -> Outcome:
        """Measure, and again where it may end otherwise the next time."""
        failed = ""
        for again in range(MAX_RERUNS, -1, -1):
            try:
                return self._measure(subject, fresh, protocol, on_status, last=not again, failed=failed)
            except (AgentDied, ResultError, DeviceChanged, _Failed) as error:
                if self.cancel.is_set():  # it did not end when asked to, and was killed
                    raise Interrupted from error
                if isinstance(error, Restless) or (isinstance(error, DeviceChanged) and if_changed == "raise"):
                    raise
                if not again:
                    raise
                failed = str(error)
                self._say(f"{self.session.device.name}: {subject.label}: {failed}; it is run again")
                self.cancel.wait(RERUN_AFTER_S[again - 1])
                with suppress(TransportError):  # if it cannot be written to, the job will say so
                    self.session.repair()
        raise AssertionError  # the last round returns or raises

    def _measure(
        self,
        subject: Subject,
        fresh: bool,
        protocol: Protocol | None,
        on_status: OnStatus | None,
        *,
        last: bool,
        failed: str,
    ) -> Outcome:
        """One attempt, maybe the `last`; a failure with the reason `failed` once more is the subject's own."""
        seconds = Seconds()
        job = self._job(subject, protocol or self.protocol)
        key = self.session.key(job)
        known = None if fresh else self._keeper.known(key.id, subject)
        if known is not None:
            return known
        # A fresh measurement of a key is its own claim: it must not be answered with somebody else's.
        claim = self.store.claim(self._fresh_claim(key, job) if fresh else key.id, job.job_id)
        if not claim.mine:
            return self._await_other(subject, key, claim, protocol, on_status)
        known = None if fresh else self._keeper.known(key.id, subject)
        if known is not None:  # somebody else stored it, and ended the claim, between our two looks
            self.store.release(claim.key_hash)
            return known
        handle: JobHandle | None = None
        try:
            handle = self._found_again(claim, job.job_id)
            found_again = handle is not None
            seconds.lap("claim")
            if handle is not None:
                job = replace(job, job_id=claim.job_id)
            else:
                job, files = with_checks(job, subject, session=self.session, store=self.store)
                seconds.lap("reference")
                handle = self.session.submit(job, files)
                seconds.lap("send")
            raw = self._wait(handle, claim, on_status)
            seconds.lap("wait")
            result = parse_result(raw, job)
            self._require_same_device(result)
        except (AgentDied, ResultError, DeviceChanged):
            if handle is not None:
                with suppress(ProfilerError):
                    self.session.kill(handle)  # one that hangs, or whose result is nonsense, may be alive
            self._forget(claim, key, job)
            raise
        except TransportError as error:
            if handle is None and not isinstance(error, ConnectionLost | AccessRefused):
                self._forget(claim, key, job)  # it was not begun
                if not last:
                    raise _Failed(str(error)) from error
            raise  # else the job goes on without us: the claim leads the next run to it
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and handle is not None:
                with suppress(ProfilerError):  # nobody waits any more, but the device must not go on
                    self.session.cancel(handle)
            self.store.release(claim.key_hash)
            raise
        if result.status == "cancelled":
            self._forget(claim, key, job)
            if found_again and not last and not self.cancel.is_set():
                raise _Failed("it was cancelled for a run that ended before it heard of that")
            raise Interrupted
        if result.status == "failed" and result.reason != failed and not last:
            self._forget(claim, key, job)
            raise _Failed(result.reason)
        # What was sent by the driver before us, whose job this is, is not known.
        sent = 0 if found_again else self._sent()
        measurement = self._keeper.measurement(subject, job, result, sent)
        if found_again:  # it was measured when nobody looked: after the last sign of who had sent it, before ours
            measurement = replace(measurement, created_unix=claim.seen_unix)
        info: dict[str, Any] = {
            "driver_seconds": seconds.by_phase,
            "agent_seconds": dict(result.seconds),
            "fresh": fresh,
        }
        if found_again:  # until then the agent worked with no run to book its time on
            info["unattended_s"] = max(0.0, result.seconds.get("total", 0.0) - seconds.by_phase.get("wait", 0.0))
        checks = passed_checks(result, subject, session=self.session)
        self._keeper.keep(measurement, subject, key, raw=raw, info=info, claim=claim, checks=checks)
        self._remove(key, job)  # what is stored is stored, whatever becomes of the folder
        return Outcome(measurement=measurement, reused=False)

    def _forget(self, claim: Claim, key: MeasurementKey, job: Job) -> None:
        """End the claim of a job of which nothing is stored, and remove what it left."""
        self.store.release(claim.key_hash)
        self._remove(key, job)

    def _remove(self, key: MeasurementKey, job: Job) -> None:
        """Remove a job's folder; where that cannot be done now, a claim leads the next run's `sweep` to it."""
        try:
            self.session.cleanup(job.job_id)
        except ProfilerError:
            self.store.claim(self._fresh_claim(key, job), job.job_id)

    def _fresh_claim(self, key: MeasurementKey, job: Job) -> str:
        """Says which device it is of: a job that a dead driver left must be looked for there, and nowhere else."""
        return _FRESH.join((key.id[:24], self.session.fingerprint, job.job_id[-8:]))

    def _require_same_device(self, result: Result) -> None:
        """Refuse what another device measured: one behind the same address, or this one after an update."""
        if result.environment.machine is None:
            return  # it ended before it looked around
        changed = self.session.changed(result.environment)
        if changed:
            self.session.refresh()
            self._changes += 1
            if self._changes > MAX_CHANGES:
                raise Restless(f"it became another device {self._changes} times while it measured ({changed})")
            raise DeviceChanged(f"the device is not what it was ({changed})")

    @property
    def conditions(self) -> str:
        """Of what would be measured now, as `measurement.conditions` gives them."""
        return conditions({
            "runtime": self.session.runtime().to_json(),
            "method": METHOD,
            "runtime_version": self.session.runtime_version,
            "device": self.session.fingerprint,
        })  # fmt: skip

    def known(self, subject: Subject) -> Outcome | None:
        """What is stored under the key that the subject would be measured under now; None where nothing is."""
        return self._keeper.known(self.session.key(self._job(subject, self.protocol)).id, subject)

    def sweep(self) -> None:
        """End and remove jobs on this device that nobody will ask for: fresh runs of drivers that died."""
        stop = Event()
        stop.set()
        for claim in self.store.abandoned_claims():
            if _FRESH not in claim.key_hash:
                continue  # a known key: whoever measures it next takes the job over
            handle = self.session.attach(claim.job_id)
            if handle is None:
                self.session.cleanup(claim.job_id)  # it died here, was never sent, or is on another device
                if self.session.fingerprint in claim.key_hash:
                    self._end(claim)
            elif self.store.claim(claim.key_hash, claim.job_id).mine:
                try:
                    self.session.wait(handle, cancel=stop)
                except (AgentDied, ResultError):
                    self.session.kill(handle)  # what says nonsense may be alive
                self.session.cleanup(claim.job_id)
                self.store.release(claim.key_hash)

    def _end(self, claim: Claim) -> None:
        """End the claim of an owner that is dead, unless somebody else has taken it over."""
        if self.store.claim(claim.key_hash, claim.job_id).mine:
            self.store.release(claim.key_hash)

    def store_unmeasured(self, subject: Subject, status: str, reason: str) -> Measurement:
        """Store an outcome that has no result: a candidate that cannot meet a budget, or one that `measure` gave up."""
        job = self._job(subject, self.protocol)
        in_vain, self._in_vain = self._in_vain, None
        sent = in_vain[1] if in_vain is not None and in_vain[0] is subject else 0
        measurement = self._keeper.measurement(subject, job, None, sent, status=status, reason=reason)
        self._keeper.keep(measurement, subject, self.session.key(job))
        return measurement

    def _found_again(self, claim: Claim, job_id: str) -> JobHandle | None:
        """The job of a claim that was taken over from a driver that died, if it is still on the device.

        Where it is not, the claim is put on our own job.
        """
        if claim.job_id == job_id:
            return None
        handle = self.session.attach(claim.job_id)
        if handle is None:
            self.session.cleanup(claim.job_id)
            self.store.rename_claim(claim.key_hash, job_id)
        return handle

    def _job(self, subject: Subject, protocol: Protocol) -> Job:
        device = self.session.device
        common: dict[str, Any] = {
            "label": subject.label,
            "runtime": self.session.runtime(),
            "points": subject.points,
            # One setting of the device file for both: how quiet it must be before, and how quiet while it measures.
            "protocol": replace(protocol, max_other_cpu=device.cooling.max_other_cpu),
            "memory_mib": device.memory_limit_mib,
            "timeout_s": device.timeout_s * timeout_factor(subject.points),
            "lease_s": device.lease_timeout_s,
            "clock_mhz": device.clock_mhz,
            "cooling": device.cooling,
        }
        return Job(job_id=new_job_id(subject.label), **subject.job_fields(), **common)

    def _await_other(
        self,
        subject: Subject,
        key: MeasurementKey,
        claim: Claim,
        protocol: Protocol | None,
        on_status: OnStatus | None,
    ) -> Outcome:
        """Somebody else measures this very thing: wait for the result, or for the claim to end."""
        self._say(
            f"{self.session.device.name}: {subject.label} is being measured by another process ({claim.owner}); "
            "waiting for its result"
        )
        begun = time.monotonic()
        known = None
        try:
            while not self.cancel.is_set():
                # The claim is ours when its owner died, gave up, or is done; the job may still be on the device.
                mine = self.store.claim(key.id, claim.job_id).mine
                known = self._keeper.known(key.id, subject)
                if known is not None and mine:
                    self.store.release(key.id)
                if known is not None or mine:
                    break
                self.cancel.wait(1.0)
            else:
                raise Interrupted
        finally:
            self.waited_s += time.monotonic() - begun
        return known or self._attempts(subject, False, protocol, on_status)

    def _wait(self, handle: JobHandle, claim: Claim, on_status: OnStatus | None) -> bytes:
        beat = time.monotonic()

        def watch(status: JobStatus | None) -> None:
            nonlocal beat
            if time.monotonic() - beat > STALE_S / 6:
                beat = time.monotonic()
                self.store.beat(claim.key_hash)
            if on_status is not None:
                on_status(status)

        return self.session.wait(handle, watch, self.cancel)
