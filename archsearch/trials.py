"""The candidates of a study: drawn, waiting for their outcome, final and told to the sampler.

A trial is *open* in the store until its outcome is final. An outcome waits for the run of the watched anchor that ends
its stretch of work; a trial that the device moved under is measured again, at most `MAX_TRIES` times in all. Open
trials of an earlier run are taken up where they were; what other processes finish is learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archsearch.measured import Measured
from archsearch.measurement import UNSETTLED, Drift
from archsearch.objectives import objectives as all_objectives
from archsearch.outcomes import latest_rows, study_values, violation_of
from archsearch.records import layout_json, load_layouts
from archsearch.sampling import Asked, Sampler
from archsearch.store import Store, TrialRecord
from archsearch.study_settings import Settings
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
        tries: Times it was measured on some device.
    """

    number: int
    layout: Layout
    asked: Asked | None
    choices: Mapping[str, Any]
    tries: int = 0


class Trials:
    """The trials of one study, taken up from the store.

    Args:
        store: Where they are kept.
        study: The study's name.
        settings: Its settings.
        measured: What was measured, loaded.
        devices: Gives the names of the devices whose results count now.
        wanted: Trials that the whole study shall have, or None.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        settings: Settings,
        measured: Measured,
        devices: Callable[[], Collection[str]],
        *,
        wanted: int | None,
    ) -> None:
        self._store = store
        self._study = study
        self._settings = settings
        self._measured = measured
        self._devices = devices
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
        """Trials that were measured or found unable to run, so far."""
        return len(self._finished | {trial.number for trial in self._pending if trial.tries})

    def unmeasured(self) -> Trial | None:
        """The first trial that is to be measured, for the first time or again."""
        drift = self._measured.drift()
        return next((t for t in self._pending if t.tries == 0 or self._again(t, drift)), None)

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
        """Tell the sampler of every trial whose outcome is final."""
        if not self._devices():
            return  # all were lost: the next run measures what is open
        drift = self._measured.drift()
        for trial in list(self._pending):
            if trial.tries == 0 or self._outcome(trial, drift) == "wait" or self._again(trial, drift):
                continue
            self._pending.remove(trial)
            self._finished.add(trial.number)
            told = self._tell(trial)
            self._store.set_trial(self._study, trial.number, "done" if told else "failed")

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
        """Tell the sampler of finished trials, put open ones back in the queue."""
        layouts = load_layouts(self._store, {record.layout_id for record in records})
        for record in records:
            self._known.add(record.layout_id)
            trial = Trial(
                number=record.number, layout=layouts[record.layout_id], asked=None, choices=record.choices
            )  # fmt: skip
            if record.state == "open":
                trial.tries = sum(m.trial == trial.number for m in self._measured)
                self._pending.append(trial)
            else:
                self._finished.add(trial.number)
                self._tell(trial)

    def _again(self, trial: Trial, drift: Drift) -> bool:
        return trial.tries < MAX_TRIES and self._outcome(trial, drift) == "again"

    def _outcome(self, trial: Trial, drift: Drift) -> Literal["wait", "again", "final"]:
        """``wait`` for the anchor run after it, ``again`` when the device moved under it, else ``final``."""
        latest = self._measured.latest_of(trial.number)
        wait = False
        for name in self._devices():
            found = latest.get(name)
            if found is None or found.status in UNSETTLED:
                return "again"
            if found.status == "ok" and self._settings.watched is not None:
                if drift.status(found)[0] != "ok":
                    return "again"
                wait = wait or not drift.closed(found)
        return "wait" if wait else "final"

    def _tell(self, trial: Trial) -> bool:
        """Tell the sampler a trial's values; False when it has none."""
        mine = latest_rows(row for row in self._measured.rows() if row["trial"] == trial.number)
        values = study_values(mine, self._settings.objectives, self._devices())
        if values is None:
            if trial.asked is not None:
                self._sampler.refuse(trial.asked)
            return False
        violations = {str(budget): violation_of(budget, mine) for budget in self._settings.budgets}
        if trial.asked is not None:
            self._sampler.tell(trial.asked, values, violations)
        else:
            knobs = {name: (options, index) for name, (options, index) in trial.choices["knobs"].items()}
            self._sampler.replay(knobs, trial.choices["attributes"], values, violations)
        return True
