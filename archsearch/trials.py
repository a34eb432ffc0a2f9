"""The candidates of a study: drawn, waiting for their outcome, final and told to the sampler.

Every pool (a device, or a group of like ones) measures every trial, in its own time. An outcome waits for the run of
the watched anchor that ends its stretch of work; a trial that the device moved under is measured again, and so is one
that failed in an earlier run, at most `MAX_TRIES` times in all. What was measured under other conditions than those of
now is as if it never had been. The sampler is told once the pools that the ranking needs have answered. A trial is
*open* in the store until all have. Open trials of an earlier run are taken up where they were; what other processes
finish is learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from archsearch.judging import Judgement
from archsearch.left_out import unrelated
from archsearch.measured import Measured
from archsearch.measurement import UNSETTLED, Measurement
from archsearch.objectives import objectives as all_objectives
from archsearch.outcomes import latest_rows, study_values, violation_of
from archsearch.records import layout_json, load_layouts
from archsearch.sampling import Asked, Sampler
from archsearch.store import Store, TrialRecord
from archsearch.study_settings import Settings
from reports.values import ACROSS
from search_space.layout import Layout
from search_space.sampling import Rejection, sample

MAX_TRIES = 3

MAX_SAMPLER_ASKS = 10
"""Refused or known draws in a row after which choices are drawn evenly: samplers learn nothing from refusals, and some
(TPE) then propose the same again and again."""

MAX_EMPTY_ASKS = 2000
"""Draws in a row that give no new layout before the space counts as used up."""

_SEED_STEP = 7919
"""A continued study samples with another seed for each trial it has, or it would draw the same again."""


@dataclass(slots=True, kw_only=True)
class Trial:
    """A candidate on its way.

    Attributes:
        number: In its study.
        asked: The sampler's side, or None for one that an earlier run or another process asked for.
        choices: What the sampler chose, as stored.
        at_work: Pools that measure it now.
        lost: Devices that were lost over it, by pool.
        told: Whether the sampler knows its outcome.
    """

    number: int
    layout: Layout
    asked: Asked | None
    choices: Mapping[str, Any]
    at_work: set[str] = field(default_factory=set)
    lost: dict[str, list[str]] = field(default_factory=dict)
    told: bool = False


class Trials:
    """The trials of one study, taken up from the store.

    Args:
        store: Where they are kept.
        study: The study's name.
        settings: Its settings.
        measured: What was measured, loaded.
        pools: Gives the names of the pools whose results count now.
        wanted: Trials that the whole study shall have, or None.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        settings: Settings,
        measured: Measured,
        pools: Callable[[], Collection[str]],
        *,
        wanted: int | None,
    ) -> None:
        self._store = store
        self._study = study
        self._settings = settings
        self._measured = measured
        self._pools = pools
        self._pending: list[Trial] = []
        self._finished: dict[int, Trial] = {}
        self._known = {anchor.layout.layout_id for anchor in settings.anchors}
        records = store.trials(study)
        self._sampler = Sampler(
            settings.sampler,
            directions=[all_objectives()[name].direction for name in settings.objectives],
            seed=settings.seed + _SEED_STEP * len(records),
            population=8 if wanted is None or wanted < 100 else 24,
        )
        self._take_up(records)

    def done(self) -> int:
        """Trials that every pool has measured or found unable to run, so far."""
        pools, of = self._pools(), self._measured.of_trials()
        tried = {
            t.number for t in self._pending if pools and not t.at_work and all((t.number, pool) in of for pool in pools)
        }
        return len(tried.union(self._finished))

    def done_in(self, pool: str) -> int:
        """Trials that one pool has measured or found unable to run, so far."""
        of = self._measured.of_trials()
        return len(self._finished) + sum((t.number, pool) in of and pool not in t.at_work for t in self._pending)

    def begun(self) -> int:
        """Trials that there are."""
        return len(self._finished) + len(self._pending)

    def waiting(self) -> int:
        """Trials that some pool which the ranking needs has yet to measure for the first time."""
        needed, of = self._needed(), self._measured.of_trials()
        return sum(any((t.number, pool) not in of or pool in t.at_work for pool in needed) for t in self._pending)

    def missing(self, pool: str) -> int:
        """Trials of which a pool has no result that counts, or one that another run may find otherwise."""
        of = self._measured.of_trials()
        every = [*self._finished, *(trial.number for trial in self._pending)]
        return sum(not (found := of.get((number, pool))) or _may_change(found) for number in every)

    def tries(self, trial: Trial, pool: str) -> int:
        """How often a pool has measured a trial, as far as it counts."""
        return len(self._measured.of_trials().get((trial.number, pool), ()))

    def unmeasured(self, pool: str) -> Trial | None:
        """The first trial that a pool is to measure, for the first time or again."""
        of = self._measured.of_trials()
        return next(
            (t for t in self._pending if pool not in t.at_work and self._due(of.get((t.number, pool), ()))), None
        )

    def ask(self) -> Trial | None:
        """A new trial, opened in the store; None when the space gives no new layout."""
        for attempt in range(MAX_EMPTY_ASKS):
            asked = self._sampler.ask() if attempt < MAX_SAMPLER_ASKS else self._sampler.ask_at_random()
            layout = sample(self._settings.space, asked)
            trial = None if isinstance(layout, Rejection) else self._open(asked, layout)
            if trial is not None:
                return trial
            self._sampler.refuse(asked)
        return None

    def settle(self) -> int:
        """Tell the sampler of every trial whose outcome is final where it is needed; close those final everywhere.

        Returns:
            How many trials that were closed are open again.
        """
        pools = self._pools()
        if not pools:
            return 0  # all were lost: the next run measures what is open
        reopened = self._reopen()
        judgement, needed, of = self._measured.judgement(), self._needed(), self._measured.of_trials()
        for trial in list(self._pending):
            final = {
                pool for pool in pools
                if pool not in trial.at_work and self._is_final(of.get((trial.number, pool), ()))
            }  # fmt: skip
            if not trial.told and final >= needed:
                trial.told = True
                self._tell(trial)
            if trial.told and final == set(pools):
                self._pending.remove(trial)
                self._finished[trial.number] = trial
                ok = all(_best(of[trial.number, pool], judgement) is not None for pool in pools)
                self._store.set_trial(self._study, trial.number, "done" if ok else "failed")
        return reopened

    def learn_from_others(self) -> None:
        """Take up trials that another process on the same study has finished since."""
        mine = {*self._finished, *(trial.number for trial in self._pending)}
        records = self._store.trials(self._study)
        self._known.update(record.layout_id for record in records)
        theirs = [record for record in records if record.number not in mine and record.state != "open"]
        if theirs:
            self._measured.load()
            self._take_up(theirs)

    def _open(self, asked: Asked, layout: Layout) -> Trial | None:
        """A trial of this layout; None when the study has one already."""
        if layout.layout_id in self._known:
            return None
        self._known.add(layout.layout_id)
        choices = {
            "knobs": {name: [list(options), index] for name, (options, index) in asked.choices.items()},
            "attributes": self._sampler.attributes(asked),
        }
        number = self._store.add_trial(self._study, layout.layout_id, layout.code, layout_json(layout), choices)
        if number is None:
            return None  # another process was faster
        trial = Trial(number=number, layout=layout, asked=asked, choices=choices)
        self._pending.append(trial)
        return trial

    def _take_up(self, records: Collection[TrialRecord]) -> None:
        """Tell the sampler of finished trials; queue those that are open, or new to one of our pools."""
        layouts = load_layouts(self._store, {record.layout_id for record in records})
        of = self._measured.of_trials()
        for record in records:
            self._known.add(record.layout_id)
            trial = Trial(
                number=record.number, layout=layouts[record.layout_id], asked=None, choices=record.choices
            )  # fmt: skip
            due = {pool for pool in self._pools() if self._due(of.get((trial.number, pool), ()))}
            if record.state != "open" and not due & self._needed():
                trial.told = True
                self._tell(trial)
            if record.state == "open" or due:
                self._pending.append(trial)
            else:
                self._finished[trial.number] = trial

    def _needed(self) -> set[str]:
        """Pools that the sampler's values are of: the one that is ranked by, as long as it is there, else all."""
        pools = set(self._pools())
        return {self._settings.across} & pools or pools

    def _reopen(self) -> int:
        """Take up finished trials whose numbers have ceased to count: the device is not what it was."""
        of, pools = self._measured.of_trials(), self._pools()
        due = [
            trial for trial in self._finished.values()
            if any(self._due(of.get((trial.number, pool), ())) for pool in pools)
        ]  # fmt: skip
        for trial in due:
            del self._finished[trial.number]
            self._pending.append(trial)
            self._store.set_trial(self._study, trial.number, "open")
        self._pending.sort(key=lambda trial: trial.number)
        return len(due)

    def _due(self, found: Sequence[Measurement]) -> bool:
        return len(found) < MAX_TRIES and self._outcome(found) == "again"

    def _is_final(self, found: Sequence[Measurement]) -> bool:
        return bool(found) and not self._due(found) and self._outcome(found) != "wait"

    def _outcome(self, found: Sequence[Measurement]) -> Literal["wait", "again", "final"]:
        """``wait`` for the anchor run after it, ``again`` when nothing that was measured counts, else ``final``.

        Args:
            found: What a pool has measured of a trial, as far as it counts, oldest first.
        """
        judgement = self._measured.judgement()
        good = _best(found, judgement)
        if good is not None:
            return "final" if self._settings.watched is None or judgement.drift.closed(good) else "wait"
        if not found or judgement.status(found[-1])[0] in UNSETTLED or self._measured.worth_retrying(found[-1]):
            return "again"
        return "final"

    def _tell(self, trial: Trial) -> None:
        """Tell the sampler a trial's values, or that it has none."""
        rows = self._measured.rows()
        mine = latest_rows(row for row in rows if row["trial"] == trial.number)
        watched = self._settings.watched
        reference = [row for row in rows if row["anchor"] and watched and row["layout_id"] == watched.layout.layout_id]
        lost = unrelated(rows, watched.layout.layout_id if watched else None)
        pools = [pool for pool in self._pools() if pool not in lost]
        across = self._settings.across
        if across not in ACROSS and across not in pools:
            across = ACROSS[0]  # the device that was to count is lost
        values = study_values(
            mine, self._settings.objectives, pools, across=across, reference=latest_rows(reference)
        )  # fmt: skip
        if values is None:
            if trial.asked is not None:
                self._sampler.refuse(trial.asked)
            return
        violations = {str(budget): violation_of(budget, mine) for budget in self._settings.budgets}
        if trial.asked is not None:
            self._sampler.tell(trial.asked, values, violations)
        else:
            knobs = {name: (options, index) for name, (options, index) in trial.choices["knobs"].items()}
            self._sampler.replay(knobs, trial.choices["attributes"], values, violations)


def _best(found: Sequence[Measurement], judgement: Judgement) -> Measurement | None:
    """The last that is ok, everything considered."""
    return next((m for m in reversed(found) if judgement.status(m)[0] == "ok"), None)


def _may_change(found: Sequence[Measurement]) -> bool:
    return found[-1].status == "failed" and len(found) < MAX_TRIES
