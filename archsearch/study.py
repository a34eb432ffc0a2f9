"""The study loop: anchors first, then ask, measure, tell, until the trials or the time are used up.

Every few candidates the first anchor is measured again. Two runs of it that differ by more than the drift limit throw
the candidates between them away (status `throttled`); they are measured again, at most `MAX_TRIES` times in all.
The sampler hears of a candidate when the anchor run after it is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean
from threading import Event
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from archsearch.candidates import prepare
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH, Drift, Measurement, rows
from archsearch.measuring import Interrupted, Measurer, Subject
from archsearch.objectives import objectives as all_objectives
from archsearch.records import layout_json, load_layouts, load_measurements
from archsearch.sampling import Asked, Sampler
from archsearch.store import Store, TrialRecord
from profiler.errors import AgentDied, ResultError, TransportError
from profiler.jobs import Protocol
from profiler.workloads import Workload
from reports.budgets import Budget
from search_space.graph.precision import PrecisionName
from search_space.layout import Layout
from search_space.layout_file import NamedLayout
from search_space.sampling import Rejection, sample
from search_space.space import Space

if TYPE_CHECKING:
    from profiler.results import JobStatus

MAX_TRIES = 3
WATCH_EVERY = 4
"""Candidates between two runs of the watched anchor."""

MAX_SAMPLER_ASKS = 10
"""Refused or known draws in a row after which choices are drawn evenly: samplers learn nothing from refusals, and some
(TPE) then propose the same again and again."""

MAX_EMPTY_ASKS = 2000
"""Draws in a row that give no new layout before the space counts as used up."""

CANDIDATE_PROTOCOL = Protocol(min_processes=3, max_processes=4, min_repeats=2, max_repeats=4, time_budget_s=12.0)
WATCH_PROTOCOL = Protocol(min_processes=3, max_processes=3, min_repeats=2, max_repeats=2, memory_pass=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What makes two runs the same study.

    Attributes:
        space: The space.
        workload: Its points are measured.
        precision: Storage of the weights.
        objectives: Names, in order.
        budgets: Limits.
        anchors: Reference layouts; the first is watched.
        sampler: Name of the sampler.
        seed: Of everything random.
        across: How several devices are combined.
    """

    space: Space
    workload: Workload
    precision: PrecisionName
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...]
    anchors: tuple[NamedLayout, ...]
    sampler: str
    seed: int
    across: str


@dataclass(slots=True, kw_only=True)
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
    """

    why: str
    interrupted: bool = False
    devices_lost: Mapping[str, str] = field(default_factory=dict)


class Observer(Interface):
    """Who is told how a study goes (`archsearch.progress.Progress`)."""

    def say(self, line: str) -> None:
        """Something worth a line happened."""

    def device(self, name: str, label: str, status: JobStatus | None) -> None:
        """A device reported what it does."""

    def idle(self, name: str) -> None:
        """A device has nothing to do."""

    def settled(self, study: Study) -> None:
        """A candidate was measured."""


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A candidate on its way.

    Attributes:
        asked: The sampler's side, or None for one that an earlier run asked for.
        tries: Times it was measured on some device.
    """

    number: int
    layout: Layout
    asked: Asked | None
    choices: Mapping[str, Any]
    tries: int = 0


class Study:
    """One study on open devices.

    Args:
        name: Its name in the store.
        settings: What is searched, and how.
        measurers: One per device.
        store: Where everything is kept.
        observer: Who is told.
        cancel: Set from outside to stop.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        measurers: Sequence[Measurer],
        store: Store,
        observer: Observer,
        cancel: Event,
    ) -> None:
        self.name = name
        self.settings = settings
        self.measurements: list[Measurement] = []
        self.asked = 0
        self.rejected = 0
        self._measurers = {measurer.session.device.name: measurer for measurer in measurers}
        self._store = store
        self._observer = observer
        self._cancel = cancel
        self._pool = ThreadPoolExecutor(max_workers=len(self._measurers), thread_name_prefix="device")
        self._lost: dict[str, str] = {}
        self._pending: list[_Trial] = []
        self._finished: set[int] = set()
        self._layout_ids: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._sampler: Sampler | None = None

    # -- the run -----------------------------------------------------------------------------------------------------

    def run(self, limits: Limits) -> Ended:
        """Measure anchors, then candidates, until a limit is met.

        Everything measured is in the store when this returns or raises.
        """
        started = time.time()
        self._store.add_event(self.name, "run_started", {"devices": sorted(self._measurers)})
        try:
            ended = self._run(limits)
        except Interrupted:
            ended = Ended(why="stopped", interrupted=True, devices_lost=dict(self._lost))
        finally:
            self._pool.shutdown(wait=True)
            self._store.add_event(
                self.name, "run_ended", {"started_unix": started, "ended_unix": time.time(), "driver": self._seconds}
            )
        return ended

    def _run(self, limits: Limits) -> Ended:
        clock, begun = time.monotonic(), time.time()
        for measurer in self._measurers.values():
            with suppress(TransportError):  # a device that is out of reach is told of when it is to measure
                measurer.sweep()
        self._resume(limits)
        self._lap("resume", clock)
        for index, anchor in enumerate(self.settings.anchors):
            self._measure_everywhere(self._subject(anchor.layout, ANCHOR, anchor.name or anchor.layout.code))
            if self._devices_gone():
                return self._no_devices()
            if index == 0 and any(m.role == ANCHOR and m.created_unix < begun for m in self.measurements):
                self._watch()  # known from an earlier run or study: is the device still what it was?
        since_watch = 0
        while True:
            why = self._limit_met(limits)
            trial = None if why else self._next_trial()
            if trial is not None:
                self._measure_trial(trial)
                since_watch += 1
                self._observer.settled(self)
            if self._devices_gone():
                return self._no_devices()
            if since_watch and (trial is None or since_watch >= WATCH_EVERY):
                self._watch()  # may find that candidates must be measured again
                since_watch = 0
            elif trial is None:
                return Ended(why=why or "the space is used up: no new layout was drawn", devices_lost=dict(self._lost))

    def done(self) -> int:
        """Candidates that were measured or found unable to run, so far."""
        return len(self._finished | {trial.number for trial in self._pending if trial.tries})

    def seconds_per_candidate(self) -> float | None:
        """Mean wall time of the measured candidates of this study."""
        spent = [
            sum(m.result.seconds.get(phase, 0.0) for phase in ("total",))
            for m in self.measurements
            if m.role == CANDIDATE and m.result is not None
        ]
        return fmean(spent) if spent else None

    def best(self) -> Iterator[str]:
        """The best candidate so far in each objective that is measured, in words."""
        mine = [row for row in self.rows() if row["status"] == "ok" and row["trial"] is not None]
        for name in self.settings.objectives:
            objective = all_objectives()[name]
            values = [(row[name], row["code"]) for row in mine if row.get(name) is not None]
            if objective.measured and values:
                value, code = min(values) if objective.direction == "min" else max(values)
                yield f"{name} {value:.4g} ({code})"

    def rows(self) -> list[dict[str, Any]]:
        """The study as a plain table."""
        return rows(self.measurements)

    # -- trials ------------------------------------------------------------------------------------------------------

    def _resume(self, limits: Limits) -> None:
        """Take up what the store holds: tell the sampler of finished trials, put open ones back in the queue."""
        self.measurements = load_measurements(self._store, self.name)
        records = self._store.trials(self.name)
        layouts = load_layouts(self._store, {record.layout_id for record in records})
        self._layout_ids = {anchor.layout.layout_id for anchor in self.settings.anchors}
        directions = [all_objectives()[name].direction for name in self.settings.objectives]
        self._sampler = Sampler(
            self.settings.sampler,
            directions=directions,
            seed=self.settings.seed + 7919 * len(records),
            population=8 if limits.trials is None or limits.trials < 100 else 24,
        )
        for record in records:
            self._take_up(record, layouts[record.layout_id])

    def _take_up(self, record: TrialRecord, layout: Layout) -> None:
        self._layout_ids.add(layout.layout_id)
        trial = _Trial(number=record.number, layout=layout, asked=None, choices=record.choices)
        if record.state == "open":
            trial.tries = sum(m.trial == trial.number for m in self.measurements)
            self._pending.append(trial)
        else:
            self._finished.add(trial.number)
            self._tell(trial)

    def _learn_from_others(self) -> None:
        """Take up trials that another process on the same study has finished since."""
        mine = self._finished | {trial.number for trial in self._pending}
        records = self._store.trials(self.name)
        self._layout_ids.update(record.layout_id for record in records)
        theirs = [record for record in records if record.number not in mine and record.state != "open"]
        if theirs:
            self.measurements = load_measurements(self._store, self.name)
            layouts = load_layouts(self._store, {record.layout_id for record in theirs})
            for record in theirs:
                self._take_up(record, layouts[record.layout_id])

    def _next_trial(self) -> _Trial | None:
        """A trial to measure again or for the first time, else a new one from the sampler."""
        clock = time.monotonic()
        drift = self._drift()
        for trial in self._pending:
            if trial.tries == 0 or (trial.tries < MAX_TRIES and self._outcome(trial, drift) == "again"):
                return trial
        trial_or_none = self._ask()
        self._lap("ask", clock)
        return trial_or_none

    def _ask(self) -> _Trial | None:
        assert self._sampler is not None
        for attempt in range(MAX_EMPTY_ASKS):
            asked = self._sampler.ask() if attempt < MAX_SAMPLER_ASKS else self._sampler.ask_at_random()
            self.asked += 1
            layout = sample(self.settings.space, asked)
            if isinstance(layout, Rejection) or layout.layout_id in self._layout_ids:
                self.rejected += 1
                self._sampler.refuse(asked)
                continue
            choices = {
                "knobs": {name: [list(options), index] for name, (options, index) in asked.choices.items()},
                "attributes": self._sampler.attributes(asked),
            }
            number = self._store.add_trial(self.name, layout.layout_id, layout.code, layout_json(layout), choices)
            self._layout_ids.add(layout.layout_id)
            if number is None:
                self.rejected += 1
                self._sampler.refuse(asked)
                continue
            trial = _Trial(number=number, layout=layout, asked=asked, choices=choices)
            self._pending.append(trial)
            return trial
        return None

    def _measure_trial(self, trial: _Trial) -> None:
        trial.tries += 1
        label = f"#{trial.number} {trial.layout.code}"
        subject = self._subject(trial.layout, CANDIDATE, None, label=label, trial=trial.number)
        impossible = self._impossible(subject)
        if impossible:
            for measurer in self._live():
                self._keep(measurer.store_unmeasured(subject, "infeasible", impossible))
            self._observer.say(f"{label}: infeasible: {impossible}")
        else:
            self._measure_everywhere(subject, fresh=trial.tries > 1)
        self._settle()

    def _settle(self) -> None:
        """Tell the sampler of every trial whose outcome is final."""
        drift = self._drift()
        for trial in list(self._pending):
            if trial.tries == 0:
                continue
            outcome = self._outcome(trial, drift)
            if outcome == "wait" or (outcome == "again" and trial.tries < MAX_TRIES):
                continue
            self._pending.remove(trial)
            self._finished.add(trial.number)
            told = self._tell(trial)
            self._store.set_trial(self.name, trial.number, "done" if told else "failed")

    def _outcome(self, trial: _Trial, drift: Drift) -> str:
        """``wait`` for the anchor run after it, ``again`` when the device moved under it, else ``final``."""
        latest = {m.device: m for m in self.measurements if m.trial == trial.number}
        outcomes = set()
        for name in self._measurers:
            if name in self._lost:
                continue
            found = latest.get(name)
            if found is None or found.status in ("throttled", "not_cooled"):
                outcomes.add("again")
            elif found.status == "ok" and self.settings.anchors:
                closed = drift.closed(found)
                moved = drift.status(found)[0] != "ok"
                outcomes.add("again" if moved else "final" if closed else "wait")
        return "again" if "again" in outcomes else "wait" if "wait" in outcomes else "final"

    def _drift(self) -> Drift:
        anchors = self.settings.anchors
        return Drift(self.measurements, anchors[0].layout.layout_id if anchors else None)

    def _tell(self, trial: _Trial) -> bool:
        """Tell the sampler a trial's values; False when it has none."""
        assert self._sampler is not None
        mine = latest_rows(row for row in self.rows() if row["trial"] == trial.number)
        devices = [name for name in self._measurers if name not in self._lost]
        values = study_values(mine, self.settings.objectives, devices)
        if values is None:
            if trial.asked is not None:
                self._sampler.refuse(trial.asked)
            return False
        violations = {str(budget): violation_of(budget, mine) for budget in self.settings.budgets}
        if trial.asked is not None:
            self._sampler.tell(trial.asked, values, violations)
        else:
            knobs = {name: (options, index) for name, (options, index) in trial.choices["knobs"].items()}
            self._sampler.replay(knobs, trial.choices["attributes"], values, violations)
        return True

    def _impossible(self, subject: Subject) -> str:
        """Why a candidate cannot meet a memory budget, known without running it; or an empty text."""
        assert subject.prepared is not None
        weights = sum(tensor.nbytes for tensor in subject.prepared.candidate.trained_tensors()) / 2**20
        for budget in self.settings.budgets:
            # The peak is at least the weights; of a lower limit only the exact number says something.
            bounded = budget.objective == "peak_rss_mib" and budget.operator in ("<=", "<")
            if (bounded or budget.objective == "weights_mib") and budget.excess(weights) > 0:
                return f"its weights alone are {weights:.2f} MiB, and the budget is {budget}"
        return ""

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _subject(
        self, layout: Layout, role: str, name: str | None, *, label: str | None = None, trial: int | None = None
    ) -> Subject:
        clock = time.monotonic()
        prepared = prepare(layout, workload=self.settings.workload, precision=self.settings.precision)
        self._lap("export", clock)
        return Subject(
            label=label or name or layout.layout_id,
            workload=self.settings.workload,
            precision=self.settings.precision,
            role=role,
            layout=layout,
            prepared=prepared,
            name=name,
            trial=trial,
        )

    def _watch(self) -> None:
        """Measure the first anchor once more, in a shorter way: has any device drifted?"""
        if not self.settings.anchors:
            return
        anchor = self.settings.anchors[0]
        name = anchor.name or anchor.layout.code
        subject = self._subject(anchor.layout, WATCH, name, label=f"{name} (watch for drift)")
        self._measure_everywhere(subject, fresh=True, protocol=WATCH_PROTOCOL)
        drift = self._drift()
        for device, moved in drift.latest().items():
            if moved:
                self._observer.say(f"{device}: {moved}; the candidates of this stretch are measured again")
        self._settle()

    def _measure_everywhere(self, subject: Subject, *, fresh: bool = False, protocol: Protocol | None = None) -> None:
        """Measure on every device at once; a device that fails is left out from here on."""
        if self._cancel.is_set():
            raise Interrupted
        futures = {
            measurer.session.device.name: self._pool.submit(self._measure_on, measurer, subject, fresh, protocol)
            for measurer in self._live()
        }
        errors: list[BaseException] = []
        for future in futures.values():
            error = future.exception()
            if error is not None:
                errors.append(error)
            else:
                self._keep(future.result())
        for error in errors:
            raise error

    def _measure_on(
        self, measurer: Measurer, subject: Subject, fresh: bool, protocol: Protocol | None
    ) -> Measurement | None:
        name = measurer.session.device.name
        self._observer.device(name, subject.label, None)
        try:
            outcome = measurer.measure(
                subject,
                fresh=fresh,
                protocol=protocol,
                on_status=lambda status: self._observer.device(name, subject.label, status),
            )
        except (AgentDied, ResultError) as error:
            # The run-away took its agent with it, or wrote nonsense: a result with a reason; the study goes on.
            measurement = measurer.store_unmeasured(subject, "failed", str(error))
            self._observer.say(f"{name}: {subject.label}: failed: {error}")
            return measurement
        except TransportError as error:
            self._lost[name] = str(error)
            self._observer.say(f"{name} is lost: {error}")
            return None
        finally:
            self._observer.idle(name)
        self._observer.say(f"{name}: {summary_line(outcome.measurement, subject.label, reused=outcome.reused)}")
        return outcome.measurement

    def _keep(self, measurement: Measurement | None) -> None:
        if measurement is not None and all(m.job_id != measurement.job_id for m in self.measurements):
            self.measurements.append(measurement)

    def _live(self) -> list[Measurer]:
        return [measurer for name, measurer in self._measurers.items() if name not in self._lost]

    def _devices_gone(self) -> bool:
        return len(self._lost) == len(self._measurers)

    def _no_devices(self) -> Ended:
        return Ended(why="no device is left", devices_lost=dict(self._lost))

    def _limit_met(self, limits: Limits) -> str:
        if self._cancel.is_set():
            raise Interrupted
        self._learn_from_others()
        if limits.trials is not None and self.done() >= limits.trials and not self._unsettled():
            return f"{limits.trials} candidates are done"
        if limits.deadline is not None:
            # A candidate and the anchor run that closes its stretch must still fit.
            needed = 1.35 * (self.seconds_per_candidate() or 20.0)
            if time.monotonic() + needed > limits.deadline:
                return "the time budget is used up"
        return ""

    def _unsettled(self) -> bool:
        drift = self._drift()
        return any(t.tries == 0 or (t.tries < MAX_TRIES and self._outcome(t, drift) == "again") for t in self._pending)

    def _lap(self, phase: str, since: float) -> None:
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - since


def latest_rows(mine: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows in order of time, the last one of each device and point: a measurement made again replaces the first."""
    latest = {(row["device"], row["workload"], row["prompt"], row["decode"], row["batch"]): row for row in mine}
    return list(latest.values())


def study_values(
    mine: Sequence[Mapping[str, Any]], objectives: Sequence[str], devices: Iterable[str]
) -> list[float] | None:
    """Objective values of one layout for the sampler: the worst over points and devices; None when any is missing."""
    if not mine or any(not any(row["device"] == device for row in mine) for device in devices):
        return None
    if any(row["status"] != "ok" for row in mine):
        return None
    values = []
    for name in objectives:
        found = [row[name] for row in mine if row.get(name) is not None]
        if not found:
            return None
        values.append(float(max(found) if all_objectives()[name].direction == "min" else min(found)))
    return values


def violation_of(budget: Budget, mine: Iterable[Mapping[str, Any]]) -> float:
    """The worst violation of a budget over a layout's rows; at most 0 when it is met."""
    found = [violation for row in mine if (violation := budget.violation(row)) is not None]
    return max(found, default=1.0)


def summary_line(measurement: Measurement, label: str, *, reused: bool) -> str:
    """One line for the log: what was measured, and its numbers."""
    if measurement.status != "ok":
        return f"{label}: {measurement.status}: {measurement.reason}"
    parts = []
    for view in measurement.measured_points:
        if view.summary is not None:
            ttft, decode = view.summary.ttft_ms, view.summary.decode_ms
            parts.append(
                f"{view.point.text}: TTFT {ttft.value:.4g} ms ±{ttft.relative_half_width:.1%}, "
                f"decode {decode.value:.4g} ms ±{decode.relative_half_width:.1%}"
            )
        if view.peak_rss_mib is not None:
            parts.append(f"peak {view.peak_rss_mib:.0f} MiB")
    return f"{label}: {', '.join(parts)}" + (" (known, not measured again)" if reused else "")
