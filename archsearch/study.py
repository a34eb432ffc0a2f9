"""The study loop: every device measures the anchors, then candidates, until the trials or the time are used up.

Each device goes its own way: whenever one is idle it gets what it is to do next; nobody waits for another. Devices of
one group share the candidates among them. After every few candidates a device measures the first anchor again. Two runs
of it that differ by more than the drift limit throw the candidates between them away (status `throttled`); they are
measured again (`archsearch.trials`). The sampler hears of a candidate when the devices that the ranking needs have
answered and the anchor runs after it are known.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from archsearch.candidates import prepare
from archsearch.fleet import Finished, Fleet, Task
from archsearch.judging import difference
from archsearch.measured import Measured
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH
from archsearch.measuring import Interrupted, Measurer
from archsearch.observer import Observer, Standing
from archsearch.owners import owner_id
from archsearch.store import Store
from archsearch.study_settings import Settings
from archsearch.subjects import Subject
from archsearch.timing import LEFT_OUT, POOLS, RUN_ENDED, RUN_STARTED, Seconds
from archsearch.trials import MAX_TRIES, Trial, Trials
from profiler.jobs import Protocol
from search_space.errors import SearchSpaceError
from search_space.layout import Layout

WATCH_EVERY = 4
"""Candidates between two runs of the watched anchor."""

CANDIDATE_PROTOCOL = Protocol(
    min_processes=3, max_processes=4, min_repeats=3, max_repeats=4, time_budget_s=14.0, profile=True
)
WATCH_PROTOCOL = Protocol(min_processes=3, max_processes=3, min_repeats=2, max_repeats=2, memory_pass=False)

_FIRST_CANDIDATE_S = 20.0
"""What a candidate is thought to take before one was measured."""

_WITH_WATCH = 1.35
"""A candidate and the anchor run that closes its stretch, in times of a candidate alone."""

MAX_LEAD = 4 * WATCH_EVERY
"""How many candidates of which the sampler has not heard there may be for each device: so far may a fast one run ahead.
What it measured beyond would be of layouts drawn without knowing those before, and be of no use until the slow one has
them too."""


LOST_OVER = 2
"""Devices of one group that are lost over a candidate before it counts as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run ends.

    Attributes:
        trials: Candidates of the whole study, or None.
        deadline: `time.monotonic` after which no measurement is begun, or None.
    """

    trials: int | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        why: In words.
        interrupted: Whether the user stopped it.
        devices_lost: Devices that failed on the way, with the reason.
        missing: Candidates that a pool has no result of, by pool.
        measured: All that the study has measured.
    """

    why: str
    interrupted: bool
    devices_lost: Mapping[str, str]
    missing: Mapping[str, int]
    measured: Measured


def run_study(
    name: str,
    settings: Settings,
    limits: Limits,
    *,
    measurers: Sequence[Measurer],
    store: Store,
    observer: Observer,
    cancel: Event,
) -> Ended:
    """Begin or continue a study on open devices: measure anchors, then candidates, until a limit is met.

    Everything measured is in the store when this returns or raises.

    Args:
        name: Its name in the store.
        settings: What is searched, and how.
        limits: When it ends.
        measurers: One per device.
        store: Where everything is kept.
        observer: Who is told.
        cancel: Set from outside to stop.

    Raises:
        StoreError: The store cannot be read or written.
    """
    begun, driver = time.time(), Seconds()
    owner = owner_id()
    devices = sorted(measurer.session.device.name for measurer in measurers)
    fleet = Fleet(measurers, observer, cancel)
    pools = fleet.pools()
    groups = {device: fleet.pool_of(device) for device in devices}
    store.add_event(name, RUN_STARTED, {"owner": owner, "devices": devices, POOLS: groups})
    watched = settings.watched.layout.layout_id if settings.watched else None
    measured = Measured(store, name, watched, fleet.at_work)
    trials: Trials | None = None
    why, interrupted = "stopped", False
    try:
        with driver.book("resume"):
            fleet.sweep()
            measured.load()
            trials = Trials(store, name, settings, measured, fleet.pools, wanted=limits.trials)
        why = _Loop(settings, limits, fleet, trials, measured, observer, driver).run(begun)
    except Interrupted:
        interrupted = True
    finally:
        fleet.close()
        driver.add("await", fleet.waited_s())
        driver.add("idle", fleet.idle_s)
        driver.add("tuning", fleet.tuning_s())
        lost = {fleet.pool_of(device): why for device, why in fleet.lost.items()}
        left_out = {pool: why for pool, why in lost.items() if pool not in fleet.pools()}
        store.add_event(name, RUN_ENDED, {"owner": owner, "driver": driver.by_phase, LEFT_OUT: left_out})
    missing = {} if trials is None else {pool: trials.missing(pool) for pool in pools}
    return Ended(
        why=why, interrupted=interrupted, devices_lost=fleet.lost, missing=missing, measured=measured
    )  # fmt: skip


@dataclass(slots=True)
class _Progress:
    """How far one device is.

    Attributes:
        anchor_tries: How often it measured an anchor, by layout id.
        watches: How often it was watched.
        unwatched: Candidates since then.
        stale: Whether its first anchor run is older than this run: is the device still what it was?
        limit: What ended its work, or empty.
    """

    anchor_tries: Counter[str] = field(default_factory=Counter)
    watches: int = 0
    unwatched: int = 0
    stale: bool = False
    limit: Literal["", "trials", "space", "time"] = ""


class _Loop:
    """One run of a study, once everything is open and read."""

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        fleet: Fleet,
        trials: Trials,
        measured: Measured,
        observer: Observer,
        driver: Seconds,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._fleet = fleet
        self._trials = trials
        self._measured = measured
        self._observer = observer
        self._driver = driver
        self._progress = {device: _Progress() for device in fleet.devices()}
        self._anchors_at_work: set[tuple[str, str]] = set()  # pool and layout id
        self._drawn_out = False
        self._begun = 0.0
        self._in_vain: set[tuple[int, str]] = set()  # trials and pools for which only what is known already came back

    def run(self, begun: float) -> str:
        """Measure until a limit is met; why it ended, in words."""
        self._begun = begun
        for device, progress in self._progress.items():
            self._tell_of_other_conditions(device)
            progress.stale = self._anchor_is_older(device)
        while True:
            self._fleet.check_cancelled()
            for device in self._fleet.idle():
                task = self._task(device)
                if task is not None:
                    self._fleet.begin(device, task)
            if not self._fleet.busy():
                return self._why_idle()
            self._take(self._fleet.next())

    def _why_idle(self) -> str:
        said = {
            "trials": f"{self._trials.done()} candidates are done",
            "space": "the space is used up: no new layout was drawn",
            "time": "the time budget is used up",
        }
        limits = dict.fromkeys(self._progress[device].limit for device in self._fleet.devices())
        return ", ".join(said[limit] for limit in limits if limit) or "no device is left"

    def _task(self, device: str) -> Task | None:
        """What an idle device is to do next; None when there is nothing for it now."""
        progress = self._progress[device]
        task = self._anchor(device, progress)
        if task is not None:
            return task
        if progress.stale or progress.unwatched >= WATCH_EVERY:
            return self._watch(device)
        task = self._candidate(device, progress)
        if task is None and progress.unwatched:
            return self._watch(device)  # may find that candidates must be measured again
        return task

    def _anchor(self, device: str, progress: _Progress) -> Task | None:
        """The next anchor: the watched one is each device's own, the others are one's of its pool."""
        pool = self._fleet.pool_of(device)
        for anchor in self._settings.anchors:
            identity = anchor.layout.layout_id
            own = anchor is self._settings.watched
            tries = progress.anchor_tries[identity]
            # One that others' work has spoilt is measured again when some time has passed.
            if tries >= MAX_TRIES or tries > progress.watches or (pool, identity) in self._anchors_at_work:
                continue
            if not self._measured.settled(anchor.layout, **({"device": device} if own else {"pool": pool})):
                progress.anchor_tries[identity] += 1
                if not own:
                    self._anchors_at_work.add((pool, identity))
                known = self._measured.anchors(anchor.layout, **({"device": device} if own else {"pool": pool}))
                name, lowerings = anchor.name or anchor.layout.code, self._lowerings_of(anchor.layout, device)
                subject = self._subject(anchor.layout, ANCHOR, name, lowerings=lowerings)
                return Task(subject=subject, fresh=bool(known))
        return None

    def _lowerings_of(self, anchor: Layout, device: str) -> Mapping[str, str] | None:
        """With which an anchor was measured: on the device, or in its group. It says nothing of drift with others."""
        pool = self._fleet.pool_of(device)
        before = self._measured.anchors(anchor, device=device) or self._measured.anchors(anchor, pool=pool)
        return before[0].lowerings if before else None

    def _watch(self, device: str) -> Task | None:
        """The watched anchor once more, in a shorter way: has the device drifted?"""
        anchor = self._settings.watched
        if anchor is None:
            return None
        name = anchor.name or anchor.layout.code
        lowerings = self._lowerings_of(anchor.layout, device)
        subject = self._subject(anchor.layout, WATCH, name, label=f"{name} (watch for drift)", lowerings=lowerings)
        return Task(subject=subject, fresh=True, protocol=WATCH_PROTOCOL)

    def _candidate(self, device: str, progress: _Progress) -> Task | None:
        """The next candidate: one to be measured again, one that others have begun, else a new one."""
        pool = self._fleet.pool_of(device)
        while True:
            self._fleet.check_cancelled()
            if self._out_of_time(pool):
                progress.limit = "time"
                return None
            self._trials.learn_from_others()
            trial = self._trials.unmeasured(pool) or self._new(progress)
            if trial is None:
                return None
            label = f"#{trial.number} {trial.layout.code}"
            try:
                subject = self._subject(trial.layout, CANDIDATE, None, label=label, trial=trial.number)
            except SearchSpaceError as error:  # of a block of one's own, mostly: the others are measured
                self._unmeasured(device, self._unexported(trial, label), "invalid", str(error))
                continue
            impossible = self._impossible(subject)
            if not impossible:
                tried = self._trials.tries(trial, pool) > 0 or (trial.number, pool) in self._in_vain
                return Task(subject=subject, trial=trial, fresh=tried)
            self._unmeasured(device, subject, "infeasible", impossible)

    def _new(self, progress: _Progress) -> Trial | None:
        wanted = self._limits.trials
        if wanted is not None and self._trials.begun() >= wanted:
            progress.limit = "trials"
        elif self._drawn_out:
            progress.limit = "space"
        elif self._trials.waiting() < MAX_LEAD * len(self._fleet.devices()):
            with self._driver.book("ask"):
                trial = self._trials.ask()
            if trial is not None:
                return trial
            self._drawn_out = True
            return self._new(progress)
        return None

    def _out_of_time(self, pool: str) -> bool:
        needed = _WITH_WATCH * (self._measured.seconds_per_candidate(pool) or _FIRST_CANDIDATE_S)
        return self._limits.deadline is not None and time.monotonic() + needed > self._limits.deadline

    def _unmeasured(self, device: str, subject: Subject, status: str, reason: str) -> None:
        self._measured.add(self._fleet.store_unmeasured(device, subject, status, reason))
        self._observer.say(f"{device}: {subject.label}: {status}: {reason}")
        self._settle()
        self._observer.settled(self._standing())

    def _take(self, finished: Finished) -> None:
        """Take up what a device has ended."""
        device, subject, measurement = finished.device, finished.task.subject, finished.measurement
        pool, progress = self._fleet.pool_of(device), self._progress[device]
        assert subject.layout is not None
        if measurement is not None and not self._measured.add(measurement) and finished.task.trial is not None:
            self._in_vain.add((finished.task.trial.number, pool))
        if subject.role == ANCHOR:
            self._anchors_at_work.discard((pool, subject.layout.layout_id))
            progress.stale = progress.stale or self._anchor_is_older(device)
            self._leave_out_odd_ones()
        elif subject.role == WATCH:
            progress.watches, progress.unwatched, progress.stale = progress.watches + 1, 0, False
            moved = self._measured.judgement().drift.latest().get(device)
            if moved:
                self._observer.say(f"{device}: {moved}; the candidates of this stretch are measured again")
            self._leave_out_odd_ones()
            self._settle()
        else:
            if measurement is not None:
                progress.unwatched += 1
            elif device in self._fleet.lost and finished.task.trial is not None:
                self._blame(device, finished.task.trial, subject)
            self._settle()
            self._observer.settled(self._standing())
        if measurement is None:
            self._tell_of_other_conditions(device)

    def _settle(self) -> None:
        reopened = self._trials.settle()
        if reopened:
            self._observer.say(f"{reopened} candidates were measured before a device changed: they are measured again")

    def _blame(self, device: str, trial: Trial, subject: Subject) -> None:
        """A candidate that costs one device after the other is not given to the next."""
        lost = trial.lost.setdefault(self._fleet.pool_of(device), [])
        lost.append(device)
        if len(lost) >= LOST_OVER:
            self._unmeasured(device, subject, "failed", f"devices were lost over it: {', '.join(lost)}")

    def _tell_of_other_conditions(self, device: str) -> None:
        """Say what of a device's work no longer counts, as it is set up otherwise than it was."""
        past = self._measured.superseded(device)
        if past and device in self._fleet.devices():
            now = self._fleet.at_work()[device].conditions
            count = len({m.trial for m in past if m.role == CANDIDATE})
            self._observer.say(
                f"{device}: measured under other conditions before ({difference(past[-1].conditions, now)}): "
                f"its anchors and {count} candidates are measured again"
            )

    def _leave_out_odd_ones(self) -> None:
        """Leave out devices whose watched anchor is not that of their group, or not what the others compute."""
        judgement = self._measured.judgement()
        for device, why in {**judgement.unlike, **judgement.wrong}.items():
            if device in self._fleet.devices():
                self._fleet.quarantine(device, why)

    def _impossible(self, subject: Subject) -> str:
        """Why a candidate cannot meet a memory budget, known without running it; or an empty text."""
        assert subject.prepared is not None
        weights = sum(tensor.nbytes for tensor in subject.prepared.candidate.trained_tensors()) / 2**20
        for budget in self._settings.budgets:
            # The peak is at least the weights; of a lower limit only the exact number says something.
            bounded = budget.objective == "peak_rss_mib" and budget.operator in ("<=", "<")
            if (bounded or budget.objective == "weights_mib") and budget.excess(weights) > 0:
                return f"its weights alone are {weights:.2f} MiB, and the budget is {budget}"
        return ""

    def _anchor_is_older(self, device: str) -> bool:
        """Whether a device's runs of the watched anchor were made before this run, maybe for another study."""
        watched = self._settings.watched
        runs = [] if watched is None else self._measured.anchors(watched.layout, device=device)
        return bool(runs) and all(m.created_unix < self._begun for m in runs)

    def _subject(
        self,
        layout: Layout,
        role: str,
        name: str | None,
        *,
        label: str | None = None,
        trial: int | None = None,
        lowerings: Mapping[str, str] | None = None,
    ) -> Subject:
        """A layout to be measured, with `lowerings` by block where they are chosen already."""
        with self._driver.book("export"):
            prepared = prepare(
                layout,
                workload=self._settings.workload,
                precision=self._settings.precision,
                lowerings=self._settings.pins if lowerings is None else lowerings,
            )
        return Subject(
            label=label or name or layout.layout_id,
            workload=self._settings.workload,
            precision=self._settings.precision,
            role=role,
            layout=layout,
            prepared=prepared,
            name=name,
            trial=trial,
            pins=self._settings.pins,
            chosen=lowerings is not None,
        )

    def _unexported(self, trial: Trial, label: str) -> Subject:
        chosen = self._settings
        return Subject(
            label=label, workload=chosen.workload, precision=chosen.precision, role=CANDIDATE, layout=trial.layout,
            trial=trial.number, pins=chosen.pins,
        )  # fmt: skip

    def _standing(self) -> Standing:
        return Standing(
            done=self._trials.done(),
            left_s=self._left_s(),
            best=tuple(self._measured.best(self._settings.objectives)),
        )

    def _left_s(self) -> float | None:
        """How long the slowest pool needs for what it has yet to measure of the trials that are wanted."""
        wanted, pools = self._limits.trials, [self._fleet.pool_of(device) for device in self._fleet.devices()]
        if wanted is None:
            return None
        found = []
        for pool in dict.fromkeys(pools):
            each = self._measured.seconds_per_candidate(pool)
            if each is None:
                return None
            left = wanted - self._trials.done_in(pool)
            found.append(_WITH_WATCH * each * max(0, left) / pools.count(pool))
        return max(found, default=None)
