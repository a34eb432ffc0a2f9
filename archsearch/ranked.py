"""A stored study, ranked: what `show`, the report and the dashboard all read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from archsearch.judging import Judgement
from archsearch.left_out import left_out
from archsearch.measurement import Measurement
from archsearch.pauses import no_collection
from archsearch.records import load_measurements
from archsearch.store import Store
from archsearch.table import rows
from archsearch.timing import POOLS, RUN_STARTED
from reports.budgets import Budget, parse_budgets
from reports.objectives import quantity
from reports.ranking import Ranking, rank
from reports.values import ACROSS, Row
from search_space.layout_file import parse_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study has measured, judged.

    Attributes:
        name: Its name.
        config: Its settings, as stored.
        measurements: All of it, in the order they were stored.
        judgement: What they are worth.
        rows: The same as a table.
        reference: Layout id of the anchor that values are relative to; None where it was not measured.
        version: What `Store.version` said before it was read.
    """

    name: str
    config: Mapping[str, Any]
    measurements: Sequence[Measurement]
    judgement: Judgement
    rows: Sequence[Row]
    reference: str | None
    version: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A study's ranking over all its devices, or over one; made when it is first asked for.

    Attributes:
        study: What was ranked.
        asked: How devices were to be combined.
        across: How they were: as asked for, or ``worst`` where that device has measured nothing.
        left_out: Devices and groups that were not ranked by, with the reason.
        objectives: Names.
        budgets: Limits.
    """

    study: Study
    asked: str
    across: str
    left_out: Mapping[str, str]
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...]

    @cached_property
    def ranking(self) -> Ranking:
        """The ranking."""
        with no_collection():
            return rank(self.counted, self.objectives, self.budgets, across=self.across, reference=self.study.reference)

    @property
    def counted(self) -> list[Row]:
        """Rows of the devices that count."""
        return [row for row in self.study.rows if row["device"] not in self.left_out]

    def beside(self) -> list[dict[str, Any]]:
        """Rows of those that do not, as the ranking's table would have them."""
        places = ("rank", "front", "tier", "feasible", "violation", "hv_contribution")
        return [
            {**dict.fromkeys(places), **row, "reason": row["reason"] or f"not ranked: {self.left_out[row['device']]}"}
            for row in self.study.rows if row["device"] in self.left_out
        ]  # fmt: skip

    def odd(self, pool: str) -> bool:
        """Whether what a device or group measured is not to be believed, rather than missing."""
        judgement = self.study.judgement
        devices = {m.device for m in self.study.measurements if m.pool == pool}
        return devices <= judgement.unlike.keys() | judgement.wrong.keys()


def read_study(database: Store, name: str, before: Study | None = None) -> Study:
    """Read and judge a study that exists.

    Args:
        database: Where it is.
        name: Its name.
        before: The same as it was read a while ago: given back when nothing was added since; else only what was added
            is read, and all is judged anew, since one more measurement may say something of those before it.

    Raises:
        StoreError: It cannot be read.
    """
    version = database.version(name)
    if before is not None and before.version == version:
        return before
    record = database.study(name)
    assert record is not None
    anchors = [parse_layout(dict(anchor)).layout.layout_id for anchor in record.config.get("anchors", ())]
    with no_collection():
        measurements = load_measurements(database, name, known=() if before is None else before.measurements)
        judgement = Judgement(measurements, anchors[0] if anchors else None)
        measured = rows(measurements, judgement)
    known = bool(anchors) and any(row["layout_id"] == anchors[0] for row in measured)
    return Study(
        name=name, config=record.config, measurements=measurements, judgement=judgement, rows=measured,
        reference=anchors[0] if known else None, version=version,
    )  # fmt: skip


def ranked(
    database: Store,
    study: Study,
    *,
    objectives: Sequence[str] | None = None,
    budgets: Sequence[str] | None = None,
    across: str | None = None,
) -> Ranked:
    """Rank a study by its own objectives and budgets, or others.

    Raises:
        UnknownNameError: An objective or `across` is not known.
        BudgetError: A budget cannot be read.
    """
    names = tuple(objectives or study.config["objectives"])
    limits = parse_budgets(budgets if budgets else study.config["budgets"])
    way = asked = across or study.config["across"]
    if way not in ACROSS and _is_absent(way, study, database):
        way = ACROSS[0]
    doubtful: Mapping[str, str] = {}
    if way in ACROSS:
        doubtful = left_out(database, study.name, study.measurements, study.rows, study.judgement, study.reference)
    for name in names:
        quantity(name)
    return Ranked(
        study=study, asked=asked, across=way, left_out=doubtful, objectives=names, budgets=tuple(limits),
    )  # fmt: skip


def _is_absent(pool: str, study: Study, database: Store) -> bool:
    """Whether a pool is of the study (its own way across, or in a run of it) and has no row in it."""
    if any(pool in (row["device"], row["unit"]) for row in study.rows):
        return False
    begun = (known for _, _, run in database.events(study.name, RUN_STARTED) for known in run.get(POOLS, {}).values())
    return pool == study.config["across"] or pool in begun
