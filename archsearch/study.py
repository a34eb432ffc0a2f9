"""The study loop: anchors first, then ask, measure, tell, until the trials or the time are used up.

Every few candidates the first anchor is measured again. Two runs of it that differ by more than the drift limit throw the
candidates between them away (status `throttled`); they are measured again, at most `MAX_TRIES` times in all.
The sampler hears of a candidate when the anchor run after it is known.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import Any

from archsearch.candidates import prepare
from archsearch.errors import StudyError
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH, Drift, Measurement, rows
from archsearch.measuring import Interrupted, Measurer, Outcome, Subject
from archsearch.objectives import objectives as all_objectives
from archsearch.progress import Progress, duration
from archsearch.records import from_record
from archsearch.sampling import Asked, Sampler
from archsearch.store import Store, TrialRecord
from profiler.errors import AgentDied, ProfilerError
from profiler.jobs import Protocol
from profiler.workloads import Workload
from reports.fronts import Budget
from search_space.cost import parameters, state_bytes
from search_space.graph.precision import PrecisionName
from search_space.layout import Layout
from search_space.layout_file import NamedLayout
from search_space.sampling import Rejection, sample
from search_space.space import Space

MAX_TRIES = 3
WATCH_EVERY = 4
"""Candidates between two runs of the watched anchor."""

MAX_EMPTY_ASKS = 2000
"""Draws in a row that give no new layout before the space counts as used up."""

CANDIDATE_PROTOCOL = Protocol(min_processes=3, max_processes=4, min_repeats=2, max_repeats=4, time_budget_s=12.0)
WATCH_PROTOCOL = Protocol(min_processes=2, max_processes=2, min_repeats=3, max_repeats=3, memory_pass=False)


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


@dataclass(slots=True)
class _Open:
    """A trial whose outcome is not told yet."""

    asked: Asked
    number: int
    layout: Layout
    tries: int = 1
