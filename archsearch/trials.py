"""The candidates of a study: drawn, waiting for their outcome, final and told to the sampler.

Every pool (a device, or a group of like ones) measures every trial, in its own time. An outcome waits for the run of
the watched anchor that ends its stretch of work; a trial that the device moved under is measured again, at most
`MAX_TRIES` times in all. The sampler is told once the pools that the ranking needs have answered. A trial is *open* in
the store until all have. Open trials of an earlier run are taken up where they were; what other processes finish is
learned from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from archsearch.measured import Measured
from archsearch.measurement import UNSETTLED, Drift
from archsearch.objectives import objectives as all_objectives
from archsearch.outcomes import latest_rows, study_values, violation_of
from archsearch.records import layout_json, load_layouts
from archsearch.sampling import Asked, Sampler
from archsearch.store import Store, TrialRecord
from archsearch.study_settings import Settings
from reports.ranking import ACROSS
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
        tries: Times it was measured, by pool.
        at_work: Pools that measure it now.
        told: Whether the sampler knows its outcome.
    """

    number: int
    layout: Layout
    asked: Asked | None
    choices: Mapping[str, Any]
    tries: Counter[str] = field(default_factory=Counter)
    at_work: set[str] = field(default_factory=set)
    told: bool = False

    def begin(self, pool: str) -> None:
        """A pool begins to measure it."""
        self.tries[pool] += 1
        self.at_work.add(pool)


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
        self._finished: set[int] = set()
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
        pools = self._pools()
        tried = {t.number for t in self._pending if pools and not t.at_work and all(t.tries[pool] for pool in pools)}
        return len(self._finished | tried)

    def done_in(self, pool: str) -> int:
        """Trials that one pool has measured or found unable to run, so far."""
        return len(self._finished) + sum(bool(t.tries[pool]) and pool not in t.at_work for t in self._pending)

    def begun(self) -> int:
        """Trials that there are."""
        return len(self._finished) + len(self._pending)

    def waiting(self) -> int:
        """Trials that some pool which the ranking needs has yet to measure for the first time."""
        needed = self._needed()
        return sum(any(not t.tries[pool] or pool in t.at_work for pool in needed) for t in self._pending)

    def unmeasured(self, pool: str) -> Trial | None:
        """The first trial that a pool is to measure, for the first time or again."""
        drift = self._measured.drift()
        return next((t for t in self._pending if pool not in t.at_work and self._due(t, pool, drift)), None)

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

    def settle(self) -> None:
        """Tell the sampler of every trial whose outcome is final where it is needed; close those final everywhere."""
        pools = self._pools()
        if not pools:
            return  # all were lost: the next run measures what is open
        drift, needed = self._measured.drift(), self._needed()
        for trial in list(self._pending):
            final = {pool for pool in pools if self._is_final(trial, pool, drift)}
            if not trial.told and final >= needed:
                trial.told = True
                self._tell(trial)
            if trial.told and final == set(pools):
                self._pending.remove(trial)
                self._finished.add(trial.number)
                latest = self._measured.latest_of(trial.number)
                ok = all(drift.status(latest[pool])[0] == "ok" for pool in pools)
                self._store.set_trial(self._study, trial.number, "done" if ok else "failed")

    def learn_from_others(self) -> None:
        """Take up trials that another process on the same study has finished since."""
        mine = self._finished | {trial.number for trial in self._pending}
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
        tries: dict[int | None, Counter[str]] = {}
        for m in self._measured:
            tries.setdefault(m.trial, Counter())[m.pool] += 1
        for record in records:
            self._known.add(record.layout_id)
            trial = Trial(
                number=record.number, layout=layouts[record.layout_id], asked=None, choices=record.choices
            )  # fmt: skip
            trial.tries = tries.get(trial.number, Counter())
            if record.state != "open":
                trial.told = True
                self._tell(trial)
            if record.state == "open" or any(not trial.tries[pool] for pool in self._pools()):
                self._pending.append(trial)
            else:
                self._finished.add(trial.number)

    def _needed(self) -> set[str]:
        """Pools that the sampler's values are of: the one that is ranked by, as long as it is there, else all."""
        pools = set(self._pools())
        return {self._settings.across} & pools or pools

    def _due(self, trial: Trial, pool: str, drift: Drift) -> bool:
        return not trial.tries[pool] or (trial.tries[pool] < MAX_TRIES and self._outcome(trial, pool, drift) == "again")

    def _is_final(self, trial: Trial, pool: str, drift: Drift) -> bool:
        if pool in trial.at_work or self._due(trial, pool, drift):
            return False
        return self._outcome(trial, pool, drift) != "wait"

    def _outcome(self, trial: Trial, pool: str, drift: Drift) -> Literal["wait", "again", "final"]:
        """``wait`` for the anchor run after it, ``again`` when the device moved under it, else ``final``."""
        found = self._measured.latest_of(trial.number).get(pool)
        if found is None or found.status in UNSETTLED:
            return "again"
        if found.status != "ok" or self._settings.watched is None:
            return "final"
        if drift.status(found)[0] != "ok":
            return "again"
        return "final" if drift.closed(found) else "wait"

    def _tell(self, trial: Trial) -> None:
        """Tell the sampler a trial's values, or that it has none."""
        rows = self._measured.rows()
        mine = latest_rows(row for row in rows if row["trial"] == trial.number)
        watched = self._settings.watched
        reference = [row for row in rows if row["anchor"] and watched and row["layout_id"] == watched.layout.layout_id]
        pools = self._pools()
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
