"""The study loop: anchors first, then ask, measure, tell, until the trials or the time are used up.

Every few candidates the first anchor is measured again. Two runs of it that differ by more than the drift limit throw
the candidates between them away (status `throttled`); they are measured again (`archsearch.trials`). The sampler hears
of a candidate when the anchor run after it is known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event

from archsearch.candidates import prepare
from archsearch.fleet import Fleet
from archsearch.measured import Measured
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH
from archsearch.measuring import Interrupted, Measurer
from archsearch.observer import Observer, Standing
from archsearch.owners import owner_id
from archsearch.store import Store
from archsearch.study_settings import Settings
from archsearch.subjects import Subject
from archsearch.timing import RUN_ENDED, RUN_STARTED, Seconds
from archsearch.trials import MAX_TRIES, Trial, Trials
from profiler.jobs import Protocol
from search_space.errors import SearchSpaceError
from search_space.layout import Layout

WATCH_EVERY = 4
"""Candidates between two runs of the watched anchor."""

CANDIDATE_PROTOCOL = Protocol(min_processes=3, max_processes=4, min_repeats=3, max_repeats=4, time_budget_s=14.0)
WATCH_PROTOCOL = Protocol(min_processes=3, max_processes=3, min_repeats=2, max_repeats=2, memory_pass=False)

_FIRST_CANDIDATE_S = 20.0
"""What a candidate is thought to take before one was measured."""

_WITH_WATCH = 1.35
"""A candidate and the anchor run that closes its stretch, in times of a candidate alone."""


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
        measured: All that the study has measured.
    """

    why: str
    interrupted: bool
    devices_lost: Mapping[str, str]
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
    store.add_event(name, RUN_STARTED, {"owner": owner, "devices": devices})
    measured = Measured(store, name, settings.watched.layout.layout_id if settings.watched else None)
    fleet = Fleet(measurers, measured, observer, cancel)
    why, interrupted = "stopped", False
    try:
        with driver.book("resume"):
            fleet.sweep()
            measured.load()
            trials = Trials(store, name, settings, measured, fleet.names, wanted=limits.trials)
        why = _Loop(settings, limits, fleet, trials, measured, observer, driver).run(begun)
    except Interrupted:
        interrupted = True
    finally:
        fleet.close()
        driver.add("await", fleet.waited_s())
        driver.add("tuning", fleet.tuning_s())
        store.add_event(name, RUN_ENDED, {"owner": owner, "driver": driver.by_phase})
    return Ended(why=why, interrupted=interrupted, devices_lost=fleet.lost, measured=measured)


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
        self._anchor_tries: dict[str, int] = {}

    def run(self, begun: float) -> str:
        """Measure until a limit is met; why it ended, in words."""
        self._measure_anchors()
        if self._anchor_is_older(begun):
            self._watch()  # known from an earlier run or study: is the device still what it was?
        since_watch = 0
        while self._fleet.names():
            why = self._limit_met()
            trial = None if why else self._next()
            if trial is not None:
                self._measure(trial)
                since_watch += 1
                self._observer.settled(self._standing())
                if not self._fleet.names():
                    break
            if since_watch and (trial is None or since_watch >= WATCH_EVERY):
                self._watch()  # may find that candidates must be measured again
                if not why:
                    self._measure_anchors()
                since_watch = 0
            elif trial is None:
                return why or "the space is used up: no new layout was drawn"
        return "no device is left"

    def _measure_anchors(self) -> None:
        """Measure the anchors, or take what is known; later only those that somebody else's work has spoilt."""
        for anchor in self._settings.anchors:
            layout = anchor.layout
            tries = self._anchor_tries.get(layout.layout_id, 0)
            if not self._fleet.names() or tries >= MAX_TRIES:
                continue
            if tries == 0 or self._measured.spoilt(layout, self._fleet.names()):
                self._anchor_tries[layout.layout_id] = tries + 1
                self._fleet.measure(self._subject(layout, ANCHOR, anchor.name or layout.code))

    def _limit_met(self) -> str:
        """Which limit ends the run now, in words; empty when none does."""
        self._fleet.check_cancelled()
        self._trials.learn_from_others()
        wanted, deadline = self._limits.trials, self._limits.deadline
        if wanted is not None and self._trials.done() >= wanted and self._trials.unmeasured() is None:
            return f"{wanted} candidates are done"
        if deadline is not None:
            needed = _WITH_WATCH * (self._measured.seconds_per_candidate() or _FIRST_CANDIDATE_S)
            if time.monotonic() + needed > deadline:
                return "the time budget is used up"
        return ""

    def _next(self) -> Trial | None:
        """A trial to measure again or for the first time, else a new one from the sampler."""
        trial = self._trials.unmeasured()
        if trial is not None:
            return trial
        with self._driver.book("ask"):
            return self._trials.ask()

    def _measure(self, trial: Trial) -> None:
        trial.tries += 1
        label = f"#{trial.number} {trial.layout.code}"
        try:
            subject = self._subject(trial.layout, CANDIDATE, None, label=label, trial=trial.number)
        except SearchSpaceError as error:  # of a block of one's own, mostly: the others are measured
            self._fleet.store_unmeasured(self._unexported(trial, label), "invalid", str(error))
            self._observer.say(f"{label}: invalid: {error}")
            self._trials.settle()
            return
        impossible = self._impossible(subject)
        if impossible:
            self._fleet.store_unmeasured(subject, "infeasible", impossible)
            self._observer.say(f"{label}: infeasible: {impossible}")
        else:
            self._fleet.measure(subject, fresh=trial.tries > 1)
        self._trials.settle()

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

    def _watch(self) -> None:
        """Measure the watched anchor once more, in a shorter way: has any device drifted?"""
        anchor = self._settings.watched
        if anchor is None:
            return
        name = anchor.name or anchor.layout.code
        subject = self._subject(anchor.layout, WATCH, name, label=f"{name} (watch for drift)")
        self._fleet.measure(subject, fresh=True, protocol=WATCH_PROTOCOL)
        for device, moved in self._measured.drift().latest().items():
            if moved:
                self._observer.say(f"{device}: {moved}; the candidates of this stretch are measured again")
        self._trials.settle()

    def _anchor_is_older(self, begun: float) -> bool:
        """Whether the watched anchor's first outcome is not of this run."""
        watched = self._settings.watched
        return watched is not None and any(
            m.role == ANCHOR and m.layout == watched.layout and m.created_unix < begun for m in self._measured
        )

    def _subject(
        self, layout: Layout, role: str, name: str | None, *, label: str | None = None, trial: int | None = None
    ) -> Subject:
        with self._driver.book("export"):
            prepared = prepare(
                layout,
                workload=self._settings.workload,
                precision=self._settings.precision,
                lowerings=self._settings.pins,
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
            seconds_per_candidate=self._measured.seconds_per_candidate(),
            best=tuple(self._measured.best(self._settings.objectives)),
        )
